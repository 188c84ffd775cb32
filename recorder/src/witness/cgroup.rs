//! Which container and pod a cgroup belongs to, by its path: version 1, version 2 and both at once, as the kubelet, containerd,
//! CRI-O, Docker and Podman name them, by cgroupfs and by systemd.
//! In: /proc/PID/cgroup, or a cgroup's id. Out: its path, container id and pod uid. A path that says nothing gives nothing.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is known of a process's cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    pub path: String,
    pub container_id: Option<String>,
    pub pod_uid: Option<String>,
}

impl Membership {
    pub fn of_path(path: &str) -> Membership {
        let parts: Vec<&str> = path.split('/').collect();
        let pod = parts.iter().enumerate().rev().find_map(|(at, part)| Some((at, pod_uid(part)?)));
        // Behind the pod comes its container, whatever it starts inside itself; without a pod the innermost counts.
        let container_id = match &pod {
            Some((at, _)) => parts[*at..].iter().find_map(|part| container_id(part)),
            None => parts.iter().rev().find_map(|part| container_id(part)),
        };
        Membership { path: path.to_owned(), container_id, pod_uid: pod.map(|(_, uid)| uid) }
    }

    /// From the lines `hierarchy:controllers:path` of /proc/PID/cgroup. Of the hierarchies the one that names a container is
    /// taken, version 2 first: in a hybrid set-up that is often the root for everybody.
    pub fn of_process(text: &str) -> Membership {
        let rank = |controllers: &str| match controllers {
            "" => 0,
            "name=systemd" => 1,
            "memory" => 2,
            "pids" => 3,
            _ => 4,
        };
        let mut found: Vec<(bool, bool, i32, Membership)> = text
            .lines()
            .filter_map(|line| {
                let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
                // Of a cgroup that was removed under a process that still runs.
                let of = Membership::of_path(path.trim_end_matches(" (deleted)"));
                Some((of.container_id.is_none(), of.path == "/", rank(controllers), of))
            })
            .collect();
        found.sort_by_key(|a| (a.0, a.1, a.2));
        found.into_iter().next().map(|(.., of)| of).unwrap_or_default()
    }
}

/// `pod<uid>`, `kubepods-burstable-pod<uid>.slice`, and the latter in front of `:cri-containerd:<id>`.
fn pod_uid(part: &str) -> Option<String> {
    let slice = part.split(':').next().unwrap_or(part);
    let name = slice.strip_suffix(".slice").unwrap_or(slice);
    let uid = name.strip_prefix("pod").or_else(|| {
        let (before, uid) = name.rsplit_once("-pod")?;
        // In a node that is itself a container, "kubelet-" comes before.
        before.contains("kubepods").then_some(uid)
    })?;
    // systemd reserves the dash, so the kubelet writes underscores there.
    let uid = uid.replace('_', "-");
    let is_uuid = uid.len() == 36 && uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    // A static pod has the hash of its manifest for a uid.
    let is_hash = uid.len() == 32 && uid.bytes().all(|b| b.is_ascii_hexdigit());
    (is_uuid || is_hash).then_some(uid)
}

/// `<id>`, `cri-containerd-<id>.scope`, `crio-<id>.scope`, `docker-<id>.scope`, `libpod-<id>.scope`, `…:cri-containerd:<id>`.
fn container_id(part: &str) -> Option<String> {
    let name = part.strip_suffix(".scope").unwrap_or(part);
    // The monitor beside a container is not the container.
    if name.contains("conmon") {
        return None;
    }
    let id = name.rsplit([':', '-']).next()?;
    (id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_owned())
}

/// Paths of cgroups of version 2 by id, which is the inode of their directory.
pub struct Groups {
    root: Option<PathBuf>,
    paths: HashMap<u64, String>,
    walked: Option<Instant>,
}

/// Between two walks over all cgroups.
const WALK: Duration = Duration::from_secs(1);

impl Groups {
    pub fn new() -> Groups {
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(PathBuf::from);
        let root = roots.into_iter().find(|root| root.join("cgroup.controllers").exists());
        Groups { root, paths: HashMap::new(), walked: None }
    }

    /// None for one that is gone before anybody looked.
    pub fn path(&mut self, id: u64) -> Option<&str> {
        let due = self.walked.is_none_or(|walked| walked.elapsed() > WALK);
        if !self.paths.contains_key(&id) && due {
            self.walked = Some(Instant::now());
            if let Some(root) = self.root.clone() {
                self.paths.retain(|_, path| root.join(path.trim_start_matches('/')).exists());
                self.walk(&root, "/");
            }
        }
        self.paths.get(&id).map(String::as_str)
    }

    fn walk(&mut self, dir: &Path, name: &str) {
        if let Ok(meta) = fs::metadata(dir) {
            self.paths.insert(meta.ino(), name.to_owned());
        }
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let below = format!("{}/{}", name.trim_end_matches('/'), entry.file_name().to_string_lossy());
                self.walk(&entry.path(), &below);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4a1f0e3e2bd5c1d88a0c9d3f6f2e5b7a9c8d7e6f5a4b3c2d1e0f9a8b7c6d5e4f";
    const UID: &str = "0f2c6b1e-5a77-4c8e-9b0d-3f1d2a4b5c6d";

    fn of(path: &str) -> (Option<String>, Option<String>) {
        let path = path.replace("UID", UID).replace("ID", ID);
        let of = Membership::of_path(&path);
        (of.pod_uid, of.container_id)
    }

    #[test]
    fn paths_of_every_runtime() {
        let (pod, container) = (Some(UID.to_owned()), Some(ID.to_owned()));
        let slice = format!("kubepods-besteffort-pod{}.slice", UID.replace('-', "_"));
        for path in [
            "/kubepods/burstable/podUID/ID",
            "/kubepods/podUID/ID",
            "/kubepods/besteffort/podUID/ID/system.slice/nginx.service",
            &format!("/kubepods.slice/kubepods-besteffort.slice/{slice}/cri-containerd-ID.scope"),
            &format!("/kubepods.slice/kubepods-besteffort.slice/{slice}/crio-ID.scope"),
            &format!("/kubepods.slice/kubepods-besteffort.slice/{slice}/docker-ID.scope/init.scope"),
            &format!("/kubelet.slice/kubelet-kubepods.slice/kubelet-{slice}/cri-containerd-ID.scope"),
            &format!("/system.slice/containerd.service/{slice}:cri-containerd:ID"),
            // A node that is itself a container, and a container that runs others.
            &format!("/docker/{}/kubelet/kubepods/burstable/podUID/ID", "b".repeat(64)),
            &format!("/kubepods/burstable/podUID/ID/docker/{}", "c".repeat(64)),
        ] {
            assert_eq!(of(path), (pod.clone(), container.clone()), "{path}");
        }
        for path in [
            "/docker/ID",
            "/system.slice/docker-ID.scope",
            "/machine.slice/libpod-ID.scope",
            "/lxc/x/docker/ID",
        ] {
            assert_eq!(of(path), (None, container.clone()), "{path}");
        }
        assert_eq!(of("/kubepods/burstable/podUID"), (pod.clone(), None));
        assert_eq!(of(&format!("/kubepods.slice/{slice}/crio-conmon-ID.scope")), (pod, None), "a monitor");
        let hash = "d41d8cd98f00b204e9800998ecf8427e";
        assert_eq!(of(&format!("/kubepods/pod{hash}/ID")), (Some(hash.to_owned()), container));
        for path in
            ["/", "", "/user.slice/user-0.slice/session-3.scope", "/system.slice/podman.service", "/podx/y"]
        {
            assert_eq!(of(path), (None, None), "{path}");
        }
    }

    #[test]
    fn lines_of_both_versions() {
        let container = format!("/kubepods/podUID/{ID}").replace("UID", UID);
        let of = |text: &str| Membership::of_process(&text.replace("PATH", &container));
        for text in [
            "0::PATH\n",
            "12:pids:PATH\n11:memory:PATH\n1:name=systemd:PATH\n",
            "12:pids:PATH\n1:name=systemd:/system.slice/kubelet.service\n0::/\n",
            "5:cpu,cpuacct:PATH\n0::/\n",
            "0::PATH (deleted)\n",
        ] {
            assert_eq!(of(text).container_id.as_deref(), Some(ID), "{text}");
            assert_eq!(of(text).path, container);
        }
        assert_eq!(of("1:name=systemd:/system.slice/ssh.service\n0::/\n").path, "/system.slice/ssh.service");
        assert_eq!(of("0::/\n").path, "/");
        assert_eq!(of("nonsense"), Membership::default());
    }

    #[test]
    fn a_real_cgroup_has_its_path_by_id() {
        let mut groups = Groups::new();
        let Some(root) = groups.root.clone() else { return println!("skipped: no cgroup version 2 here") };
        assert_eq!(groups.path(fs::metadata(&root).unwrap().ino()), Some("/"));
        assert_eq!(groups.path(u64::MAX), None);
    }
}
