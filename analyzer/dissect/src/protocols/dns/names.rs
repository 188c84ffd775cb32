//! Domain names: compressed on the wire (RFC 1035 section 4.1.4), text in a row.

/// Most pointers followed for one name; each must point backwards, so that no name loops.
const JUMPS: usize = 32;
/// Longest name in octets (RFC 1035 section 2.3.4).
const LONGEST: usize = 255;

/// Reads the name at `at`: its text without the final dot (the root is empty), and the offset behind it.
pub fn read(message: &[u8], at: usize, text: &mut String) -> Option<usize> {
    let (mut at, mut behind, mut jumps, mut octets) = (at, None, 0, 0);
    let begin = text.len();
    loop {
        match *message.get(at)? {
            0 => return Some(behind.unwrap_or(at + 1)),
            len @ 1..=63 => {
                let label = message.get(at + 1..at + 1 + len as usize)?;
                octets += label.len() + 1;
                if octets > LONGEST {
                    return None;
                }
                if text.len() > begin {
                    text.push('.');
                }
                append(text, label);
                at += 1 + len as usize;
            }
            high @ 192.. => {
                let target = usize::from(high & 0x3f) << 8 | usize::from(*message.get(at + 1)?);
                behind.get_or_insert(at + 2);
                jumps += 1;
                if target >= at || jumps > JUMPS {
                    return None;
                }
                at = target;
            }
            _ => return None,
        }
    }
}

/// Room for a whole name of usual length, so that a text does not grow label by label.
const USUAL: usize = 64;

fn append(text: &mut String, label: &[u8]) {
    text.reserve(if text.is_empty() { USUAL } else { label.len() });
    let is_plain = |byte: &u8| matches!(byte, 0x21..=0x7e) && !matches!(byte, b'.' | b'\\');
    match std::str::from_utf8(label) {
        Ok(plain) if label.iter().all(is_plain) => text.push_str(plain),
        _ => label.iter().for_each(|byte| push(text, *byte)),
    }
}

/// One octet as a master file writes it (RFC 1035 section 5.1).
fn push(text: &mut String, byte: u8) {
    match byte {
        b'.' | b'\\' => text.extend(['\\', byte as char]),
        0x21..=0x7e => text.push(byte as char),
        _ => text.push_str(&format!("\\{byte:03}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(message: &[u8], at: usize) -> Option<(String, usize)> {
        let mut text = String::new();
        read(message, at, &mut text).map(|behind| (text, behind))
    }

    #[test]
    fn plain_compressed_and_root() {
        let message = b"\x03www\x07example\0\x04mail\xc0\x04\0";
        assert_eq!(name(message, 0), Some(("www.example".into(), 13)));
        assert_eq!(name(message, 13), Some(("mail.example".into(), 20)));
        assert_eq!(name(message, 20), Some((String::new(), 21)));
    }

    #[test]
    fn loops_and_cuts_end() {
        assert_eq!(name(b"\xc0\x00", 0), None);
        assert_eq!(name(b"\x01a\xc0\x00", 2), None);
        assert_eq!(name(b"\x05ab", 0), None);
        assert_eq!(name(b"\x01.\x01\xff\0", 0), Some(("\\..\\255".into(), 5)));
    }
}
