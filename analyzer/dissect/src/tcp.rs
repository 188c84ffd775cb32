//! The life of a TCP connection as its flags tell it: Zeek's `conn_state` and `history`, Wireshark's completeness, who
//! reset it and when. In: flags and lengths of the packets of one observation. Out: columns of `flows`.

use crate::frame::{ACK, FIN, RST, SYN, Tcp};
use crate::layer::Direction;

/// What the flags said so far.
#[derive(Default)]
pub struct Connection {
    /// First SYN without ACK.
    pub syn: Option<Direction>,
    /// First SYN with ACK.
    pub syn_ack: Option<Direction>,
    /// First RST.
    pub rst: Option<(Direction, i64)>,
    /// FINs of both directions.
    pub fin: [bool; 2],
    /// Wireshark's `tcp.completeness`.
    pub completeness: u8,
    history: History,
}

/// Letters, each once a direction; bit 7 is the direction.
#[derive(Default)]
struct History {
    letters: [u8; 20],
    len: u8,
}

impl Connection {
    /// Takes a packet. `is_accepted` is false for a reset that its receiver ignores.
    pub fn packet(&mut self, direction: Direction, tcp: &Tcp<'_>, ts_ns: i64, is_accepted: bool) {
        self.completeness |= completeness(tcp);
        match tcp.flags & (SYN | ACK) {
            SYN => {
                self.syn.get_or_insert(direction);
                self.history.note(b's', direction);
            }
            flags if flags == SYN | ACK => {
                self.syn_ack.get_or_insert(direction);
                self.history.note(b'h', direction);
            }
            ACK if tcp.payload_len == 0 && tcp.flags & (FIN | RST) == 0 => self.history.note(b'a', direction),
            _ => {}
        }
        if tcp.payload_len > 0 {
            self.history.note(b'd', direction);
        }
        if tcp.window == 0 && tcp.flags & (SYN | RST) == 0 {
            self.history.note(b'w', direction);
        }
        if tcp.flags & FIN != 0 {
            self.fin[direction as usize] = true;
            self.history.note(b'f', direction);
        }
        if tcp.flags & RST != 0 && is_accepted {
            self.rst.get_or_insert((direction, ts_ns));
            self.history.note(b'r', direction);
        }
    }

    /// Both ends said that they are done, or one reset it.
    pub fn is_ending(&self) -> bool {
        self.rst.is_some() || self.fin == [true; 2]
    }

    /// Notes missing bytes of a direction.
    pub fn gap(&mut self, direction: Direction) {
        self.history.note(b'g', direction);
    }

    /// Who began the connection, if its handshake was seen.
    pub fn client(&self) -> Option<Direction> {
        self.syn.or(self.syn_ack.map(Direction::opposite))
    }

    /// Zeek's `conn_state`. A connection whose start was not captured and that ends in a reset is `RSTO` or `RSTR`.
    pub fn state(&self, src: Direction) -> &'static str {
        let dst = src.opposite();
        let (syn, syn_ack) = (self.syn == Some(src), self.syn_ack == Some(dst));
        let (src_fin, dst_fin) = (self.fin[src as usize], self.fin[dst as usize]);
        match (self.rst.map(|(by, _)| by == src), syn, syn_ack) {
            (Some(false), true, false) => "REJ",
            (Some(true), true, false) => "RSTOS0",
            (Some(false), false, true) => "RSTRH",
            (Some(true), ..) => "RSTO",
            (Some(false), ..) => "RSTR",
            (None, true, true) => match (src_fin, dst_fin) {
                (true, true) => "SF",
                (true, false) => "S2",
                (false, true) => "S3",
                (false, false) => "S1",
            },
            (None, true, false) => {
                if src_fin {
                    "SH"
                } else {
                    "S0"
                }
            }
            (None, false, true) if dst_fin => "SHR",
            _ => "OTH",
        }
    }

    /// Zeek's `history`: upper case for what `src` sent.
    pub fn history(&self, src: Direction) -> String {
        self.history.letters[..self.history.len.into()]
            .iter()
            .map(|&letter| {
                let from_src = (letter >> 7) as usize == src as usize;
                let letter = (letter & 0x7f) as char;
                if from_src { letter.to_ascii_uppercase() } else { letter }
            })
            .collect()
    }
}

impl History {
    fn note(&mut self, letter: u8, direction: Direction) {
        let letter = letter | (direction as u8) << 7;
        let len = self.len as usize;
        if len < self.letters.len() && !self.letters[..len].contains(&letter) {
            self.letters[len] = letter;
            self.len += 1;
        }
    }
}

/// Bits of `tcp.completeness` as Wireshark 4.0 sets them.
fn completeness(tcp: &Tcp<'_>) -> u8 {
    let handshake = match tcp.flags & (SYN | ACK) {
        SYN => 1,
        ACK if tcp.payload_len > 0 => 8,
        ACK => 4,
        flags if flags == SYN | ACK => 2,
        _ => 0,
    };
    let fin = if tcp.flags & FIN != 0 { 16 } else { 0 };
    let rst = if tcp.flags & RST != 0 { 32 } else { 0 };
    handshake | fin | rst
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(packets: &[(Direction, u8, u32)]) -> Connection {
        let mut connection = Connection::default();
        for (at, &(direction, flags, payload_len)) in packets.iter().enumerate() {
            let tcp =
                Tcp { seq: 0, ack: None, flags, window: 1, window_shift: None, payload: b"", payload_len };
            connection.packet(direction, &tcp, at as i64, true);
        }
        connection
    }

    #[test]
    fn states_as_zeek_names_them() {
        use Direction::{Backward as B, Forward as F};
        let handshake = [(F, SYN, 0), (B, SYN | ACK, 0), (F, ACK, 0)];
        let with = |rest: &[(Direction, u8, u32)]| connection(&[&handshake[..], rest].concat());
        assert_eq!(with(&[]).state(F), "S1");
        assert_eq!(with(&[(F, FIN | ACK, 0)]).state(F), "S2");
        assert_eq!(with(&[(F, FIN | ACK, 0), (B, FIN | ACK, 0)]).state(F), "SF");
        assert_eq!(with(&[(B, RST, 0)]).state(F), "RSTR");
        assert_eq!(with(&[(F, RST, 0)]).state(F), "RSTO");
        assert_eq!(connection(&[(F, SYN, 0), (B, RST | ACK, 0)]).state(F), "REJ");
        assert_eq!(connection(&[(F, SYN, 0)]).state(F), "S0");
        assert_eq!(connection(&[(F, ACK, 10)]).state(F), "OTH");
        let whole = with(&[(F, ACK, 5), (B, ACK, 5), (F, FIN | ACK, 0), (B, FIN | ACK, 0)]);
        assert_eq!((whole.history(F).as_str(), whole.completeness), ("ShADdFf", 31));
    }
}
