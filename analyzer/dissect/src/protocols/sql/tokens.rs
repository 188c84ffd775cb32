//! SQL text in tokens. In: a statement. Out: words, names, literals and signs with their places; space and comments are
//! passed. Whatever is open at the end of a text that was cut goes to its end.

use std::ops::Range;

/// Whose SQL it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Dialect {
    /// PostgreSQL.
    Postgresql,
    /// MySQL and MariaDB.
    Mysql,
}

/// A token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    /// A keyword or a name without quotes.
    Word(&'a str),
    /// A name, without its quotes.
    Name(&'a str),
    /// A text, a bit string, or a place for a parameter.
    Text,
    /// A number.
    Number,
    /// Any other sign.
    Symbol(char),
}

/// The tokens of a statement.
pub struct Tokens<'a> {
    text: &'a str,
    at: usize,
    dialect: Dialect,
}

impl<'a> Tokens<'a> {
    /// From the beginning.
    pub fn new(text: &'a str, dialect: Dialect) -> Tokens<'a> {
        Tokens { text, at: 0, dialect }
    }

    fn rest(&self) -> &'a [u8] {
        &self.text.as_bytes()[self.at..]
    }

    /// Passes space and comments.
    fn pass_space(&mut self) {
        loop {
            let rest = self.rest();
            let space = rest.iter().take_while(|byte| byte.is_ascii_whitespace() || **byte == 0).count();
            let len = match &rest[space..] {
                [b'-', b'-', comment @ ..] => 2 + line(comment),
                [b'#', comment @ ..] if self.dialect == Dialect::Mysql => 1 + line(comment),
                [b'/', b'*', comment @ ..] => 2 + block(comment, self.dialect == Dialect::Postgresql),
                _ => 0,
            };
            self.at += space + len;
            if len == 0 {
                return;
            }
        }
    }

    /// Length of a token that begins with these bytes, and what it is but for its text.
    fn token(&self, rest: &[u8], first: u8) -> (usize, Token<'static>) {
        let is_mysql = self.dialect == Dialect::Mysql;
        match (first, rest.get(1)) {
            (b'\'', _) => (quoted(rest, b'\'', is_mysql), Token::Text),
            (b'"', _) if is_mysql => (quoted(rest, b'"', true), Token::Text),
            (b'"', _) => (quoted(rest, b'"', false), Token::Name("")),
            (b'`', _) => (quoted(rest, b'`', false), Token::Name("")),
            // E'...' has backslashes (PostgreSQL 4.1.2.2); the others are bit, hexadecimal and national strings.
            (b'e' | b'E', Some(b'\'')) => (1 + quoted(&rest[1..], b'\'', true), Token::Text),
            (b'x' | b'X' | b'b' | b'B' | b'n' | b'N', Some(b'\'')) => {
                (1 + quoted(&rest[1..], b'\'', is_mysql), Token::Text)
            }
            (b'$', Some(b'0'..=b'9')) => (1 + run(&rest[1..], |byte| byte.is_ascii_digit()), Token::Text),
            (b'$', _) if !is_mysql => match dollar_quoted(rest) {
                Some(len) => (len, Token::Text),
                None => (1, Token::Symbol('$')),
            },
            (b'0'..=b'9', _) => (number(rest), Token::Number),
            (b'.', Some(b'0'..=b'9')) if !self.follows_name() => (number(rest), Token::Number),
            _ if is_word(first) => {
                (run(rest, |byte| is_word(byte) || byte.is_ascii_digit() || byte == b'$'), Token::Word(""))
            }
            _ => (1, Token::Symbol(first.into())),
        }
    }

    /// The dot behind a name qualifies it.
    fn follows_name(&self) -> bool {
        self.text[..self.at]
            .bytes()
            .next_back()
            .is_some_and(|byte| is_word(byte) || matches!(byte, b'"' | b'`'))
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = (Token<'a>, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        self.pass_space();
        let rest = self.rest();
        let first = *rest.first()?;
        let (len, token) = self.token(rest, first);
        let range = self.at..(self.at + len).min(self.text.len());
        self.at = range.end;
        let text = &self.text[range.clone()];
        let token = match token {
            Token::Word(_) => Token::Word(text),
            Token::Name(_) => Token::Name(text.trim_matches(['"', '`'])),
            token => token,
        };
        Some((token, range))
    }
}

/// Bytes outside of ASCII belong to words.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn run(bytes: &[u8], is_part: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| is_part(**byte)).count()
}

/// Up to the end of the line.
fn line(bytes: &[u8]) -> usize {
    memchr::memchr(b'\n', bytes).map_or(bytes.len(), |end| end + 1)
}

/// Up to the end of a comment; PostgreSQL's nest.
fn block(bytes: &[u8], nests: bool) -> usize {
    let (mut at, mut depth) = (0, 1_usize);
    while let Some(pair) = bytes.get(at..at + 2) {
        match pair {
            b"*/" => depth -= 1,
            b"/*" if nests => depth += 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// Length with both quotes; a quote that is doubled stands for itself, and so may one behind a backslash.
fn quoted(bytes: &[u8], quote: u8, escapes: bool) -> usize {
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        at += match byte {
            b'\\' if escapes => 2,
            byte if *byte == quote && bytes.get(at + 1) == Some(&quote) => 2,
            byte if *byte == quote => return at + 1,
            _ => 1,
        };
    }
    bytes.len()
}

/// `$tag$ ... $tag$`
fn dollar_quoted(bytes: &[u8]) -> Option<usize> {
    let tag = 2 + run(&bytes[1..], |byte| is_word(byte) || byte.is_ascii_digit());
    let (open, body) = bytes.split_at_checked(tag).filter(|(open, _)| open.ends_with(b"$"))?;
    Some(memchr::memmem::find(body, open).map_or(bytes.len(), |end| tag + end + tag))
}

/// Digits, hexadecimal ones too, a fraction and an exponent.
fn number(bytes: &[u8]) -> usize {
    let len = run(bytes, |byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_');
    let is_hexadecimal = matches!(bytes, [b'0', b'x' | b'X', ..]);
    match bytes.get(len..) {
        Some([b'+' | b'-', b'0'..=b'9', ..]) if !is_hexadecimal && matches!(bytes[len - 1], b'e' | b'E') => {
            len + 1 + run(&bytes[len + 1..], |byte| byte.is_ascii_digit())
        }
        _ => len,
    }
}
