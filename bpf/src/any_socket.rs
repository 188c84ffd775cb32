//! The filter of a packet socket that is bound to no interface: only listed interfaces pass, each cut to its own length, and
//! TCP connections of marked sockets do not pass. In: a socket, interfaces, marks. Out: nothing; the kernel does the rest.
//! Edits take effect at once and cost the packets in flight nothing.
//!
//! A mark is what a packet filter can know of a local sender: SO_MARK stays on a packet from its socket to the device, whatever
//! rewrites its addresses on the way. It counts only for the sockets that were named with it, each by its own port. What comes back from the wire has none, so the filter remembers the ends of connections
//! that it saw marked packets on, as they are on that wire, and leaves out the other direction too. A mark does not travel to
//! another network namespace. Whoever else changes marks on the host defeats it, for the whole mark is compared: kube-proxy adds
//! 0x4000 to what it masquerades, and takes it off again before the packet leaves.

use std::fmt;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};

use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use aya::programs::SocketFilter;

use crate::Reason;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/any_socket.bpf.o"));

/// Loaded and not yet, or already, attached. The socket keeps the program alive; this value keeps the maps editable.
pub struct AnySocket {
    program: Ebpf,
    interfaces: HashMap<MapData, u32, Listed>,
    own_marks: Arc<Mutex<OwnMarks>>,
}

/// The marks whose packets are left out, for whoever gives them out and takes them back.
pub struct OwnMarks {
    sockets: HashMap<MapData, OwnSocket, u32>,
    left_out: Array<MapData, u64>,
}

impl OwnMarks {
    /// Keeps packets out that a socket with this SO_MARK sends from this port, and those of the other end of its connection.
    pub fn ignore(&mut self, mark: u32, port: u16) -> Result<(), Full> {
        self.sockets.insert([mark, u32::from(port.to_be())], 1, 0).map_err(Full::from)
    }

    /// Lets new connections with this mark in again. One that is not known is fine.
    pub fn forget(&mut self, mark: u32) {
        let of_mark = |key: &OwnSocket| key[0] == mark;
        let keys: Vec<OwnSocket> = self.sockets.keys().flatten().filter(of_mark).collect();
        for key in keys {
            let _ = self.sockets.remove(&key);
        }
    }

    /// Packets kept out so far because of a mark.
    pub fn left_out(&self) -> u64 {
        self.left_out.get(&0, 0).unwrap_or(0)
    }
}

/// Mark and port: `struct own_socket` of the program.
type OwnSocket = [u32; 2];

/// Bytes kept of a packet, and whether outgoing ones are left out: `struct listed` of the program.
type Listed = [u32; 2];

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
        let interfaces = HashMap::try_from(map(&mut program, "interfaces")?).map_err(|e| Reason::of(&e))?;
        let sockets = HashMap::try_from(map(&mut program, "own_sockets")?).map_err(|e| Reason::of(&e))?;
        let left_out = Array::try_from(map(&mut program, "left_out")?).map_err(|e| Reason::of(&e))?;
        filter(&mut program)?.load().map_err(|error| Reason::of(&error))?;
        let own_marks = Arc::new(Mutex::new(OwnMarks { sockets, left_out }));
        Ok(AnySocket { program, interfaces, own_marks })
    }

    /// Puts the filter in place of whatever filter the socket has. Sockets may share it.
    pub fn attach(&mut self, socket: impl AsFd) -> Result<(), Reason> {
        filter(&mut self.program)?.attach(socket).map_err(|error| Reason::of(&error))
    }

    /// Lets packets of an interface in, or changes how many of their bytes are kept.
    pub fn list(&mut self, ifindex: u32, snaplen_bytes: u32) -> Result<(), Full> {
        self.interfaces.insert(ifindex, [snaplen_bytes, 0], 0).map_err(Full::from)
    }

    /// As [`AnySocket::list`] for a loopback device, where every packet passes twice: the outgoing copy is left out.
    pub fn list_loopback(&mut self, ifindex: u32, snaplen_bytes: u32) -> Result<(), Full> {
        self.interfaces.insert(ifindex, [snaplen_bytes, 1], 0).map_err(Full::from)
    }

    /// Lets no more packets of an interface in. One that is not listed is fine.
    pub fn unlist(&mut self, ifindex: u32) {
        let _ = self.interfaces.remove(&ifindex);
    }

    /// The marks, which may be changed while the filter runs.
    pub fn own_marks(&self) -> Arc<Mutex<OwnMarks>> {
        self.own_marks.clone()
    }
}

/// A map takes no more entries.
#[derive(Debug, thiserror::Error)]
#[error("the any-socket filter takes no more entries: {0}")]
pub struct Full(#[from] MapError);

fn map(program: &mut Ebpf, name: &'static str) -> Result<Map, Reason> {
    program.take_map(name).ok_or_else(|| Reason::missing(name))
}

fn filter(loaded: &mut Ebpf) -> Result<&mut SocketFilter, Reason> {
    crate::program(loaded, "any_socket")
}

impl fmt::Debug for AnySocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnySocket").finish_non_exhaustive()
    }
}
