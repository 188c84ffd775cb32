//! What the ends of a line say: HTTP/1.1 with JSON, DNS, the beginning of TLS and bytes of no known protocol.
//! In: draws from a seed. Out: bytes.
//! Bodies repeat themselves as much as those of real services do, so that compression is neither flattered nor insulted.

use std::fmt::Write;

use shark_fixtures::dns::message::{Query, Reply, Type};
use shark_fixtures::seed::Draw;

/// A request and its response, whole.
pub struct Exchange {
    pub request: Vec<u8>,
    pub response: Vec<u8>,
}

/// What servers send without being asked for less (DNS flag day 2020).
const DATAGRAM_BYTES: usize = 1232;
const ITEMS: &[&str] = &["lamp", "kettle", "chair", "blanket", "notebook", "bicycle", "tea", "umbrella"];
const PLACES: &[&str] = &["cart", "orders", "catalogue", "payments", "stock", "reviews"];

/// Some JSON of about this many bytes.
pub fn json(draw: &mut Draw, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 200);
    text.push_str("{\"items\":[");
    while text.len() < bytes {
        let (id, price) = (draw.number(), draw.between(99, 99_999));
        let (item, count) = (draw.pick(ITEMS), draw.between(1, 9));
        let _ = write!(
            text,
            "{{\"id\":\"{id:016x}\",\"name\":\"{item}\",\"quantity\":{count},\"price_cents\":{price},\"in_stock\":true}},",
        );
    }
    text.pop();
    text.push_str("]}");
    text
}

/// One HTTP exchange of a kind that the draw decides.
pub fn http(draw: &mut Draw) -> Exchange {
    let (place, number, id) = (*draw.pick(PLACES), draw.between(1, 50_000), draw.number());
    let size = draw.between(512, 8192) as usize;
    let path = format!("/api/v1/{place}/{number}?expand=items");
    let head = format!(
        " {path} HTTP/1.1\r\nHost: {place}.shop.svc.cluster.local\r\nUser-Agent: shop/1.4\r\nAccept: application/json\r\nX-Request-Id: {id:016x}\r\n"
    );
    let (request, response) = match draw.between(0, 99) {
        0..=54 => (plain("GET", &head), answer("200 OK", id, &json(draw, size))),
        55..=69 => {
            let order = json(draw, size / 2);
            (posted(&head, &order), answer("201 Created", id, &json(draw, 512)))
        }
        70..=77 => {
            let status =
                draw.pick(&["404 Not Found", "500 Internal Server Error", "503 Service Unavailable"]);
            (plain("GET", &head), answer(status, id, "{\"error\":\"the shop is sorry\"}"))
        }
        78..=83 => {
            // RFC 9110 section 9.3.2: the length of the body that is not there.
            let length =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nX-Request-Id: {id:016x}\r\n\r\n");
            (plain("HEAD", &head), length.into_bytes())
        }
        84..=95 => (plain("GET", &head), chunked(id, &json(draw, size))),
        _ => {
            let unchanged =
                format!("HTTP/1.1 304 Not Modified\r\nETag: \"{number}\"\r\nX-Request-Id: {id:016x}\r\n\r\n");
            (plain("GET", &head), unchanged.into_bytes())
        }
    };
    Exchange { request, response }
}

/// A query and its reply; one in ten names does not exist.
pub fn dns(draw: &mut Draw) -> Exchange {
    let name = format!("{}-{}.shop.svc.cluster.local", draw.pick(PLACES), draw.between(1, 500));
    let query = Query { id: draw.number() as u16, name, kind: Type::A };
    let missing = draw.one_in(10);
    let addresses = if missing { vec![] } else { vec![[10, 96, 0, draw.between(1, 250) as u8].into()] };
    let mut reply = Reply { id: query.id, rcode: if missing { 3 } else { 0 }, truncated: false, addresses };
    Exchange { request: query.encode(), response: reply.encode(&query, DATAGRAM_BYTES) }
}

/// ClientHello and ServerHello (RFC 8446 section 4.1) without extensions.
pub fn hello(draw: &mut Draw) -> Exchange {
    let mut message = |kind: u8, rest: &[u8]| {
        let random: Vec<u8> = noise(draw, 32);
        let body = [&[3, 3][..], &random, &[0], rest].concat();
        let handshake = [&[kind, 0][..], &(body.len() as u16).to_be_bytes(), &body].concat();
        [&[0x16, 3, 1][..], &(handshake.len() as u16).to_be_bytes(), &handshake].concat()
    };
    Exchange { request: message(1, &[0, 2, 0x13, 1, 1, 0]), response: message(2, &[0x13, 1, 0]) }
}

/// Application data: nobody can read it.
pub fn sealed(draw: &mut Draw) -> Exchange {
    let mut record = |bytes: u64| {
        let body = noise(draw, bytes as usize);
        [&[0x17, 3, 3][..], &(body.len() as u16).to_be_bytes(), &body].concat()
    };
    Exchange { request: record(300), response: record(4000) }
}

/// A protocol nobody knows: a length and then anything.
pub fn unknown(draw: &mut Draw) -> Exchange {
    let mut message = || {
        let bytes = draw.between(40, 3000) as usize;
        [&(bytes as u32).to_be_bytes()[..], &noise(draw, bytes)].concat()
    };
    Exchange { request: message(), response: message() }
}

fn noise(draw: &mut Draw, bytes: usize) -> Vec<u8> {
    (0..bytes.div_ceil(8)).flat_map(|_| draw.number().to_le_bytes()).take(bytes).collect()
}

fn plain(method: &str, head: &str) -> Vec<u8> {
    format!("{method}{head}\r\n").into_bytes()
}

fn posted(head: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

fn answer(status: &str, id: u64, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nX-Request-Id: {id:016x}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn chunked(id: u64, body: &str) -> Vec<u8> {
    let mut out = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nX-Request-Id: {id:016x}\r\n\r\n"
    )
    .into_bytes();
    for piece in body.as_bytes().chunks(1000) {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}
