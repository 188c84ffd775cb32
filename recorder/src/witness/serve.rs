//! The log of a witness over HTTP, for snapshots: `GET /log` lists its files, `GET /log/<name>` gives one, `GET /status` says how it
//! is doing, `GET /healthz` that it runs. An open file is given as it is, up to its last whole fact.
//! Nothing is changed by whoever asks, and nothing but log files is read: names are compared with what lies there.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::api::Answers;
use crate::ring::Ring;
use crate::snapshot::FileList;

const MOST_HEAD_BYTES: usize = 8 << 10;
const MOST_HEADERS: usize = 64;
/// Of everybody, and of one address: who is slow, or many, leaves room for a probe and for snapshots.
const MOST_CONNECTIONS: usize = 64;
const MOST_OF_ONE: usize = 8;
/// For one read or write, and for all of a request.
const TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Where to listen: `ADDRESS:PORT`, or `:PORT` for every address that the machine has, of version 6 or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Listen {
    At(SocketAddr),
    Anywhere(u16),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Listen, String> {
        let found = match text.strip_prefix(':') {
            Some(port) => port.parse().ok().map(Listen::Anywhere),
            None => text.parse().ok().map(Listen::At),
        };
        found.ok_or_else(|| format!("'{text}' is neither ADDRESS:PORT nor :PORT"))
    }
}

impl Listen {
    fn bind(self) -> io::Result<TcpListener> {
        match self {
            Listen::At(address) => TcpListener::bind(address),
            Listen::Anywhere(port) => TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
                .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))),
        }
    }
}

/// Answers until the process ends; gives the address it listens on.
pub fn serve(listen: Listen, ring: &Ring, served: Arc<impl Answers>) -> io::Result<SocketAddr> {
    let listener = listen.bind()?;
    let address = listener.local_addr()?;
    let ring = ring.clone();
    let open = Arc::new(Open::default());
    thread::Builder::new().name("http".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let Some(place) = stream.peer_addr().ok().and_then(|peer| Open::enter(&open, peer.ip())) else {
                continue;
            };
            let (ring, served) = (ring.clone(), served.clone());
            thread::spawn(move || {
                let _place = place;
                if let Err(error) = answer(&stream, &ring, served.as_ref()) {
                    tracing::debug!("http: {error}");
                }
            });
        }
    })?;
    Ok(address)
}

/// Connections that are open, by who opened them.
#[derive(Default)]
struct Open {
    peers: Mutex<HashMap<IpAddr, usize>>,
}

/// One of them, until it is dropped.
struct Place {
    open: Arc<Open>,
    peer: IpAddr,
}

impl Open {
    /// None where there are too many.
    fn enter(open: &Arc<Open>, peer: IpAddr) -> Option<Place> {
        let mut peers = open.peers.lock().unwrap_or_else(|e| e.into_inner());
        let all: usize = peers.values().sum();
        let own = peers.entry(peer).or_default();
        if all >= MOST_CONNECTIONS || *own >= MOST_OF_ONE {
            return None;
        }
        *own += 1;
        Some(Place { open: open.clone(), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut peers = self.open.peers.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(own) = peers.get_mut(&self.peer) {
            *own -= 1;
            if *own == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}

fn answer(stream: &TcpStream, ring: &Ring, served: &impl Answers) -> io::Result<()> {
    stream.set_write_timeout(Some(TIMEOUT))?;
    let Some((method, path)) = request(stream)? else {
        return say(stream, "400 Bad Request", b"not a request\n");
    };
    if method != "GET" {
        return say(stream, "405 Method Not Allowed", b"only GET\n");
    }
    match path.as_str() {
        "/healthz" => say(stream, "200 OK", b"ok\n"),
        "/status" => say(stream, "200 OK", &serde_json::to_vec(&served.status())?),
        "/log" => {
            let files = ring.logs().map_err(io::Error::other)?;
            let list = FileList { cluster: ring.file.cluster.clone(), files };
            say(stream, "200 OK", &serde_json::to_vec(&list)?)
        }
        _ => {
            let files = ring.logs().map_err(io::Error::other)?;
            let wanted = path.strip_prefix("/log/").unwrap_or_default();
            // What was open when it was listed may be closed by now.
            let closed = wanted.trim_end_matches(".open");
            match files.iter().find(|name| *name == wanted || *name == closed) {
                Some(name) => give(stream, &ring.log().join(name)),
                None => say(stream, "404 Not Found", b"not here\n"),
            }
        }
    }
}

/// Method and path; None for what is no request.
fn request(mut stream: &TcpStream) -> io::Result<Option<(String, String)>> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    let end = Instant::now() + REQUEST_TIMEOUT;
    while head.len() <= MOST_HEAD_BYTES {
        // Whoever sends a byte now and then has no more time than anybody else.
        let left = end.saturating_duration_since(Instant::now());
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let got = stream.read(&mut piece)?;
        head.extend_from_slice(&piece[..got]);
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&head) {
            Ok(httparse::Status::Complete(_)) => {
                let path = request.path.unwrap_or_default().split('?').next().unwrap_or_default();
                return Ok(Some((request.method.unwrap_or_default().to_owned(), path.to_owned())));
            }
            Ok(httparse::Status::Partial) if got > 0 => {}
            _ => return Ok(None),
        }
    }
    Ok(None)
}

fn say(mut stream: &TcpStream, status: &str, body: &[u8]) -> io::Result<()> {
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(body)
}

fn give(mut stream: &TcpStream, path: &std::path::Path) -> io::Result<()> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    io::copy(&mut (&file).take(length), &mut stream).map(drop)
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};

    use super::*;
    use crate::api::{SealedNames, Status, of_files};

    struct Idle(Ring);

    impl Answers for Idle {
        fn status(&self) -> Status {
            of_files(&self.0)
        }

        fn seal(&self) -> SealedNames {
            SealedNames { sealed: Vec::new() }
        }
    }

    /// A connection from an address of the loopback network.
    fn connect(from: &str, to: SocketAddr) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(from.parse().unwrap(), 0).into()).unwrap();
        socket.connect(&to.into()).unwrap();
        socket.into()
    }

    #[test]
    fn slow_connections_refuse_nobody_else_and_have_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let (ring, _lock) = Ring::create(&dir.path().join("ring"), "n", "").unwrap();
        let listen = Listen::At((Ipv4Addr::LOCALHOST, 0).into());
        let to = serve(listen, &ring, Arc::new(Idle(ring.clone()))).unwrap();
        let mut slow: Vec<TcpStream> = (0..MOST_CONNECTIONS).map(|_| connect("127.0.0.2", to)).collect();
        let began = Instant::now();
        let probe = || {
            let mut stream = connect("127.0.0.1", to);
            write!(stream, "GET /healthz HTTP/1.1\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        assert!(probe().starts_with("HTTP/1.1 200 OK"));
        // A byte now and then prolongs nothing: after its time each is closed.
        let first = &mut slow[0];
        first.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        let is_open = |stream: &mut TcpStream| match stream.read(&mut [0; 512]) {
            Ok(read) => read > 0,
            Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        };
        while is_open(first) {
            let _ = first.write(b"G");
            assert!(began.elapsed() < 2 * REQUEST_TIMEOUT, "it is still open");
            thread::sleep(Duration::from_millis(100));
        }
        assert!(began.elapsed() + Duration::from_millis(200) > REQUEST_TIMEOUT);
        assert!(probe().starts_with("HTTP/1.1 200 OK"));
    }
}
