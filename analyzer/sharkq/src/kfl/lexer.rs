//! Text to tokens, each with its byte span. In: an expression of KFL2 or KFL v1. Out: tokens, ended by [`Token::End`].
//! It never panics and never goes back over what it has read.

use super::error::{Fault, Span};

/// A word, number, text or sign.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// A name or keyword.
    Name(String),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Double(f64),
    /// A quoted text with its escapes resolved.
    Text(String),
    /// `r"…"`: a text without escapes; with `==` and `!=` a pattern, as in KFL v1.
    Raw(String),
    /// `b"…"`.
    Bytes(Vec<u8>),
    /// An operator or bracket.
    Sign(&'static str),
    /// The end of the text.
    End,
}

/// Longer expressions are refused.
pub const TEXT_BYTES: usize = 64 * 1024;

const SIGNS: &[&str] = &[
    "&&", "||", "==", "!=", "<=", ">=", "..", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",",
    "(", ")", "[", "]", "{", "}",
];

/// All tokens of a text.
pub fn tokens(text: &str) -> Result<Vec<(Token, Span)>, Fault> {
    if text.len() > TEXT_BYTES {
        let span = Span { start: 0, end: 0 };
        return Err(Fault::new(span, format!("the expression is longer than {TEXT_BYTES} bytes")));
    }
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blank();
        let start = lexer.at;
        let token = lexer.token()?;
        let done = token == Token::End;
        tokens.push((token, Span { start, end: lexer.at }));
        if done {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &str {
        let start = self.at;
        let rest = self.rest();
        self.at += rest.find(|character| !accept(character)).unwrap_or(rest.len());
        &self.text[start..self.at]
    }

    /// White space and comments; examples of the language have them as `#` and as `//`.
    fn skip_blank(&mut self) {
        loop {
            self.take_while(char::is_whitespace);
            if !self.rest().starts_with('#') && !self.rest().starts_with("//") {
                return;
            }
            self.take_while(|character| character != '\n');
        }
    }

    fn token(&mut self) -> Result<Token, Fault> {
        let Some(first) = self.peek() else { return Ok(Token::End) };
        if first.is_ascii_digit() {
            return self.number();
        }
        if let Some(token) = self.quoted()? {
            return Ok(token);
        }
        if first.is_alphabetic() || first == '_' {
            let word = self.take_while(|character| character.is_alphanumeric() || character == '_');
            return Ok(Token::Name(word.into()));
        }
        if let Some(sign) = SIGNS.iter().find(|sign| self.rest().starts_with(**sign)) {
            self.at += sign.len();
            return Ok(Token::Sign(sign));
        }
        Err(self.unknown(first))
    }

    fn unknown(&self, character: char) -> Fault {
        let span = Span { start: self.at, end: self.at + character.len_utf8() };
        let fault = Fault::new(span, format!("{character:?} means nothing here"));
        match character {
            '&' => fault.hint("write && for \"and\""),
            '|' => fault.hint("write || for \"or\""),
            '=' => fault.hint("write == to compare"),
            '“' | '”' | '‘' | '’' | '„' => fault.hint("write straight quotes: \"…\""),
            _ => fault,
        }
    }

    fn number(&mut self) -> Result<Token, Fault> {
        let start = self.at;
        if self.rest().starts_with("0x") || self.rest().starts_with("0X") {
            self.at += 2;
            let digits = self.take_while(|character| character.is_ascii_alphanumeric()).to_string();
            return i64::from_str_radix(&digits, 16)
                .map(Token::Int)
                .map_err(|_| self.bad_number(start, "no hexadecimal number that fits"));
        }
        self.take_while(|character| character.is_ascii_digit());
        let after = |lexer: &Lexer<'_>, n: usize| lexer.rest().chars().nth(n);
        let fraction = self.peek() == Some('.') && after(self, 1).is_some_and(|next| next.is_ascii_digit());
        if fraction {
            self.at += 1;
            self.take_while(|character| character.is_ascii_digit());
        }
        let exponent = matches!(self.peek(), Some('e' | 'E'));
        if exponent {
            self.at += 1;
            if matches!(self.peek(), Some('+' | '-')) {
                self.at += 1;
            }
            self.take_while(|character| character.is_ascii_digit());
        }
        let digits = self.text[start..self.at].to_string();
        // CEL writes unsigned numbers with a `u`; sizes and ports are all signed here.
        if !fraction && !exponent && matches!(self.peek(), Some('u' | 'U')) {
            self.at += 1;
        }
        if self.peek().is_some_and(|next| next.is_alphanumeric() || next == '_') {
            self.take_while(|character| character.is_alphanumeric() || character == '_');
            let written = &self.text[start..self.at];
            let hint = format!("for a time span write duration(\"{written}\")");
            return Err(self.bad_number(start, "no number").hint(hint));
        }
        if fraction || exponent {
            let value = digits.parse().map_err(|_| self.bad_number(start, "no number"))?;
            return Ok(Token::Double(value));
        }
        digits.parse().map(Token::Int).map_err(|_| self.bad_number(start, "too large for a 64-bit integer"))
    }

    fn bad_number(&self, start: usize, why: &str) -> Fault {
        let span = Span { start, end: self.at };
        Fault::new(span, format!("{} is {why}", &self.text[start..self.at]))
    }

    /// A text with an optional `r` and `b` before its quotes; `None` where no text begins.
    fn quoted(&mut self) -> Result<Option<Token>, Fault> {
        let prefix: String = self.rest().chars().take(2).take_while(|c| "rRbB".contains(*c)).collect();
        let quotes = &self.rest()[prefix.len()..];
        let Some(quote) = quotes.chars().next().filter(|quote| *quote == '"' || *quote == '\'') else {
            return Ok(None);
        };
        let triple = [quote; 3].iter().collect::<String>();
        let close = if quotes.starts_with(&triple) { triple } else { quote.to_string() };
        let is_raw = prefix.contains(['r', 'R']);
        let start = self.at;
        self.at += prefix.len() + close.len();
        let mut bytes = Vec::new();
        loop {
            if self.rest().starts_with(&close) {
                self.at += close.len();
                break;
            }
            let Some(character) = self.peek() else {
                let span = Span { start, end: self.at };
                return Err(Fault::new(span, "the text has no end").hint(format!("close it with {close}")));
            };
            self.at += character.len_utf8();
            if character == '\\' && !is_raw {
                self.escape(&mut bytes)?;
            } else if character == '\\' {
                // In raw texts a backslash keeps a quote from closing, and stays.
                bytes.push(b'\\');
                if let Some(next) = self.peek().filter(|next| *next == quote) {
                    self.at += 1;
                    bytes.push(next as u8);
                }
            } else {
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        if prefix.contains(['b', 'B']) {
            return Ok(Some(Token::Bytes(bytes)));
        }
        let span = Span { start, end: self.at };
        let text = String::from_utf8(bytes)
            .map_err(|_| Fault::new(span, "the text is not UTF-8").hint("write it as bytes: b\"…\""))?;
        Ok(Some(if is_raw { Token::Raw(text) } else { Token::Text(text) }))
    }

    /// What follows a backslash (CEL, "String and Bytes Values").
    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), Fault> {
        let start = self.at - 1;
        let fault = |lexer: &Lexer<'_>| {
            let span = Span { start, end: lexer.at };
            let written = &lexer.text[start..lexer.at];
            Fault::new(span, format!("{written} is no escape"))
                .hint("write a backslash as \\\\, or the text as r\"…\"")
        };
        let Some(kind) = self.peek() else { return Err(fault(self)) };
        self.at += kind.len_utf8();
        let simple = match kind {
            'n' => b'\n',
            't' => b'\t',
            'r' => b'\r',
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'v' => 11,
            '\\' | '"' | '\'' | '`' | '?' | '/' => kind as u8,
            'x' | 'X' => return self.code(2, 16, bytes).ok_or_else(|| fault(self)),
            'u' => return self.code(4, 16, bytes).ok_or_else(|| fault(self)),
            'U' => return self.code(8, 16, bytes).ok_or_else(|| fault(self)),
            '0'..='3' => {
                self.at -= 1;
                return self.code(3, 8, bytes).ok_or_else(|| fault(self));
            }
            _ => return Err(fault(self)),
        };
        bytes.push(simple);
        Ok(())
    }

    fn code(&mut self, digits: usize, radix: u32, bytes: &mut Vec<u8>) -> Option<()> {
        let written = self.rest().get(..digits)?;
        let number = u32::from_str_radix(written, radix).ok()?;
        self.at += digits;
        let character = char::from_u32(number)?;
        bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        Some(())
    }
}
