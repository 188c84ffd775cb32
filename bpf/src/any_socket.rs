//! The filter of a packet socket that is bound to no interface: only listed interfaces pass, each cut to its own length, and
//! packets of marked sockets do not pass. In: a socket, interfaces, marks. Out: nothing; the kernel does the rest.
//! Edits take effect at once and cost the packets in flight nothing.
//!
//! A mark is what a packet filter can know of a local sender: SO_MARK stays on a packet from its socket to the device, whatever
//! rewrites its addresses on the way. It does not travel to another network namespace, nor to what comes back from the wire: the
//! answers to a marked socket are seen. Whoever else sets marks on the host defeats it, for the whole mark is compared: kube-proxy
//! adds 0x4000 to what it masquerades.

use std::fmt;
use std::os::fd::AsFd;

use aya::Ebpf;
use aya::maps::{HashMap, MapData, MapError};
use aya::programs::SocketFilter;

use crate::Reason;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/any_socket.bpf.o"));

/// Loaded and not yet, or already, attached. The socket keeps the program alive; this value keeps the maps editable.
pub struct AnySocket {
    program: Ebpf,
    interfaces: HashMap<MapData, u32, u32>,
    own_marks: HashMap<MapData, u32, u32>,
}

/// Tries everything but the attachment, and leaves nothing behind.
pub fn can_run() -> Result<(), Reason> {
    AnySocket::load().map(drop)
}

impl AnySocket {
    /// Loads the program. It passes nothing until an interface is listed.
    pub fn load() -> Result<AnySocket, Reason> {
        AnySocket::load_object(OBJECT)
    }

    /// As [`AnySocket::load`], from the bytes of an object that is built from the same source.
    pub fn load_object(object: &[u8]) -> Result<AnySocket, Reason> {
        let mut program = Ebpf::load(object).map_err(|error| Reason::of(&error))?;
        let interfaces = map(&mut program, "interfaces")?;
        let own_marks = map(&mut program, "own_marks")?;
        filter(&mut program)?.load().map_err(|error| Reason::of(&error))?;
        Ok(AnySocket { program, interfaces, own_marks })
    }

    /// Puts the filter in place of whatever filter the socket has.
    pub fn attach(&mut self, socket: impl AsFd) -> Result<(), Reason> {
        filter(&mut self.program)?.attach(socket).map_err(|error| Reason::of(&error))
    }

    /// Lets packets of an interface in, or changes how many of their bytes are kept.
    pub fn list(&mut self, ifindex: u32, snaplen_bytes: u32) -> Result<(), Full> {
        self.interfaces.insert(ifindex, snaplen_bytes, 0).map_err(Full::from)
    }

    /// Lets no more packets of an interface in. One that is not listed is fine.
    pub fn unlist(&mut self, ifindex: u32) {
        let _ = self.interfaces.remove(&ifindex);
    }

    /// Keeps packets out that a socket with this SO_MARK sends.
    pub fn ignore_mark(&mut self, mark: u32) -> Result<(), Full> {
        self.own_marks.insert(mark, 1, 0).map_err(Full::from)
    }
}

/// A map takes no more entries.
#[derive(Debug, thiserror::Error)]
#[error("the any-socket filter takes no more entries: {0}")]
pub struct Full(#[from] MapError);

fn map(program: &mut Ebpf, name: &'static str) -> Result<HashMap<MapData, u32, u32>, Reason> {
    let map = program.take_map(name).ok_or_else(|| missing(name))?;
    HashMap::try_from(map).map_err(|error| Reason::of(&error))
}

fn filter(program: &mut Ebpf) -> Result<&mut SocketFilter, Reason> {
    let found = program.program_mut("any_socket").ok_or_else(|| missing("any_socket"))?;
    found.try_into().map_err(|error: aya::programs::ProgramError| Reason::of(&error))
}

fn missing(name: &str) -> Reason {
    Reason::Refused(format!("the object has no '{name}'"))
}

impl fmt::Debug for AnySocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnySocket").finish_non_exhaustive()
    }
}
