//! The methods of AMQP 0-9-1 (amqp0-9-1.xml, with the extensions of RabbitMQ) and what is kept of their arguments. In: the payload
//! of a method frame or of a content header. Out: names, numbers and texts; of a login nothing.

use std::sync::Arc;

/// A method, by its class and number.
#[derive(Debug, PartialEq)]
pub struct Method {
    /// Class id.
    pub class: u16,
    /// Method id.
    pub id: u16,
    /// `class.method`.
    pub name: &'static str,
    /// Part it takes in an exchange.
    pub part: Part,
    /// Who sends it.
    pub side: Side,
}

/// What a method is to others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    /// It waits for its answer.
    Asks,
    /// It answers the method of this number of its class.
    Answers(u16),
    /// Neither.
    Alone,
    /// Neither, and content follows.
    Carries,
    /// It answers the method of this number, and content follows.
    AnswersWith(u16),
}

/// Who sends a method.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Side {
    /// Who connected.
    Client,
    /// The broker.
    Server,
    /// Both.
    Either,
}

use Part::{Alone, Answers, AnswersWith, Asks, Carries};
use Side::{Client, Either, Server};

const fn method(class: u16, id: u16, name: &'static str, part: Part, side: Side) -> Method {
    Method { class, id, name, part, side }
}

static METHODS: &[Method] = &[
    method(10, 10, "connection.start", Asks, Server),
    method(10, 11, "connection.start-ok", Answers(10), Client),
    method(10, 20, "connection.secure", Asks, Server),
    method(10, 21, "connection.secure-ok", Answers(20), Client),
    method(10, 30, "connection.tune", Asks, Server),
    method(10, 31, "connection.tune-ok", Answers(30), Client),
    method(10, 40, "connection.open", Asks, Client),
    method(10, 41, "connection.open-ok", Answers(40), Server),
    method(10, 50, "connection.close", Asks, Either),
    method(10, 51, "connection.close-ok", Answers(50), Either),
    method(10, 60, "connection.blocked", Alone, Server),
    method(10, 61, "connection.unblocked", Alone, Server),
    method(10, 70, "connection.update-secret", Asks, Client),
    method(10, 71, "connection.update-secret-ok", Answers(70), Server),
    method(20, 10, "channel.open", Asks, Client),
    method(20, 11, "channel.open-ok", Answers(10), Server),
    method(20, 20, "channel.flow", Asks, Either),
    method(20, 21, "channel.flow-ok", Answers(20), Either),
    method(20, 40, "channel.close", Asks, Either),
    method(20, 41, "channel.close-ok", Answers(40), Either),
    method(30, 10, "access.request", Asks, Client),
    method(30, 11, "access.request-ok", Answers(10), Server),
    method(40, 10, "exchange.declare", Asks, Client),
    method(40, 11, "exchange.declare-ok", Answers(10), Server),
    method(40, 20, "exchange.delete", Asks, Client),
    method(40, 21, "exchange.delete-ok", Answers(20), Server),
    method(40, 30, "exchange.bind", Asks, Client),
    method(40, 31, "exchange.bind-ok", Answers(30), Server),
    method(40, 40, "exchange.unbind", Asks, Client),
    method(40, 51, "exchange.unbind-ok", Answers(40), Server),
    method(50, 10, "queue.declare", Asks, Client),
    method(50, 11, "queue.declare-ok", Answers(10), Server),
    method(50, 20, "queue.bind", Asks, Client),
    method(50, 21, "queue.bind-ok", Answers(20), Server),
    method(50, 30, "queue.purge", Asks, Client),
    method(50, 31, "queue.purge-ok", Answers(30), Server),
    method(50, 40, "queue.delete", Asks, Client),
    method(50, 41, "queue.delete-ok", Answers(40), Server),
    method(50, 50, "queue.unbind", Asks, Client),
    method(50, 51, "queue.unbind-ok", Answers(50), Server),
    method(60, 10, "basic.qos", Asks, Client),
    method(60, 11, "basic.qos-ok", Answers(10), Server),
    method(60, 20, "basic.consume", Asks, Client),
    method(60, 21, "basic.consume-ok", Answers(20), Server),
    method(60, 30, "basic.cancel", Asks, Either),
    method(60, 31, "basic.cancel-ok", Answers(30), Either),
    method(60, 40, "basic.publish", Carries, Client),
    method(60, 50, "basic.return", Carries, Server),
    method(60, 60, "basic.deliver", Carries, Server),
    method(60, 70, "basic.get", Asks, Client),
    method(60, 71, "basic.get-ok", AnswersWith(70), Server),
    method(60, 72, "basic.get-empty", Answers(70), Server),
    method(60, 80, "basic.ack", Alone, Either),
    method(60, 90, "basic.reject", Alone, Client),
    method(60, 100, "basic.recover-async", Alone, Client),
    method(60, 110, "basic.recover", Asks, Client),
    method(60, 111, "basic.recover-ok", Answers(110), Server),
    method(60, 120, "basic.nack", Alone, Either),
    method(85, 10, "confirm.select", Asks, Client),
    method(85, 11, "confirm.select-ok", Answers(10), Server),
    method(90, 10, "tx.select", Asks, Client),
    method(90, 11, "tx.select-ok", Answers(10), Server),
    method(90, 20, "tx.commit", Asks, Client),
    method(90, 21, "tx.commit-ok", Answers(20), Server),
    method(90, 30, "tx.rollback", Asks, Client),
    method(90, 31, "tx.rollback-ok", Answers(30), Server),
];

/// What is kept of a method and of the content it carries.
#[derive(Debug)]
pub struct Message {
    /// Which.
    pub method: &'static Method,
    /// Channel.
    pub channel: u16,
    /// How often the channel had been opened.
    pub opened: u16,
    /// The client sent it.
    pub from_client: bool,
    /// It asks for no answer.
    pub no_wait: bool,
    /// Virtual host of the connection.
    pub vhost: Option<Arc<str>>,
    /// Arguments.
    pub arguments: Arguments,
}

/// Arguments of a method and properties of its content; empty texts are `None`.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "the names are those of the specification")]
pub struct Arguments {
    pub vhost: Text,
    pub exchange: Text,
    pub routing_key: Text,
    pub queue: Text,
    pub consumer_tag: Text,
    pub delivery_tag: Option<i64>,
    pub redelivered: Option<bool>,
    pub reply_code: Option<i32>,
    pub reply_text: Text,
    pub body_len: Option<i64>,
    pub content_type: Text,
}

type Text = Option<Box<str>>;

/// The method a payload begins with.
pub fn method_of(payload: &[u8]) -> Option<&'static Method> {
    let (class, id) = (u16_at(payload, 0)?, u16_at(payload, 2)?);
    let at = METHODS.binary_search_by_key(&(class, id), |method| (method.class, method.id)).ok()?;
    METHODS.get(at)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

impl Arguments {
    /// Reads the arguments of a method, up to where they break off; true where no answer is wanted.
    pub fn read(&mut self, method: &Method, payload: &[u8]) -> bool {
        let mut rest = Rest(payload.get(4..).unwrap_or_default());
        self.read_all(method, &mut rest).unwrap_or(false)
    }

    fn read_all(&mut self, method: &Method, rest: &mut Rest<'_>) -> Option<bool> {
        // The bit of `no-wait` among the bits of the method, which come in one octet.
        let mut no_wait = None;
        match (method.class, method.id) {
            (10, 40) => self.vhost = rest.text()?,
            (10, 50) | (20, 40) => {
                self.reply_code = Some(rest.u16()?.into());
                self.reply_text = rest.text()?;
            }
            (10, 60) => self.reply_text = rest.text()?,
            (40, 10) => {
                rest.u16()?;
                self.exchange = rest.text()?;
                rest.text()?;
                no_wait = Some(4);
            }
            (40, 20) => {
                rest.u16()?;
                self.exchange = rest.text()?;
                no_wait = Some(1);
            }
            (40, 30 | 40) => {
                rest.u16()?;
                self.exchange = rest.text()?;
                rest.text()?;
                self.routing_key = rest.text()?;
                no_wait = Some(0);
            }
            (50, 10) => {
                rest.u16()?;
                self.queue = rest.text()?;
                no_wait = Some(4);
            }
            (50, 11) => self.queue = rest.text()?,
            (50, 20 | 50) => {
                rest.u16()?;
                self.queue = rest.text()?;
                self.exchange = rest.text()?;
                self.routing_key = rest.text()?;
                no_wait = (method.id == 20).then_some(0);
            }
            (50, 30 | 40) => {
                rest.u16()?;
                self.queue = rest.text()?;
                no_wait = Some(if method.id == 30 { 0 } else { 2 });
            }
            (60, 20) => {
                rest.u16()?;
                self.queue = rest.text()?;
                self.consumer_tag = rest.text()?;
                no_wait = Some(3);
            }
            (60, 30) => {
                self.consumer_tag = rest.text()?;
                no_wait = Some(0);
            }
            (60, 21 | 31) => self.consumer_tag = rest.text()?,
            (60, 40) => {
                rest.u16()?;
                self.destination(rest)?;
            }
            (60, 50) => {
                self.reply_code = Some(rest.u16()?.into());
                self.reply_text = rest.text()?;
                self.destination(rest)?;
            }
            (60, 60) => {
                self.consumer_tag = rest.text()?;
                self.delivery(rest)?;
            }
            (60, 70) => {
                rest.u16()?;
                self.queue = rest.text()?;
            }
            (60, 71) => self.delivery(rest)?,
            (60, 80 | 90 | 120) => self.delivery_tag = i64::try_from(rest.u64()?).ok(),
            (85, 10) => no_wait = Some(0),
            _ => {}
        }
        match no_wait {
            Some(bit) => Some(rest.u8()? >> bit & 1 == 1),
            None => Some(false),
        }
    }

    fn destination(&mut self, rest: &mut Rest<'_>) -> Option<()> {
        self.exchange = rest.text()?;
        self.routing_key = rest.text()?;
        Some(())
    }

    fn delivery(&mut self, rest: &mut Rest<'_>) -> Option<()> {
        self.delivery_tag = i64::try_from(rest.u64()?).ok();
        self.redelivered = Some(rest.u8()? & 1 == 1);
        self.destination(rest)
    }

    /// Reads a content header (section 2.3.5.2): class, weight, size of the body, then the properties its flags announce.
    pub fn read_content(&mut self, payload: &[u8]) -> Option<u64> {
        const HAS_CONTENT_TYPE: u16 = 1 << 15;
        let mut rest = Rest(payload);
        rest.u16()?;
        rest.u16()?;
        let len = rest.u64()?;
        self.body_len = i64::try_from(len).ok();
        if rest.u16().is_some_and(|flags| flags & HAS_CONTENT_TYPE != 0) {
            self.content_type = rest.text().flatten();
        }
        Some(len)
    }

    /// Bytes held beside its own.
    pub fn memory(&self) -> usize {
        [
            &self.vhost,
            &self.exchange,
            &self.routing_key,
            &self.queue,
            &self.consumer_tag,
            &self.reply_text,
            &self.content_type,
        ]
        .into_iter()
        .flatten()
        .map(|text| text.len())
        .sum()
    }
}

/// Bytes not yet read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).and_then(|bytes| bytes.first().copied())
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_be_bytes)
    }

    /// A short string: at most 255 bytes.
    fn text(&mut self) -> Option<Text> {
        let len = self.u8()?;
        let text = String::from_utf8_lossy(self.take(len.into())?);
        Some((!text.is_empty()).then(|| text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(payload: &[u8]) -> (Arguments, bool) {
        let mut arguments = Arguments::default();
        let no_wait = arguments.read(method_of(payload).expect("a method"), payload);
        (arguments, no_wait)
    }

    #[test]
    fn methods_are_sorted_and_answers_have_their_question() {
        assert!(METHODS.is_sorted_by_key(|method| (method.class, method.id)));
        for method in METHODS {
            if let Answers(id) | AnswersWith(id) = method.part {
                let asks = METHODS.iter().find(|other| (other.class, other.id) == (method.class, id));
                assert_eq!(asks.map(|asks| asks.part), Some(Asks), "{}", method.name);
            }
        }
    }

    #[test]
    fn arguments_of_some_methods() {
        let (publish, _) = read(b"\0\x3c\0\x28\0\0\x02ex\x03a.b\0");
        assert_eq!((publish.exchange.as_deref(), publish.routing_key.as_deref()), (Some("ex"), Some("a.b")));
        let (declare, no_wait) = read(b"\0\x32\0\x0a\0\0\x01q\x10\0\0\0\0");
        assert_eq!((declare.queue.as_deref(), no_wait), (Some("q"), true));
        let (deliver, _) = read(b"\0\x3c\0\x3c\x01t\0\0\0\0\0\0\0\x07\x01\0\x01q");
        assert_eq!(
            (deliver.delivery_tag, deliver.redelivered, deliver.exchange),
            (Some(7), Some(true), None)
        );
        let (close, _) = read(b"\0\x14\0\x28\x01\x94\x09NOT_FOUND\0\x32\0\x0a");
        assert_eq!((close.reply_code, close.reply_text.as_deref()), (Some(404), Some("NOT_FOUND")));
    }

    #[test]
    fn what_breaks_off_keeps_what_came_before() {
        let (publish, _) = read(b"\0\x3c\0\x28\0\0\x02ex\x09a");
        assert_eq!((publish.exchange.as_deref(), publish.routing_key), (Some("ex"), None));
        assert!(method_of(b"\0\x3c\0").is_none() && method_of(b"\0\x3c\0\x29").is_none());
        let mut arguments = Arguments::default();
        assert_eq!(arguments.read_content(b"\0\x3c\0\0\0\0\0\0\0\0\0\x05\x80\0\x02a"), Some(5));
        assert_eq!((arguments.body_len, arguments.content_type), (Some(5), None));
    }
}
