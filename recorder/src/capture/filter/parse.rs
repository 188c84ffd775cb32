//! Text of a filter to its tree; `not` binds tightest, then `and`, then `or`, as tcpdump has it since libpcap 1.0 with
//! explicit operators. In: words. Out: an expression, or where and why not.

use std::net::IpAddr;

use super::FilterError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    Not(Box<Expression>),
    EtherType(u16),
    /// IP protocol number, over IPv4 and over IPv6.
    Protocol {
        number: u8,
        v4: bool,
        v6: bool,
    },
    Net {
        side: Side,
        address: IpAddr,
        bits: u8,
    },
    Port {
        side: Side,
        protocol: Option<u8>,
        first: u16,
        last: u16,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Either,
    Source,
    Destination,
}

/// Deepest nesting; the parser recurses.
const MOST_DEPTH: usize = 64;

pub fn parse(text: &str) -> Result<Expression, FilterError> {
    let spaced = text.replace('(', " ( ").replace(')', " ) ").replace('!', " ! ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, depth: 0 };
    let expression = parser.or()?;
    match parser.words {
        [] => Ok(expression),
        [word, ..] => Err(error("'and' or 'or' is missing", word)),
    }
}

struct Parser<'a> {
    words: &'a [&'a str],
    depth: usize,
}

impl<'a> Parser<'a> {
    fn or(&mut self) -> Result<Expression, FilterError> {
        let mut left = self.and()?;
        while self.eat(&["or", "||"]) {
            left = Expression::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expression, FilterError> {
        let mut left = self.not()?;
        while self.eat(&["and", "&&"]) {
            left = Expression::And(Box::new(left), Box::new(self.not()?));
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expression, FilterError> {
        self.depth += 1;
        if self.depth > MOST_DEPTH {
            return Err(error("nested too deep", self.words.first().unwrap_or(&"end")));
        }
        let expression = if self.eat(&["not", "!"]) {
            Expression::Not(Box::new(self.not()?))
        } else if self.eat(&["("]) {
            let inner = self.or()?;
            if !self.eat(&[")"]) {
                return Err(error("')' is missing", self.words.first().unwrap_or(&"end")));
            }
            inner
        } else {
            self.primitive()?
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn primitive(&mut self) -> Result<Expression, FilterError> {
        let protocol = match self.words.first() {
            Some(&"tcp") => Some(6),
            Some(&"udp") => Some(17),
            Some(&"sctp") => Some(132),
            _ => None,
        };
        if let Some(number) = protocol {
            self.words = &self.words[1..];
            let qualified = matches!(self.words.first(), Some(&("src" | "dst" | "port" | "portrange")));
            return if qualified {
                self.endpoint(protocol)
            } else {
                Ok(Expression::Protocol { number, v4: true, v6: true })
            };
        }
        let simple = match self.words.first() {
            Some(&"ip") => Expression::EtherType(0x0800),
            Some(&"ip6") => Expression::EtherType(0x86DD),
            Some(&"arp") => Expression::EtherType(0x0806),
            Some(&"icmp") => Expression::Protocol { number: 1, v4: true, v6: false },
            Some(&"icmp6") => Expression::Protocol { number: 58, v4: false, v6: true },
            _ => return self.endpoint(None),
        };
        self.words = &self.words[1..];
        Ok(simple)
    }

    fn endpoint(&mut self, protocol: Option<u8>) -> Result<Expression, FilterError> {
        let side = match self.words.first() {
            Some(&"src") => Side::Source,
            Some(&"dst") => Side::Destination,
            _ => Side::Either,
        };
        if side != Side::Either {
            self.words = &self.words[1..];
        }
        let [what, value, rest @ ..] = self.words else {
            return Err(error("unfinished", self.words.first().unwrap_or(&"end")));
        };
        let expression = match (*what, protocol) {
            ("host" | "net", None) => net(side, value)?,
            ("port", _) => {
                let port = number(value)?;
                Expression::Port { side, protocol, first: port, last: port }
            }
            ("portrange", _) => {
                let (first, last) = value.split_once('-').ok_or_else(|| error("not a range", value))?;
                Expression::Port { side, protocol, first: number(first)?, last: number(last)? }
            }
            _ => return Err(error("not understood", what)),
        };
        self.words = rest;
        Ok(expression)
    }

    fn eat(&mut self, any: &[&str]) -> bool {
        let found = self.words.first().is_some_and(|word| any.contains(word));
        if found {
            self.words = &self.words[1..];
        }
        found
    }
}

fn net(side: Side, value: &str) -> Result<Expression, FilterError> {
    let bad = || error("not an address", value);
    let (address, bits) =
        value.split_once('/').map_or((value, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Ok(most), |bits| bits.parse().map_err(|_| bad()))?;
    if bits > most { Err(bad()) } else { Ok(Expression::Net { side, address, bits }) }
}

fn number(value: &str) -> Result<u16, FilterError> {
    value.parse().map_err(|_| error("not a port number", value))
}

fn error(what: &'static str, at: &str) -> FilterError {
    FilterError { what, at: at.to_owned() }
}
