//! Text from outside on its way to a person: what came from the wire, a manifest, a log or a cluster must not steer a terminal, nor
//! look like other text than it is. In: any text. Out: the same with control characters and invisible format characters spelled out.
//! JSON spells them in its own way, with the same value.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

/// Control characters (C0 but the line feed, DEL, C1), and format characters that are invisible or change the direction of others.
fn is_hidden(character: char) -> bool {
    match character {
        '\n' => false,
        '\u{ad}'
        | '\u{34f}'
        | '\u{61c}'
        | '\u{115f}'..='\u{1160}'
        | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' => true,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' => true,
        '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}' => true,
        other => other.is_control(),
    }
}

fn spell(character: char, out: &mut String) {
    let _ = match character {
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        ascii if ascii.is_ascii() => write!(out, "\\x{:02x}", u32::from(ascii)),
        other => write!(out, "\\u{{{:x}}}", u32::from(other)),
    };
}

fn replaced(text: &str, is_bad: impl Fn(char) -> bool, spell: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.contains(&is_bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_bad(character) { spell(character, &mut out) } else { out.push(character) }
    }
    Cow::Owned(out)
}

/// A text of one or more lines.
pub fn shown(text: &str) -> Cow<'_, str> {
    replaced(text, is_hidden, spell)
}

/// A text that must stay in its line.
pub fn shown_in_line(text: &str) -> Cow<'_, str> {
    replaced(text, |character| character == '\n' || is_hidden(character), spell)
}

/// JSON, where line feeds stand between texts only.
pub fn shown_json(text: &str) -> Cow<'_, str> {
    replaced(text, is_hidden, |character, out| {
        for unit in character.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    })
}

/// How a [`Shown`] spells.
pub type Spelling = fn(&str) -> Cow<'_, str>;

/// A writer that lets nothing else through. Bytes that are no UTF-8 are spelled out as well.
pub struct Shown<W: Write> {
    to: W,
    spelling: Spelling,
    /// The start of a character whose rest has not come yet.
    begun: Vec<u8>,
}

impl<W: Write> Shown<W> {
    /// Lines of text.
    pub fn text(to: W) -> Shown<W> {
        Shown { to, spelling: shown, begun: Vec::new() }
    }

    /// JSON.
    pub fn json(to: W) -> Shown<W> {
        Shown { to, spelling: shown_json, begun: Vec::new() }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        for chunk in bytes.utf8_chunks() {
            self.to.write_all((self.spelling)(chunk.valid()).as_bytes())?;
            for byte in chunk.invalid() {
                write!(self.to, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl<W: Write> Write for Shown<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let joined;
        let mut all = bytes;
        if !self.begun.is_empty() {
            joined = [std::mem::take(&mut self.begun).as_slice(), bytes].concat();
            all = &joined;
        }
        // At most three bytes at the end can be the start of a character.
        if let Some(kept) = unfinished(all) {
            self.begun = all[kept..].to_vec();
            all = &all[..kept];
        }
        self.put(all)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Where a character begins that the bytes end in the middle of.
fn unfinished(bytes: &[u8]) -> Option<usize> {
    let start = bytes.len().saturating_sub(3);
    (start..bytes.len()).find(|at| {
        let wanted = match bytes[*at] {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 0,
        };
        wanted > bytes.len() - at
    })
}

impl<W: Write> Drop for Shown<W> {
    fn drop(&mut self) {
        let begun = std::mem::take(&mut self.begun);
        let _ = self.put(&begun);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_invisible_characters_are_spelled_out_and_all_else_is_kept() {
        assert_eq!(
            shown("a\x1b[31mé 日本 😀\n\x00\x7f\u{9b}31m"),
            "a\\x1b[31mé 日本 😀\n\\x00\\x7f\\u{9b}31m"
        );
        assert_eq!(shown("\r\n\tx"), "\\r\n\\tx");
        assert_eq!(shown_in_line("a\nb"), "a\\nb");
        for hidden in
            ["\u{200b}", "\u{200f}", "\u{202a}", "\u{202e}", "\u{2066}", "\u{feff}", "\u{e0041}", "\u{2028}"]
        {
            let code = u32::from(hidden.chars().next().unwrap());
            assert_eq!(shown(hidden), format!("\\u{{{code:x}}}"));
        }
        assert!(matches!(shown("plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_keeps_its_value() {
        let text = "\"\x7f\u{9b}\u{202e}\u{e0041}é\"";
        let spelled = shown_json(text);
        assert_eq!(spelled, "\"\\u007f\\u009b\\u202e\\udb40\\udc41é\"");
        assert_eq!(serde_json::from_str::<String>(&spelled).unwrap(), "\x7f\u{9b}\u{202e}\u{e0041}é");
    }

    #[test]
    fn characters_that_come_in_pieces_are_judged_whole() {
        let text = "é\u{9b}日\u{202e}😀\u{e0041}z";
        for size in 1..6 {
            let mut out = Vec::new();
            let mut writer = Shown::text(&mut out);
            text.as_bytes().chunks(size).for_each(|piece| writer.write_all(piece).unwrap());
            drop(writer);
            assert_eq!(String::from_utf8(out).unwrap(), "é\\u{9b}日\\u{202e}😀\\u{e0041}z", "{size}");
        }
        let mut out = Vec::new();
        Shown::text(&mut out).write_all(b"a\xff\x9bb\xe2\x80").unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a\\xff\\x9bb\\xe2\\x80");
    }
}
