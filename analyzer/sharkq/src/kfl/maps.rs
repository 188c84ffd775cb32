//! Maps and lists: the value of a key, an element, what is in what. An absent key or element is NULL, so the row does not
//! match; maps that nothing recorded says are empty.

use datafusion::common::ScalarValue;
use datafusion::functions::core::expr_fn::{coalesce, get_field};
use datafusion::functions_nested::expr_fn::{array_element, array_has, map_extract, map_keys};
use datafusion::logical_expr::{Expr, lit};

use super::check::{Check, a, whole_list};
use super::error::Fault;
use super::functions::{Network, cidr_contains};
use super::syntax::{Comparison, Kind, Node};
use super::types::{Element, Fold, Term, Type, balanced};

/// The value of a key.
pub fn value(map: &Term, key: &Term) -> Term {
    if map.is_nowhere() {
        return Term::literal(Type::Text, ScalarValue::Utf8(None));
    }
    // The short form has SQL of its own only over columns.
    let raw = match (key.constant_text(), &map.raw) {
        (Some(text), Expr::Column(_)) => get_field(map.raw.clone(), text),
        _ => array_element(map_extract(map.raw.clone(), key.value()), lit(1_i64)),
    };
    Term::new(Type::Text, raw)
}

/// The names in a map.
pub fn keys(map: &Term) -> Term {
    let kind = Type::List(Element::Text);
    if map.is_nowhere() {
        return Term::literal(kind, super::check::empty_list());
    }
    Term { fold: map.fold, ..Term::new(kind, map_keys(map.raw.clone())) }
}

impl Check {
    /// `a[b]`
    pub fn element(&mut self, inner: &Node, index: &Node) -> Result<Term, Fault> {
        let (term, at) = (self.term(inner)?, self.term(index)?);
        match (term.kind, at.kind) {
            (Type::Map, Type::Text | Type::Ip) => Ok(value(&term, &at.folded(term.fold))),
            (Type::Map, _) => {
                Err(Fault::new(index.span, format!("keys are strings, this is {}", a(at.kind))))
            }
            (Type::List(element), Type::Int | Type::Micros) => {
                // The engine counts from 1, and from the end below 0.
                let at = self.number(&at);
                let fits = at.clone().between(lit(0_i64), lit(i64::from(i32::MAX)));
                let place = datafusion::logical_expr::when(fits, at + lit(1_i64)).end();
                let place = place.map_err(|error| Fault::new(index.span, error.strip_backtrace()))?;
                let raw = array_element(whole_list(&term), place);
                Ok(Term { fold: term.fold, ..Term::new(element.one(), raw) })
            }
            (Type::List(_), _) => {
                Err(Fault::new(index.span, format!("elements are counted from 0, this is {}", a(at.kind))))
            }
            _ => {
                let fault = Fault::new(inner.span, format!("{} has no elements", a(term.kind)));
                Err(if term.kind == Type::Text {
                    fault.hint("look inside it with .contains(\"…\") or .matches(\"…\")")
                } else {
                    fault
                })
            }
        }
    }

    /// `a in b`
    pub fn membership(&mut self, left: &Node, right: &Node, positive: bool) -> Result<Expr, Fault> {
        let term = self.term(left)?;
        if let Kind::List(parts) = &right.kind {
            return self.one_of(&term, left, parts, positive);
        }
        let container = self.term(right)?;
        match container.kind {
            Type::List(element) => {
                if Element::of(term.kind) != Some(element) && element != Element::Nothing {
                    let reason = format!("{} is never in a {}", a(term.kind), container.kind.name());
                    return Err(Fault::new(left.span, reason));
                }
                term.any_name(positive, |name| {
                    let one = name.folded(container.fold);
                    let one = if self.is_number(one.kind) { self.number(&one) } else { one.value() };
                    Ok(default_false(array_has(container.raw.clone(), one), positive))
                })
            }
            Type::Map if matches!(term.kind, Type::Text | Type::Ip) => {
                if container.is_nowhere() {
                    return Ok(lit(false));
                }
                let has = array_has(keys(&container).raw, term.folded(container.fold).value());
                Ok(default_false(has, positive))
            }
            Type::Map => Err(Fault::new(left.span, format!("keys are strings, this is {}", a(term.kind)))),
            Type::Text if term.kind == Type::Ip => self.network(&term, &container, right),
            kind => {
                let fault =
                    Fault::new(right.span, format!("`in` looks into lists and maps; this is {}", a(kind)));
                Err(match kind {
                    Type::Text => fault.hint("texts are searched with text.contains(part)"),
                    _ => fault,
                })
            }
        }
    }

    /// One of the parts of a list that is written out.
    fn one_of(&mut self, term: &Term, left: &Node, parts: &[Node], positive: bool) -> Result<Expr, Fault> {
        let mut any = Vec::new();
        for part in parts {
            let other = self.term(part)?;
            self.note_port(term, &other);
            let is_network = other.constant_text().is_some_and(|text| text.contains('/'));
            let equal = if term.kind == Type::Ip && is_network {
                self.network(term, &other, part)?
            } else {
                self.compared(Comparison::Equal, term, &other, left.span.to(part.span), positive)?
            };
            any.push(equal);
        }
        Ok(balanced(any, Expr::or).unwrap_or(lit(false)))
    }

    /// An address in a network.
    fn network(&mut self, ip: &Term, network: &Term, node: &Node) -> Result<Expr, Fault> {
        match network.constant_text() {
            Some(text) if Network::parse(text).is_some() => {
                let contains = cidr_contains().call(vec![lit(text), ip.raw.clone()]);
                Ok(coalesce(vec![contains, lit(false)]))
            }
            Some(text) => Err(Fault::new(node.span, format!("{text} is no network"))
                .hint("write it as \"10.0.0.0/8\" or \"fd00::/8\"")),
            None => Err(Fault::new(node.span, "a network is written out").hint("write it as \"10.0.0.0/8\"")),
        }
    }

    /// How many characters, bytes, elements or keys.
    pub fn size(&self, term: &Term) -> Expr {
        use datafusion::functions::string::expr_fn::octet_length;
        use datafusion::functions::unicode::expr_fn::character_length;
        use datafusion::functions_nested::expr_fn::cardinality;
        let size = match term.kind {
            Type::Text | Type::Ip => character_length(term.value()),
            Type::Bytes => octet_length(term.value()),
            Type::List(_) => cardinality(whole_list(term)),
            _ if term.is_nowhere() => return lit(0_i64),
            _ => cardinality(term.raw.clone()),
        };
        let size = datafusion::logical_expr::cast(size, arrow::datatypes::DataType::Int64);
        // Keys and elements that are not there are an error in texts, but an absent map or list is empty.
        if matches!(term.kind, Type::List(_) | Type::Map) { coalesce(vec![size, lit(0_i64)]) } else { size }
    }

    /// `map_get(map, key, default)`
    pub fn map_get(&mut self, map: &Node, key: &Node, default: &Node) -> Result<Term, Fault> {
        let (term, name, otherwise) = (self.term(map)?, self.term(key)?, self.term(default)?);
        let is_text = |term: &Term| matches!(term.kind, Type::Text | Type::Ip);
        for (fits, node, what) in [
            (term.kind == Type::Map, map, "a map"),
            (is_text(&name), key, "the key, a string"),
            (is_text(&otherwise), default, "the default, a string"),
        ] {
            if !fits {
                let reason = format!("{what}, is expected here").replace("a map,", "a map");
                return Err(Fault::new(node.span, reason).hint("map_get(request.headers, \"host\", \"\")"));
            }
        }
        let found = value(&term, &name.folded(term.fold)).raw;
        let fold = if term.fold == Fold::None { otherwise.fold } else { Fold::None };
        Ok(Term { fold, ..Term::new(Type::Text, coalesce(vec![found, otherwise.value()])) })
    }
}

fn default_false(expr: Expr, positive: bool) -> Expr {
    if positive { expr } else { coalesce(vec![expr, lit(false)]) }
}
