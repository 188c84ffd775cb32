//! The log of a witness over HTTP, for snapshots: `GET /log` lists its files, `GET /log/<name>` gives one, `GET /status` says how it
//! is doing, `GET /healthz` that it runs. An open file is given as it is, up to its last whole fact.
//! Nothing is changed by whoever asks, and nothing but log files is read: names are compared with what lies there.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::api::Answers;
use crate::ring::Ring;
use crate::snapshot::FileList;

const MOST_HEAD_BYTES: usize = 8 << 10;
const MOST_HEADERS: usize = 64;
const MOST_CONNECTIONS: usize = 16;
const TIMEOUT: Duration = Duration::from_secs(10);

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
    let open = Arc::new(AtomicUsize::new(0));
    thread::Builder::new().name("http".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            if open.fetch_add(1, Ordering::Relaxed) >= MOST_CONNECTIONS {
                open.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (ring, served, open) = (ring.clone(), served.clone(), open.clone());
            thread::spawn(move || {
                if let Err(error) = answer(&stream, &ring, served.as_ref()) {
                    tracing::debug!("http: {error}");
                }
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    })?;
    Ok(address)
}

fn answer(stream: &TcpStream, ring: &Ring, served: &impl Answers) -> io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
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
    while head.len() <= MOST_HEAD_BYTES {
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
