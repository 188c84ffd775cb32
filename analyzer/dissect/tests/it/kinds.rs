//! Kinds of captures that gave wrong rows once, each with a name: what is lost, out of order, doubled, broken or strange. In: captures
//! made packet by packet. Out: the rows that are right.

mod datagrams;
mod gaps;
mod heads;
mod made;
mod order;
mod places;
mod resets;
mod starts;
mod strangers;

/// A GET request.
fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n").into_bytes()
}

/// A response with a body of so many bytes.
fn response(status: u16, len: usize) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status} x\r\nContent-Length: {len}\r\n\r\n").into_bytes();
    bytes.resize(bytes.len() + len, b'b');
    bytes
}

/// A DNS message: a question, and an address where it is an answer.
fn dns(id: u16, name: &str, kind: u16, address: Option<[u8; 4]>) -> Vec<u8> {
    let flags: u16 = if address.is_some() { 0x8180 } else { 0x0100 };
    let mut bytes = [id, flags, 1, address.is_some().into(), 0, 0].map(u16::to_be_bytes).concat();
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes.extend([kind.to_be_bytes(), 1_u16.to_be_bytes()].concat());
    if let Some(address) = address {
        bytes.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04");
        bytes.extend(address);
    }
    bytes
}

/// With its length before it, as in a stream.
fn in_stream(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}
