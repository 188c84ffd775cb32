//! A capture filter: text in the language of tcpdump, compiled to classic BPF for the kernel.
//! In: "tcp port 80 and not host 10.0.0.1". Out: instructions, which a replay runs itself.
//! Only a part of the language is known; anything else is an error that says what would be understood.

mod code;
mod parse;
mod run;

pub use code::Instruction;
pub use run::View;

/// A compiled filter; without text it takes everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    text: Option<String>,
    code: Vec<Instruction>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "filter: {what} at '{at}'; known are ip, ip6, arp, tcp, udp, sctp, icmp, icmp6, [src|dst] host ADDRESS, \
     [src|dst] net ADDRESS/BITS, [tcp|udp|sctp] [src|dst] port N, portrange N-M, and, or, not, ( )"
)]
pub struct FilterError {
    pub what: &'static str,
    pub at: String,
}

impl Filter {
    /// Keeps the first `snaplen` bytes of each packet that matches.
    pub fn compile(text: Option<&str>, snaplen: u32) -> Result<Filter, FilterError> {
        let text = text.map(str::trim).filter(|text| !text.is_empty());
        let expression = text.map(parse::parse).transpose()?;
        let code = code::generate(expression.as_ref(), snaplen);
        if code.len() > 4096 {
            return Err(FilterError { what: "too long for the kernel", at: "end".to_owned() });
        }
        Ok(Filter { text: text.map(str::to_owned), code })
    }

    /// Takes nothing.
    pub fn nothing() -> Filter {
        Filter { text: None, code: code::generate(None, 0) }
    }

    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// As `afpacket` wants it: code, jump if true, jump if false, constant.
    pub fn program(&self) -> Vec<(u16, u8, u8, u32)> {
        self.code.iter().map(|i| (i.code, i.jt, i.jf, i.k)).collect()
    }

    /// As [`Filter::program`], without packets on their way out. PACKET_IGNORE_OUTGOING would do, but the kernel does not
    /// honour it in a fanout group.
    pub fn program_for_loopback(&self) -> Vec<(u16, u8, u8, u32)> {
        // linux/filter.h: SKF_AD_OFF + SKF_AD_PKTTYPE; linux/if_packet.h: PACKET_OUTGOING
        let mut program =
            vec![(code::LD_WORD, 0, 0, 0xFFFF_F004), (code::JUMP_EQ, 0, 1, 4), (code::RETURN, 0, 0, 0)];
        program.extend(self.program());
        program
    }

    /// What the kernel would decide about a packet.
    pub fn takes(&self, packet: View<'_>) -> bool {
        run::run(&self.code, packet) > 0
    }
}
