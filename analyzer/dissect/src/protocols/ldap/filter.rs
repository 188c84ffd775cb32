//! A search filter as people write it (RFC 4515). In: the filter, whose depth `ldap-parser` bounds. Out: a text of bounded length.

use std::fmt::{self, Write};

use ldap_parser::filter::{Filter, Substring};

/// Bytes kept.
const TEXT: usize = 1024;

/// The filter as a text, cut where it is too long.
pub fn text(filter: &Filter<'_>) -> String {
    let mut text = Cut(String::new());
    // It ends where the text is full.
    let _ = write(&mut text, filter);
    text.0
}

struct Cut(String);

impl Write for Cut {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = TEXT - self.0.len();
        self.0.push_str(&more[..more.floor_char_boundary(room)]);
        if more.len() > room { Err(fmt::Error) } else { Ok(()) }
    }
}

fn write(out: &mut Cut, filter: &Filter<'_>) -> fmt::Result {
    out.write_char('(')?;
    match filter {
        Filter::And(all) => list(out, '&', all)?,
        Filter::Or(any) => list(out, '|', any)?,
        Filter::Not(one) => list(out, '!', std::slice::from_ref(&**one))?,
        Filter::EqualityMatch(of) => item(out, &of.attribute_desc.0, "=", &of.assertion_value)?,
        Filter::GreaterOrEqual(of) => item(out, &of.attribute_desc.0, ">=", &of.assertion_value)?,
        Filter::LessOrEqual(of) => item(out, &of.attribute_desc.0, "<=", &of.assertion_value)?,
        Filter::ApproxMatch(of) => item(out, &of.attribute_desc.0, "~=", &of.assertion_value)?,
        Filter::Present(name) => write!(out, "{}=*", name.0)?,
        Filter::Substrings(of) => {
            write!(out, "{}=", of.filter_type.0)?;
            for (at, part) in of.substrings.iter().enumerate() {
                match part {
                    Substring::Initial(value) => escaped(out, &value.0)?,
                    Substring::Any(value) | Substring::Final(value) => {
                        out.write_char('*')?;
                        escaped(out, &value.0)?;
                    }
                }
                let is_last = at + 1 == of.substrings.len();
                if is_last && !matches!(part, Substring::Final(_)) {
                    out.write_char('*')?;
                }
            }
        }
        Filter::ExtensibleMatch(of) => {
            write!(out, "{}", of.rule_type.as_ref().map_or("", |name| &name.0))?;
            if of.dn_attributes == Some(true) {
                out.write_str(":dn")?;
            }
            if let Some(rule) = &of.matching_rule {
                write!(out, ":{}", rule.0)?;
            }
            item(out, "", ":=", &of.assertion_value.0)?;
        }
    }
    out.write_char(')')
}

fn list(out: &mut Cut, sign: char, filters: &[Filter<'_>]) -> fmt::Result {
    out.write_char(sign)?;
    filters.iter().try_for_each(|filter| write(out, filter))
}

fn item(out: &mut Cut, name: &str, sign: &str, value: &[u8]) -> fmt::Result {
    write!(out, "{name}{sign}")?;
    escaped(out, value)
}

/// Bytes that mean something in a filter, and those that are no text, by their number (RFC 4515 section 3).
fn escaped(out: &mut Cut, value: &[u8]) -> fmt::Result {
    for chunk in value.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '*' | '(' | ')' | '\\' | '\0'..='\x1f' => write!(out, "\\{:02x}", letter as u32)?,
                letter => out.write_char(letter)?,
            }
        }
        chunk.invalid().iter().try_for_each(|byte| write!(out, "\\{byte:02x}"))?;
    }
    Ok(())
}
