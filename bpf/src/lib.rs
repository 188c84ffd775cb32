//! BPF programs of the recorder and what loads them: one object a feature, so that one that cannot run takes no other along.
//! In: the kernel's permission. Out: loaded programs with their maps, or the reason why not.
//! Nothing here reads packets or blocks.

pub mod any_socket;
mod events;
pub mod mappings;
pub mod processes;
mod skipped;
pub mod sockets;
mod symbols;
pub mod tls;

use aya::programs::{BtfTracePoint, Program, ProgramError};
use aya::{Btf, Ebpf};

/// Why a feature cannot be used here; said to a person, who can do something about it.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    #[error(
        "loading BPF programs is not permitted: run as root or give CAP_BPF, with CAP_NET_RAW for packets, CAP_PERFMON for sockets and processes"
    )]
    NotPermitted,
    #[error("this kernel has no BPF, or not the part that is needed: {0}")]
    Unsupported(String),
    #[error("the BPF program was refused: {0}")]
    Refused(String),
}

/// A program of an object, as what it is.
fn program<'a, T>(loaded: &'a mut Ebpf, name: &str) -> Result<&'a mut T, Reason>
where
    &'a mut T: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let found = loaded.program_mut(name).ok_or_else(|| Reason::missing(name))?;
    found.try_into().map_err(|error| Reason::of(&error))
}

fn attach_tracepoint(loaded: &mut Ebpf, btf: &Btf, name: &str, tracepoint: &str) -> Result<(), Reason> {
    let found: &mut BtfTracePoint = program(loaded, name)?;
    found.load(tracepoint, btf).map_err(|error| Reason::of(&error))?;
    found.attach().map(drop).map_err(|error| Reason::of(&error))
}

/// The verifier tells every step it took; what it ended with is the reason.
fn shortened(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    match &lines[..] {
        [first, .., reason, _, _, _, last] => format!("{first} … {reason} … {last}"),
        _ => text.to_owned(),
    }
}

impl Reason {
    fn missing(name: &str) -> Reason {
        Reason::Refused(format!("the object has no '{name}'"))
    }

    fn of(error: &(dyn std::error::Error + 'static)) -> Reason {
        let mut texts = Vec::new();
        let mut errno = None;
        let mut next = Some(error);
        while let Some(cause) = next {
            texts.push(cause.to_string());
            errno = errno.or(cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error));
            next = cause.source();
        }
        let text = texts.join(": ");
        // The verifier refuses with EACCES, too, and then says how far it came.
        let is_judged = text.contains("processed ");
        let text = shortened(&text);
        match errno {
            Some(libc::EPERM | libc::EACCES) if !is_judged => Reason::NotPermitted,
            Some(libc::ENOSYS) => Reason::Unsupported(text),
            _ => Reason::Refused(text),
        }
    }
}
