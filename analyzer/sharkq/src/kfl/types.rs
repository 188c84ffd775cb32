//! Types of KFL and terms that have one. In: nothing. Out: a term = a type, the engine's expression, and what it is where
//! the row does not have it. It never evaluates anything but literals.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::functions::string::expr_fn::{lower, upper};
use datafusion::logical_expr::{Expr, lit};

/// The type of a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// True or false.
    Bool,
    /// A whole number.
    Int,
    /// A number with a fraction.
    Double,
    /// A text.
    Text,
    /// A text that is an address: `in` takes networks.
    Ip,
    /// Bytes.
    Bytes,
    /// A point in time.
    Time,
    /// A span of time; nanoseconds in the engine.
    Duration,
    /// A span of time that is a number of microseconds where a number is asked for; nanoseconds in the engine.
    Micros,
    /// A list of these.
    List(Element),
    /// Names and texts.
    Map,
    /// `nil`.
    Nil,
}

/// What lists hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Texts.
    Text,
    /// Whole numbers.
    Int,
    /// Numbers with a fraction.
    Double,
    /// Truth values.
    Bool,
    /// `[]`, which goes with every other.
    Nothing,
}

impl Element {
    /// The type of one.
    pub fn one(self) -> Type {
        match self {
            Element::Text | Element::Nothing => Type::Text,
            Element::Int => Type::Int,
            Element::Double => Type::Double,
            Element::Bool => Type::Bool,
        }
    }

    /// The engine's type of one.
    pub fn data_type(self) -> DataType {
        match self {
            Element::Text | Element::Nothing => DataType::Utf8,
            Element::Int => DataType::Int64,
            Element::Double => DataType::Float64,
            Element::Bool => DataType::Boolean,
        }
    }

    /// Of a list of such terms.
    pub fn of(one: Type) -> Option<Element> {
        Some(match one {
            Type::Text | Type::Ip => Element::Text,
            Type::Int | Type::Micros => Element::Int,
            Type::Double => Element::Double,
            Type::Bool => Element::Bool,
            _ => return None,
        })
    }
}

impl Type {
    /// As a person calls it.
    pub fn name(self) -> &'static str {
        match self {
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Double => "double",
            Type::Text | Type::Ip => "string",
            Type::Bytes => "bytes",
            Type::Time => "timestamp",
            Type::Duration => "duration",
            Type::Micros => "int (µs)",
            Type::List(Element::Text) => "list of strings",
            Type::List(Element::Int) => "list of ints",
            Type::List(Element::Double) => "list of doubles",
            Type::List(Element::Bool) => "list of bools",
            Type::List(Element::Nothing) => "empty list",
            Type::Map => "map",
            Type::Nil => "nil",
        }
    }

    /// What a field of this type is where a row does not have it.
    pub fn absent(self) -> Option<ScalarValue> {
        Some(match self {
            Type::Bool => ScalarValue::Boolean(Some(false)),
            Type::Int | Type::Duration | Type::Micros => ScalarValue::Int64(Some(0)),
            Type::Double => ScalarValue::Float64(Some(0.0)),
            Type::Text | Type::Ip => ScalarValue::Utf8(Some(String::new())),
            Type::Bytes => ScalarValue::Binary(Some(Vec::new())),
            _ => return None,
        })
    }
}

/// The spelling a field's texts or keys have, whatever a person types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// As it is.
    None,
    /// Lower case: names of header fields.
    Lower,
    /// Upper case: names of protocols.
    Upper,
}

/// A part of an expression that has a type.
#[derive(Clone, Debug)]
pub struct Term {
    /// Its type.
    pub kind: Type,
    /// The expression, NULL where the row does not have it.
    pub raw: Expr,
    /// What stands for that NULL; `None` where NULL is an error, which makes the row not match.
    pub absent: Option<ScalarValue>,
    /// Spelling of its texts.
    pub fold: Fold,
    /// Other names of the same thing. A test of a text holds where it holds for any of its names.
    pub others: Vec<Expr>,
}

impl Term {
    /// A term whose NULL is an error.
    pub fn new(kind: Type, raw: Expr) -> Term {
        Term { kind, raw, absent: None, fold: Fold::None, others: Vec::new() }
    }

    /// A literal.
    pub fn literal(kind: Type, value: ScalarValue) -> Term {
        Term::new(kind, Expr::Literal(value, None))
    }

    /// A text.
    pub fn text(text: &str) -> Term {
        Term::new(Type::Text, lit(text))
    }

    /// The value, with the default in place of NULL.
    pub fn value(&self) -> Expr {
        match &self.absent {
            Some(value) => coalesce(vec![self.raw.clone(), Expr::Literal(value.clone(), None)]),
            None => self.raw.clone(),
        }
    }

    /// The value if it is written in the expression.
    pub fn constant(&self) -> Option<&ScalarValue> {
        self.raw.as_literal().filter(|value| !value.is_null())
    }

    /// A text that is written in the expression.
    pub fn constant_text(&self) -> Option<&str> {
        match self.constant() {
            Some(ScalarValue::Utf8(Some(text))) => Some(text),
            _ => None,
        }
    }

    /// A number (or span) that is written in the expression.
    pub fn constant_int(&self) -> Option<i64> {
        match self.constant() {
            Some(ScalarValue::Int64(Some(number))) => Some(*number),
            _ => None,
        }
    }

    /// The term in the spelling of another.
    pub fn folded(&self, fold: Fold) -> Term {
        let mut term = self.clone();
        if let (Some(text), Type::Text | Type::Ip) = (self.constant_text(), self.kind) {
            let text = match fold {
                Fold::None => return term,
                Fold::Lower => text.to_lowercase(),
                Fold::Upper => text.to_uppercase(),
            };
            term.raw = lit(text);
        } else if fold != self.fold {
            term.raw = match fold {
                Fold::None => return term,
                Fold::Lower => lower(term.raw),
                Fold::Upper => upper(term.raw),
            };
        }
        term
    }

    /// Whether a test holds for any of its names. Where it is negated, or becomes a value (`positive` is
    /// false), a name that the row does not have counts as one for which the test does not hold.
    pub fn any_name<E>(
        &self,
        positive: bool,
        mut test: impl FnMut(&Term) -> Result<Expr, E>,
    ) -> Result<Expr, E> {
        let mut any = vec![test(&Term { others: Vec::new(), ..self.clone() })?];
        for name in &self.others {
            let holds = test(&Term { fold: self.fold, ..Term::new(self.kind, name.clone()) })?;
            any.push(if positive { holds } else { coalesce(vec![holds, lit(false)]) });
        }
        Ok(balanced(any, Expr::or).unwrap_or(lit(false)))
    }

    /// The row does not have it, whichever row.
    pub fn is_nowhere(&self) -> bool {
        self.raw.as_literal().is_some_and(ScalarValue::is_null)
    }
}

/// Joined as a balanced tree: thousands of parts are no deeper than a dozen.
pub fn balanced(mut level: Vec<Expr>, join: fn(Expr, Expr) -> Expr) -> Option<Expr> {
    while level.len() > 1 {
        let mut next = Vec::with_capacity(level.len().div_ceil(2));
        let mut pairs = level.into_iter();
        while let Some(left) = pairs.next() {
            next.push(match pairs.next() {
                Some(right) => join(left, right),
                None => left,
            });
        }
        level = next;
    }
    level.pop()
}
