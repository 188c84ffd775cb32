//! Runs that the kernel skipped, since the same program was active on that CPU already (`recursion_misses` of `struct bpf_prog_info`).
//! In: loaded programs. Out: how many runs, each counted once. An event of such a run is in no ring and in no other count.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use aya::Ebpf;

pub(crate) struct Skipped {
    programs: Vec<OwnedFd>,
    before: u64,
}

impl Skipped {
    /// Of those programs of an object that are loaded by now.
    pub(crate) fn of(loaded: &Ebpf) -> Skipped {
        let fd = |program: &aya::programs::Program| program.fd().ok()?.as_fd().try_clone_to_owned().ok();
        Skipped { programs: loaded.programs().filter_map(|(_, program)| fd(program)).collect(), before: 0 }
    }

    /// Runs skipped since the last time.
    pub(crate) fn since(&mut self) -> u64 {
        let total = self.programs.iter().filter_map(misses).sum();
        total - std::mem::replace(&mut self.before, total).min(total)
    }
}

/// The kernel writes it into what it says of a descriptor (`bpf_prog_show_fdinfo`).
fn misses(program: &OwnedFd) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("recursion_misses:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reason;

    #[test]
    fn the_kernel_counts_for_every_program_of_the_objects() {
        let skipped = match (
            crate::processes::Processes::start(),
            crate::sockets::Sockets::start(),
            crate::tls::start(),
        ) {
            (Ok(processes), Ok(sockets), Ok(tls)) => (processes, sockets, tls),
            (processes, sockets, tls) => {
                let reasons = [processes.err(), sockets.err(), tls.err()];
                let is_refused = |reason: Reason| matches!(reason, Reason::NotPermitted);
                assert!(
                    reasons.into_iter().flatten().all(is_refused),
                    "loading failed, and not for want of rights"
                );
                return println!("skipped: BPF programs need root");
            }
        };
        let (processes, sockets, (_probes, plaintext)) = &skipped;
        for (name, of, programs) in [
            ("processes", &processes.skipped, 3),
            ("sockets", &sockets.skipped, 7),
            ("tls", &plaintext.skipped, 9),
        ] {
            let counts: Vec<Option<u64>> = of.programs.iter().map(misses).collect();
            assert_eq!(counts.len(), programs, "{name}");
            assert!(counts.iter().all(Option::is_some), "{name}: {counts:?}");
        }
    }
}
