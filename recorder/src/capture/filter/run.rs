//! Runs a filter over a packet of a file, as the kernel runs it over one from the wire.
//! In: instructions and bytes. Out: how many bytes to keep; 0 is none. A load past the packet's end is none too, as in the
//! kernel. Every jump goes forward, so it ends.

use super::code::{
    AND, Instruction, JUMP, JUMP_EQ, JUMP_GE, JUMP_GT, JUMP_SET, LD_BYTE, LD_HALF, LD_HALF_X, LD_WORD,
    LDX_IP_HEADER, RETURN,
};

/// A packet as the kernel shows it to a filter: with its link layer, without its outermost VLAN tag.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub link: &'a [u8],
    pub rest: &'a [u8],
}

impl View<'_> {
    fn byte(&self, at: usize) -> Option<u32> {
        let byte = self.link.get(at).or_else(|| self.rest.get(at.checked_sub(self.link.len())?))?;
        Some(u32::from(*byte))
    }

    fn number(&self, at: usize, len: usize) -> Option<u32> {
        (at..at.checked_add(len)?).try_fold(0, |sum, at| Some(sum << 8 | self.byte(at)?))
    }
}

pub fn run(code: &[Instruction], packet: View<'_>) -> u32 {
    steps(code, packet).unwrap_or(0)
}

fn steps(code: &[Instruction], packet: View<'_>) -> Option<u32> {
    let (mut a, mut x, mut at) = (0u32, 0u32, 0usize);
    loop {
        let i = code.get(at)?;
        at += 1;
        let jump = |condition: bool| usize::from(if condition { i.jt } else { i.jf });
        match i.code {
            LD_WORD => a = packet.number(i.k as usize, 4)?,
            LD_HALF => a = packet.number(i.k as usize, 2)?,
            LD_BYTE => a = packet.number(i.k as usize, 1)?,
            LD_HALF_X => a = packet.number(x.checked_add(i.k)? as usize, 2)?,
            LDX_IP_HEADER => x = 4 * (packet.byte(i.k as usize)? & 15),
            AND => a &= i.k,
            JUMP => at += i.k as usize,
            JUMP_EQ => at += jump(a == i.k),
            JUMP_GT => at += jump(a > i.k),
            JUMP_GE => at += jump(a >= i.k),
            JUMP_SET => at += jump(a & i.k != 0),
            RETURN => return Some(i.k),
            _ => return None,
        }
    }
}
