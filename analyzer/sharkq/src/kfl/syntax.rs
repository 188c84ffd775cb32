//! The tree of an expression as it was written: nothing in it is known to exist or to fit.

use super::error::Span;

/// A part of an expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Where it stands.
    pub span: Span,
    /// Levels from here to the furthest leaf, which has one.
    pub height: usize,
}

/// What a part of an expression is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// `nil` or `null`.
    Nil,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Double(f64),
    /// A text.
    Text(String),
    /// `r"…"`.
    Raw(String),
    /// `b"…"`.
    Bytes(Vec<u8>),
    /// A name.
    Name(String),
    /// `a.b`
    Select(Box<Node>, String),
    /// `a[b]`
    Index(Box<Node>, Box<Node>),
    /// `f(a)`, or `t.f(a)` with a target; the span is of the name.
    Call(Option<Box<Node>>, String, Span, Vec<Node>),
    /// `!a`
    Not(Box<Node>),
    /// `-a`
    Minus(Box<Node>),
    /// `a && b && …`: flat, since people paste lists of thousands.
    All(Vec<Node>),
    /// `a || b || …`
    Any(Vec<Node>),
    /// `a == b` and the like.
    Compare(Comparison, Box<Node>, Box<Node>),
    /// `a in b`
    In(Box<Node>, Box<Node>),
    /// `a + b` and the like.
    Arithmetic(char, Box<Node>, Box<Node>),
    /// `a ? b : c`
    Choice(Box<Node>, Box<Node>, Box<Node>),
    /// `[a, b]`
    List(Vec<Node>),
}

impl Kind {
    /// The parts right below.
    pub fn children(&self) -> Box<dyn Iterator<Item = &Node> + '_> {
        match self {
            Kind::Nil | Kind::Bool(_) | Kind::Int(_) | Kind::Double(_) => Box::new(std::iter::empty()),
            Kind::Text(_) | Kind::Raw(_) | Kind::Bytes(_) | Kind::Name(_) => Box::new(std::iter::empty()),
            Kind::Select(node, _) | Kind::Not(node) | Kind::Minus(node) => Box::new(std::iter::once(&**node)),
            Kind::Index(left, right) | Kind::In(left, right) => Box::new([&**left, &**right].into_iter()),
            Kind::Compare(_, left, right) | Kind::Arithmetic(_, left, right) => {
                Box::new([&**left, &**right].into_iter())
            }
            Kind::Choice(first, then, otherwise) => Box::new([&**first, &**then, &**otherwise].into_iter()),
            Kind::Call(target, _, _, arguments) => Box::new(target.as_deref().into_iter().chain(arguments)),
            Kind::All(parts) | Kind::Any(parts) | Kind::List(parts) => Box::new(parts.iter()),
        }
    }
}

/// `==`, `!=`, `<`, `<=`, `>`, `>=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Comparison {
    /// By its sign.
    pub fn of(sign: &str) -> Option<Comparison> {
        Some(match sign {
            "==" => Comparison::Equal,
            "!=" => Comparison::NotEqual,
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            _ => return None,
        })
    }

    /// The same with its sides exchanged.
    pub fn mirrored(self) -> Comparison {
        match self {
            Comparison::Less => Comparison::Greater,
            Comparison::LessOrEqual => Comparison::GreaterOrEqual,
            Comparison::Greater => Comparison::Less,
            Comparison::GreaterOrEqual => Comparison::LessOrEqual,
            same => same,
        }
    }

    /// Whether it holds for two values in this order.
    pub fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Comparison::Equal => order.is_eq(),
            Comparison::NotEqual => order.is_ne(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
        }
    }
}
