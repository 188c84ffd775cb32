//! Finds the libraries that encrypt, in the memory maps of all processes. In: /proc. Out: functions that are watched, and for each
//! library or executable that cannot be, the reason.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use shark_bpf::tls::{Attached, Tls};
use shark_schema::identity::{Fact, Feature, OffCause};

use super::Known;
use super::mapped::Mapped;
use crate::log::Log;

const LIST: Duration = Duration::from_millis(250);
/// A new process is looked at again: it maps its libraries after it became another program.
const AGAIN: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(8)];
const EVERY: Duration = Duration::from_secs(30);
/// After this time without a process that maps it, a file is let go.
const FORGET: Duration = Duration::from_secs(90);
/// Files that are remembered, and of an executable the bytes that are searched.
const MOST_FILES: usize = 4096;
const MOST_SEARCHED_BYTES: u64 = 256 << 20;

/// Libraries that encrypt and are not OpenSSL, by the start of their name.
const OTHERS: [(&str, &str); 4] = [
    ("libgnutls.so", "GnuTLS"),
    ("libmbedtls.so", "Mbed TLS"),
    ("libwolfssl.so", "wolfSSL"),
    ("libnss3.so", "NSS"),
];

/// What an executable contains that brings its own: names of source files and functions survive stripping.
const STATIC: [(&str, &str, bool); 4] = [
    ("ssl/ssl_lib.cc", "BoringSSL", true),
    ("ssl/ssl_lib.c\0", "OpenSSL", true),
    ("crypto/tls.(*Conn).Write", "Go's crypto/tls", false),
    ("/rustls-0.", "rustls", false),
];

pub struct Libraries {
    known: Known,
    log: Arc<Log>,
    files: HashMap<String, Seen>,
    processes: HashMap<u32, Process>,
    listed: Option<Instant>,
}

struct Seen {
    at: Instant,
    name: String,
    attached: Option<Attached>,
    is_reported: bool,
}

struct Process {
    since: Instant,
    looks: usize,
    next: Instant,
}

impl Libraries {
    pub fn new(known: Known, log: Arc<Log>) -> Libraries {
        Libraries { known, log, files: HashMap::new(), processes: HashMap::new(), listed: None }
    }

    /// Looks at those processes whose time has come; most times there is none.
    pub fn look(&mut self, tls: &mut Tls) {
        let now = Instant::now();
        if self.listed.is_none_or(|at| now - at >= LIST) {
            self.listed = Some(now);
            self.list(now);
            self.forget(tls, now);
        }
        let due: Vec<u32> =
            self.processes.iter().filter(|(_, of)| of.next <= now).map(|(pid, _)| *pid).collect();
        for pid in due {
            self.look_at(tls, pid, now);
            if let Some(process) = self.processes.get_mut(&pid) {
                let again = AGAIN.get(process.looks).map(|after| process.since + *after);
                process.next = again.unwrap_or(now + EVERY);
                process.looks += 1;
            }
        }
    }

    fn list(&mut self, now: Instant) {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids: HashSet<u32> =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        self.processes.retain(|pid, _| pids.contains(pid));
        for pid in pids.into_iter().filter(|pid| *pid != std::process::id()) {
            self.processes.entry(pid).or_insert(Process { since: now, looks: 0, next: now });
        }
    }

    fn look_at(&mut self, tls: &mut Tls, pid: u32, now: Instant) {
        let executable = fs::read_link(format!("/proc/{pid}/exe"));
        let executable = executable.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        let mut has_library = false;
        let mut own = None;
        for mapped in Mapped::of(pid) {
            if mapped.is_openssl() {
                has_library = true;
                self.meet(pid, mapped, now, |file| attach(tls, file, "OpenSSL"));
            } else if let Some((_, what)) = OTHERS.iter().find(|(start, _)| mapped.name().starts_with(start))
            {
                self.meet(pid, mapped, now, |_| Some(Err(format!("{what} is not OpenSSL"))));
            } else if mapped.path == executable {
                own = Some(mapped);
            }
        }
        // What uses the library of others seldom brings one of its own, and large files take time.
        if let Some(own) = own.filter(|_| !has_library) {
            self.meet(pid, own, now, |file| examine(tls, file));
        }
    }

    /// `what` is asked once a file: None for one that has nothing to do with TLS.
    fn meet(
        &mut self,
        pid: u32,
        mapped: Mapped,
        now: Instant,
        what: impl FnOnce(&File) -> Option<Result<Attached, String>>,
    ) {
        if let Some(seen) = self.files.get_mut(&mapped.id) {
            seen.at = now;
            return;
        }
        if self.files.len() >= MOST_FILES {
            return;
        }
        // Gone again: another process will have it.
        let Ok(file) = mapped.open(pid) else { return };
        let result = what(&file);
        let name = format!("tls_library {} ({})", mapped.path, mapped.id);
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let of = format!("first seen in process {pid} ({})", comm.trim_end());
        let is_reported = result.is_some();
        let attached = match result {
            Some(Ok(attached)) => {
                self.report(&name, None, format!("plaintext is read; {of}"));
                Some(attached)
            }
            Some(Err(why)) => {
                self.report(&name, Some(OffCause::Unreadable), format!("{why}; {of}"));
                None
            }
            None => None,
        };
        self.files.insert(mapped.id, Seen { at: now, name, attached, is_reported });
    }

    /// Without a cause to be off it is on.
    fn report(&self, name: &str, cause: Option<OffCause>, why: String) {
        let feature = Feature { name: name.to_owned(), on: cause.is_none(), cause, why };
        let mut known = self.known.lock().unwrap_or_else(|e| e.into_inner());
        known.retain(|of| of.name != name);
        known.push(feature.clone());
        drop(known);
        self.log.write(Fact::Feature(feature));
    }

    /// A watched file is held, also after it was deleted: those that nobody runs any more are let go.
    fn forget(&mut self, tls: &mut Tls, now: Instant) {
        let old: Vec<String> =
            self.files.iter().filter(|(_, of)| now - of.at >= FORGET).map(|(id, _)| id.clone()).collect();
        for id in old {
            let Some(seen) = self.files.remove(&id) else { continue };
            if let Some(attached) = seen.attached {
                tls.detach(attached);
            }
            if seen.is_reported {
                self.report(&seen.name, Some(OffCause::Unused), "no process runs it any more".to_owned());
                self.known.lock().unwrap_or_else(|e| e.into_inner()).retain(|of| of.name != seen.name);
            }
        }
    }
}

fn attach(tls: &mut Tls, file: &File, what: &str) -> Option<Result<Attached, String>> {
    Some(tls.attach(file).map_err(|error| format!("{what}: {error}")))
}

/// An executable without a library: whether it brings one of its own.
fn examine(tls: &mut Tls, file: &File) -> Option<Result<Attached, String>> {
    let at = search(file).ok().flatten()?;
    let (_, what, has_functions) = STATIC[at];
    match has_functions {
        true => attach(tls, file, &format!("statically linked {what}")),
        false => Some(Err(format!("{what} is not OpenSSL"))),
    }
}

/// Which of [`STATIC`] a file contains.
fn search(file: &File) -> io::Result<Option<usize>> {
    let finders = STATIC.map(|(text, _, _)| memchr::memmem::Finder::new(text));
    let longest = STATIC.iter().map(|(text, _, _)| text.len()).max().unwrap_or(0);
    let mut file = file.take(MOST_SEARCHED_BYTES);
    let mut window = vec![0; 1 << 20];
    let mut kept = 0;
    loop {
        let got = file.read(&mut window[kept..])?;
        if got == 0 {
            return Ok(None);
        }
        let filled = kept + got;
        let found = finders.iter().position(|finder| finder.find(&window[..filled]).is_some());
        if found.is_some() {
            return Ok(found);
        }
        // What begins at the end of one window goes on in the next.
        kept = filled.min(longest);
        window.copy_within(filled - kept..filled, 0);
    }
}
