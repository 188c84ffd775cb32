//! Tree of a filter to classic BPF (linux/filter.h).
//! In: an expression. Out: instructions. Code is made from its end, so that every jump goes to what exists already;
//! jumps are forward only and cannot loop. The kernel has taken a VLAN tag out before the filter sees the packet.

use std::net::IpAddr;

use super::parse::{Expression, Side};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

pub const LD_WORD: u16 = 0x20;
pub const LD_HALF: u16 = 0x28;
pub const LD_BYTE: u16 = 0x30;
pub const LD_HALF_X: u16 = 0x48;
pub const LDX_IP_HEADER: u16 = 0xB1;
pub const AND: u16 = 0x54;
pub const JUMP: u16 = 0x05;
pub const JUMP_EQ: u16 = 0x15;
pub const JUMP_GT: u16 = 0x25;
pub const JUMP_GE: u16 = 0x35;
pub const JUMP_SET: u16 = 0x45;
pub const RETURN: u16 = 0x06;

const ETHERTYPE: u32 = 12;
const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86DD;
const ARP: u32 = 0x0806;

/// Without an expression everything matches.
pub fn generate(expression: Option<&Expression>, snaplen: u32) -> Vec<Instruction> {
    let mut code = Code(Vec::new());
    let no = code.push(RETURN, 0, 0, 0);
    let yes = code.push(RETURN, 0, 0, snaplen);
    if let Some(expression) = expression {
        code.expression(expression, yes, no);
    }
    code.0.reverse();
    code.0
}

/// A place in the code, counted from its end.
type Label = usize;

/// Instructions in reverse order.
struct Code(Vec<Instruction>);

impl Code {
    fn expression(&mut self, of: &Expression, yes: Label, no: Label) -> Label {
        match of {
            Expression::And(a, b) => {
                let then = self.expression(b, yes, no);
                self.expression(a, then, no)
            }
            Expression::Or(a, b) => {
                let otherwise = self.expression(b, yes, no);
                self.expression(a, yes, otherwise)
            }
            Expression::Not(a) => self.expression(a, no, yes),
            Expression::EtherType(kind) => self.test(LD_HALF, ETHERTYPE, u32::from(*kind), yes, no),
            Expression::Protocol { number, v4, v6 } => {
                let over_v6 = if *v6 { self.test(LD_BYTE, 20, u32::from(*number), yes, no) } else { no };
                let over_v4 = if *v4 { self.test(LD_BYTE, 23, u32::from(*number), yes, no) } else { no };
                self.by_ethertype(&[(IPV4, over_v4), (IPV6, over_v6)], no)
            }
            Expression::Net { side, address, bits } => self.net(*side, *address, *bits, yes, no),
            Expression::Port { side, protocol, first, last } => {
                let range = (u32::from(*first), u32::from(*last));
                let v6 = self.port_v6(*side, *protocol, range, yes, no);
                let v4 = self.port_v4(*side, *protocol, range, yes, no);
                self.by_ethertype(&[(IPV4, v4), (IPV6, v6)], no)
            }
        }
    }

    fn net(&mut self, side: Side, address: IpAddr, bits: u8, yes: Label, no: Label) -> Label {
        match address {
            IpAddr::V4(address) => {
                let words = [u32::from(address)];
                // tcpdump's `host` means the addresses in an ARP packet too.
                let arp = self.sides(side, (28, 38), yes, no, |code, at, yes, no| {
                    code.words(at, &words, bits, yes, no)
                });
                let ip = self.sides(side, (26, 30), yes, no, |code, at, yes, no| {
                    code.words(at, &words, bits, yes, no)
                });
                self.by_ethertype(&[(IPV4, ip), (ARP, arp)], no)
            }
            IpAddr::V6(address) => {
                let octets = address.octets();
                let words: Vec<u32> =
                    octets.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])).collect();
                let ip = self.sides(side, (22, 38), yes, no, |code, at, yes, no| {
                    code.words(at, &words, bits, yes, no)
                });
                self.by_ethertype(&[(IPV6, ip)], no)
            }
        }
    }

    fn port_v4(
        &mut self,
        side: Side,
        protocol: Option<u8>,
        range: (u32, u32),
        yes: Label,
        no: Label,
    ) -> Label {
        let check = |code: &mut Code, at, yes, no| code.range(LD_HALF_X, at, range, yes, no);
        let ports = self.sides(side, (14, 16), yes, no, check);
        let header = self.load(LDX_IP_HEADER, 14, ports);
        // Only the first fragment has ports.
        let whole = self.branch(JUMP_SET, 0x1FFF, no, header);
        let fragment = self.load(LD_HALF, 20, whole);
        self.transport(23, protocol, fragment, no)
    }

    fn port_v6(
        &mut self,
        side: Side,
        protocol: Option<u8>,
        range: (u32, u32),
        yes: Label,
        no: Label,
    ) -> Label {
        let check = |code: &mut Code, at, yes, no| code.range(LD_HALF, at, range, yes, no);
        let ports = self.sides(side, (54, 56), yes, no, check);
        self.transport(20, protocol, ports, no)
    }

    /// The protocol, or any that has ports.
    fn transport(&mut self, at: u32, protocol: Option<u8>, yes: Label, no: Label) -> Label {
        let any = [6, 17, 132];
        let mut next = no;
        for number in any.iter().filter(|n| protocol.is_none_or(|p| p == **n)) {
            next = self.branch(JUMP_EQ, u32::from(*number), yes, next);
        }
        self.load(LD_BYTE, at, next)
    }

    fn sides(
        &mut self,
        side: Side,
        (source, destination): (u32, u32),
        yes: Label,
        no: Label,
        mut check: impl FnMut(&mut Code, u32, Label, Label) -> Label,
    ) -> Label {
        match side {
            Side::Source => check(self, source, yes, no),
            Side::Destination => check(self, destination, yes, no),
            Side::Either => {
                let otherwise = check(self, destination, yes, no);
                check(self, source, yes, otherwise)
            }
        }
    }

    /// Compares the first `bits` of consecutive words.
    fn words(&mut self, at: u32, words: &[u32], bits: u8, yes: Label, no: Label) -> Label {
        let mut next = yes;
        for (index, word) in words.iter().enumerate().rev() {
            let here = u32::from(bits).saturating_sub(32 * index as u32).min(32);
            let mask = (u64::from(u32::MAX) << (32 - here)) as u32;
            if mask == 0 {
                continue;
            }
            let mut test = self.branch(JUMP_EQ, word & mask, next, no);
            if mask != u32::MAX {
                test = self.load(AND, mask, test);
            }
            next = self.load(LD_WORD, at + 4 * index as u32, test);
        }
        next
    }

    fn range(&mut self, load: u16, at: u32, (first, last): (u32, u32), yes: Label, no: Label) -> Label {
        let high = self.branch(JUMP_GT, last, no, yes);
        let low = self.branch(JUMP_GE, first, high, no);
        self.load(load, at, low)
    }

    fn by_ethertype(&mut self, cases: &[(u32, Label)], no: Label) -> Label {
        let mut next = no;
        for (kind, then) in cases.iter().rev() {
            next = self.branch(JUMP_EQ, *kind, *then, next);
        }
        self.load(LD_HALF, ETHERTYPE, next)
    }

    fn test(&mut self, load: u16, at: u32, value: u32, yes: Label, no: Label) -> Label {
        let test = self.branch(JUMP_EQ, value, yes, no);
        self.load(load, at, test)
    }

    /// An instruction that goes on with `next`, which need not be the one behind it.
    fn load(&mut self, code: u16, k: u32, next: Label) -> Label {
        self.behind(next);
        self.push(code, 0, 0, k)
    }

    fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        // Conditional jumps reach 255 instructions; one more for the trampoline of the other side.
        let yes = self.near(yes);
        let no = self.near(no);
        let (jt, jf) = (self.0.len() - yes - 1, self.0.len() - no - 1);
        self.push(code, jt as u8, jf as u8, k)
    }

    fn near(&mut self, label: Label) -> Label {
        if self.0.len() - label > 254 { self.trampoline(label) } else { label }
    }

    fn behind(&mut self, label: Label) {
        if label + 1 != self.0.len() {
            self.trampoline(label);
        }
    }

    fn trampoline(&mut self, label: Label) -> Label {
        let distance = (self.0.len() - label - 1) as u32;
        self.push(JUMP, 0, 0, distance)
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.0.push(Instruction { code, jt, jf, k });
        self.0.len() - 1
    }
}
