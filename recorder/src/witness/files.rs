//! Sockets without BPF: what /proc/PID/net lists of each network namespace, and in whose files they are.
//! In: /proc. Out: all TCP and UDP sockets that some process has open now. What lives between two looks is not seen.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::proc;
use super::processes::Processes;
use super::sockets::{Owner, Proof, Socket};

/// By a key that is the same at every look.
pub fn look(processes: &Processes) -> HashMap<u64, Socket> {
    let (mut owners, mut namespaces) = (HashMap::new(), HashMap::new());
    for pid in proc::pids() {
        let Some(process) = processes.current(pid) else { continue };
        let Some(netns) = proc::netns(pid) else { continue };
        namespaces.entry(netns).or_insert(pid);
        for inode in inodes(pid) {
            let (start_ticks, comm) = (process.start_ticks, process.comm.clone());
            owners.entry(inode).or_insert(Owner { pid, start_ticks, comm, proof: Proof::File });
        }
    }
    let mut sockets = HashMap::new();
    for (netns, pid) in namespaces {
        let lines: Vec<Line> =
            ["tcp", "tcp6", "udp", "udp6"].iter().flat_map(|name| list(pid, name)).collect();
        let is_listening = |line: &Line| line.protocol == 6 && line.state == LISTEN;
        let listening: HashSet<u16> = lines.iter().filter(|l| is_listening(l)).map(|l| l.local.1).collect();
        for line in lines {
            // One without an inode is in nobody's files: TIME_WAIT and the like.
            let Some(owner) = owners.get(&line.inode) else { continue };
            let op = match (line.protocol, line.peer.1) {
                (6, _) if is_listening(&line) => "listen",
                (6, _) if listening.contains(&line.local.1) => "accept",
                (17, 0) => "bind",
                _ => "connect",
            };
            let mut socket = Socket::found(line.protocol, netns, line.local, line.peer, op);
            socket.owner = Some(owner.clone());
            sockets.insert(u64::from(netns) << 32 | u64::from(line.inode), socket);
        }
    }
    sockets
}

/// TCP_LISTEN in net/tcp_states.h.
const LISTEN: u8 = 10;

fn inodes(pid: u32) -> Vec<u32> {
    let files = fs::read_dir(proc::file(pid, "fd")).into_iter().flatten().flatten();
    files.filter_map(|file| proc::inode_of(&fs::read_link(file.path()).ok()?, "socket")).collect()
}

#[derive(Debug, PartialEq, Eq)]
struct Line {
    protocol: u8,
    state: u8,
    local: (IpAddr, u16),
    peer: (IpAddr, u16),
    inode: u32,
}

fn list(pid: u32, name: &str) -> Vec<Line> {
    let text = fs::read_to_string(proc::file(pid, "net").join(name)).unwrap_or_default();
    let protocol = if name.starts_with("tcp") { 6 } else { 17 };
    text.lines().skip(1).filter_map(|line| parse(protocol, line)).collect()
}

/// `sl local:port peer:port state tx:rx tr:when retransmits uid timeout inode …`, addresses as words of the machine in hex.
fn parse(protocol: u8, line: &str) -> Option<Line> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let end = |at: usize| {
        let (address, port) = fields.get(at)?.split_once(':')?;
        let words: Option<Vec<u8>> = (0..address.len() / 8)
            .map(|word| u32::from_str_radix(address.get(8 * word..8 * word + 8)?, 16).ok())
            .try_fold(Vec::new(), |mut all, word| {
                all.extend(word?.to_ne_bytes());
                Some(all)
            });
        let ip = match words?[..] {
            [a, b, c, d] => Ipv4Addr::new(a, b, c, d).into(),
            ref long => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(long).ok()?)).to_canonical(),
        };
        Some((ip, u16::from_str_radix(port, 16).ok()?))
    };
    let state = u8::from_str_radix(fields.get(3)?, 16).ok()?;
    Some(Line {
        protocol,
        state,
        local: end(1)?,
        peer: end(2)?,
        inode: fields.get(9)?.parse().ok().filter(|i| *i != 0)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel() {
        let line = "   0: 0100007F:1F90 0200007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4711 1 0";
        let found = parse(6, line).unwrap();
        assert_eq!(found.local, ("127.0.0.1".parse().unwrap(), 8080));
        assert_eq!((found.peer.1, found.state, found.inode), (50_000, 1, 4711));
        let line = "  1: 00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 07 0:0 0:0 0 0 0 9 1";
        assert_eq!(parse(17, line).unwrap().local, ("::1".parse().unwrap(), 53));
        for bad in ["", "1: x y", "0: 0100007F:1F90 02:C350 01 0 0 0 0 0 4 1", "0: ü:1 ü:2 1 1 1 1 1 1 1"] {
            assert_eq!(parse(6, bad), None, "{bad}");
        }
    }
}
