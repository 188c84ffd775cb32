//! What is kept of commands and replies, and the row of both.

use std::borrow::Cow;

use shark_schema::table::Block;
use shark_schema::tables::redis::{RedisBlock, RedisRow};

use super::Message;
use super::commands;
use super::value::{Shape, Texts};
use crate::layer::Written;

/// Bytes kept of a key.
const KEY: usize = 256;
/// Bytes kept of the other arguments.
const ARGUMENTS: usize = 1024;

/// A command, or a push: its kind, its channel and what came on it.
#[derive(Debug)]
pub struct Command {
    /// Upper case.
    pub name: Box<str>,
    /// First argument where it is a key.
    pub key: Option<Box<str>>,
    /// The others.
    pub args: Option<Box<str>>,
    /// How many arguments there were.
    pub arguments: usize,
    /// Database it is for.
    pub db: Option<i32>,
    /// The client asked for no reply.
    pub is_unanswered: bool,
}

/// A reply.
#[derive(Debug)]
pub struct Reply {
    /// Type in words.
    pub kind: &'static str,
    /// Its error.
    pub error: Option<Box<str>>,
    /// It holds something.
    pub found: Option<bool>,
    /// What it is where no command asked for it.
    pub push: Option<Command>,
}

impl Command {
    /// Of `count` words, of which the first are kept.
    pub fn new(texts: &Texts, count: usize, db: Option<i32>) -> Option<Command> {
        let word = texts.get(0)?;
        let mut name = String::from_utf8_lossy(&word[..word.len().min(commands::LONGEST)]).into_owned();
        name.make_ascii_uppercase();
        let has_key = commands::has_key(&name) || is_push(&name);
        let key = texts.get(1).filter(|_| has_key).map(|key| cut(&String::from_utf8_lossy(key), KEY).into());
        let arguments = count.saturating_sub(1);
        let args = arguments_text(&name, texts, usize::from(key.is_some()), arguments);
        Some(Command { name: name.into(), key, args, arguments, db, is_unanswered: false })
    }

    /// Of one word.
    pub fn named(name: &str) -> Option<Command> {
        Some(Command {
            name: name.into(),
            key: None,
            args: None,
            arguments: 0,
            db: None,
            is_unanswered: false,
        })
    }

    /// Bytes held beside its own.
    pub fn memory(&self) -> usize {
        let len = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        self.name.len() + len(&self.key) + len(&self.args)
    }
}

impl Reply {
    /// Of a value's shape.
    pub fn new(shape: &Shape) -> Reply {
        let error = (!shape.error.is_empty()).then(|| error_text(&shape.error));
        Reply { kind: kind_name(shape), error, found: shape.found, push: None }
    }

    /// Bytes held beside its own.
    pub fn memory(&self) -> usize {
        self.error.as_ref().map_or(0, |error| error.len()) + self.push.as_ref().map_or(0, Command::memory)
    }
}

/// Kinds of pushes that name their channel or key first.
fn is_push(upper: &str) -> bool {
    matches!(upper, "MESSAGE" | "PMESSAGE" | "SMESSAGE" | "INVALIDATE")
}

/// The arguments from `first` on, secrets left out.
fn arguments_text(upper: &str, texts: &Texts, first: usize, count: usize) -> Option<Box<str>> {
    let argument = |at: usize| texts.get(at + 1);
    let mut text = String::new();
    for at in first..count.min(texts.len()) {
        let Some(word) = argument(at) else { break };
        if at > first {
            text.push(' ');
        }
        match commands::is_secret(upper, at, count, argument) {
            true => text.push('?'),
            false => text.push_str(&String::from_utf8_lossy(word)),
        }
        if text.len() > ARGUMENTS {
            break;
        }
    }
    (!text.is_empty()).then(|| cut(&text, ARGUMENTS).into())
}

/// The server repeats what it did not understand, which may have been a password.
fn error_text(error: &[u8]) -> Box<str> {
    let text = String::from_utf8_lossy(error);
    let text = text.split_once(", with args beginning with").map_or(text.as_ref(), |(before, _)| before);
    text.into()
}

fn cut(text: &str, longest: usize) -> &str {
    &text[..text.floor_char_boundary(longest)]
}

fn kind_name(shape: &Shape) -> &'static str {
    match shape.kind {
        _ if shape.is_null => "null",
        b'+' => "simple",
        b'-' | b'!' => "error",
        b':' => "int",
        b'$' => "bulk",
        b'%' => "map",
        b'~' => "set",
        b'>' => "push",
        b'#' => "boolean",
        b',' => "double",
        b'(' => "big_number",
        b'=' => "verbatim",
        _ => "array",
    }
}

/// Appends the row; at least one half is there.
pub fn write(request: Option<&Message>, response: Option<&Message>, columns: &mut RedisBlock) -> Written {
    let command = match request {
        Some(Message::Command(command)) => Some(command),
        _ => None,
    };
    let reply = match response {
        Some(Message::Reply(reply)) => Some(reply),
        _ => None,
    };
    let said = command.or(reply.and_then(|reply| reply.push.as_ref()));
    let reads = command.is_some_and(|command| commands::reads(&command.name));
    let error = reply.and_then(|reply| reply.error.as_deref());
    let row = RedisRow {
        command: said.map(|command| command.name.as_ref()),
        key: said.and_then(|command| command.key.as_deref()),
        args: said.and_then(|command| command.args.as_deref()),
        db_index: command.and_then(|command| command.db),
        reply_type: reply.map(|reply| reply.kind),
        reply_error: error,
        hit: reply.filter(|reply| reads && reply.error.is_none()).and_then(|reply| reply.found),
        ..RedisRow::default()
    };
    Written {
        bytes: columns.append(&row),
        is_error: reply.map(|reply| reply.error.is_some()),
        error_type: error.and_then(|error| error.split(' ').next()).map(|code| Cow::Owned(code.to_owned())),
        ..Written::default()
    }
}
