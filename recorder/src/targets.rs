//! Which interfaces are to be recorded: names, and patterns with `*` and `?`.
//! In: what --iface was given. Out: whether a device is meant, and why.

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets {
    texts: Vec<String>,
}

impl Targets {
    pub fn new(texts: &[String]) -> Targets {
        Targets { texts: texts.to_vec() }
    }

    /// Names without a wildcard: devices that have to be there from the start.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(String::as_str).filter(|text| !is_pattern(text))
    }

    /// None for a device that is not meant. A name says more than a pattern.
    pub fn why(&self, device: &str) -> Option<String> {
        if self.is_named(device) {
            return Some("named by --iface".to_owned());
        }
        let pattern = self.texts.iter().find(|text| is_pattern(text) && matches(text, device))?;
        Some(format!("matches --iface '{pattern}'"))
    }

    /// Whether no two devices can be meant at a time.
    pub fn is_one_name(&self) -> bool {
        matches!(&self.texts[..], [text] if !is_pattern(text))
    }

    pub fn is_named(&self, device: &str) -> bool {
        self.names().any(|name| name == device)
    }
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// `*` is any number of characters, `?` is one. The names of devices have at most 15.
fn matches(pattern: &str, name: &str) -> bool {
    let mut rest = name.chars();
    let mut of = pattern.chars();
    match of.next() {
        None => name.is_empty(),
        Some('*') => (0..=name.len())
            .filter(|at| name.is_char_boundary(*at))
            .any(|at| matches(of.as_str(), &name[at..])),
        Some('?') => rest.next().is_some() && matches(of.as_str(), rest.as_str()),
        Some(letter) => rest.next() == Some(letter) && matches(of.as_str(), rest.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_patterns() {
        let targets = Targets::new(&["eth0".to_owned(), "veth*".to_owned(), "*-?".to_owned()]);
        assert_eq!(targets.names().collect::<Vec<_>>(), ["eth0"]);
        assert_eq!(targets.why("eth0").as_deref(), Some("named by --iface"));
        assert_eq!(targets.why("veth12ab").as_deref(), Some("matches --iface 'veth*'"));
        assert_eq!(targets.why("pod-ü").as_deref(), Some("matches --iface '*-?'"));
        for other in ["eth01", "vet", "lo", "", "pod-12", "eth"] {
            assert_eq!(targets.why(other), None, "{other}");
        }
        assert!(matches("*", "") && matches("a**b", "ab") && !matches("?", ""));
    }
}
