//! Names, types and meaning: a tree to a condition over `entries`. In: the tree of a text. Out: an expression of the
//! engine, or the fault with its span. NULL stands for what CEL calls an error: the row does not match.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field as ArrowField};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::expr::LambdaVariable;
use datafusion::logical_expr::{Expr, lit, when};
use datafusion::prelude::SessionContext;
use shark_schema::tables::table;

use super::entries::{COLUMNS, schema};
use super::error::{Fault, Span};
use super::fields::{self, Field};
use super::syntax::{Kind, Node};
use super::types::{Element, Fold, Term, Type, balanced};
use super::{functions, maps};
use crate::session::nearest;

/// A walk over one expression.
pub struct Check {
    /// Words of KFL v1 were used: what is not a truth value counts as one where it is not empty.
    pub is_v1: bool,
    /// `now()`, the same for all rows.
    pub now_ns: i64,
    /// What the person should know of the answer.
    pub notes: BTreeSet<String>,
    /// Fields that nothing fills.
    pub unrecorded: BTreeSet<&'static str>,
    /// Variables of the macros around: as written, and their term.
    pub variables: Vec<(String, Term)>,
}

/// What plans the SQL of fields.
struct Planner {
    context: SessionContext,
    scope: DFSchema,
}

static PLANNER: LazyLock<Option<Planner>> = LazyLock::new(|| {
    let mut config = datafusion::prelude::SessionConfig::new();
    config.options_mut().sql_parser.dialect = datafusion::config::Dialect::PostgreSQL;
    let context = SessionContext::new_with_config(config);
    functions::all().into_iter().for_each(|function| context.register_udf(function));
    let scope = DFSchema::try_from(schema().as_ref().clone()).ok()?;
    Some(Planner { context, scope })
});

impl Check {
    /// A truth value. Where it stands un-negated (`positive`), NULL and false mean the same, and fields are compared
    /// without their default, so that statistics can rule out whole files.
    pub fn condition(&mut self, node: &Node, positive: bool) -> Result<Expr, Fault> {
        match &node.kind {
            Kind::All(parts) => self.joined(parts, positive, Expr::and),
            Kind::Any(parts) => self.joined(parts, positive, Expr::or),
            Kind::Not(inner) => Ok(!self.condition(inner, !positive)?),
            Kind::Compare(comparison, left, right) => self.comparison(*comparison, left, right, positive),
            Kind::In(left, right) => self.membership(left, right, positive),
            _ => {
                let term = self.term(node)?;
                self.truth(&term, node.span, positive)
            }
        }
    }

    fn joined(
        &mut self,
        parts: &[Node],
        positive: bool,
        join: fn(Expr, Expr) -> Expr,
    ) -> Result<Expr, Fault> {
        let parts = parts.iter().map(|part| self.condition(part, positive)).collect::<Result<_, _>>()?;
        Ok(balanced(parts, join).unwrap_or(lit(true)))
    }

    /// A term as a truth value.
    fn truth(&self, term: &Term, span: Span, positive: bool) -> Result<Expr, Fault> {
        if term.kind == Type::Bool {
            return Ok(if positive { term.raw.clone() } else { term.value() });
        }
        let fault = || {
            let fault = Fault::new(span, format!("this is {}, not a condition", a(term.kind)));
            match term.kind {
                Type::Int | Type::Micros | Type::Double => fault.hint("compare it: ... != 0"),
                Type::Text | Type::Ip => fault.hint("compare it: ... != \"\""),
                Type::List(_) | Type::Map => fault.hint("ask for its size: size(...) > 0"),
                _ => fault,
            }
        };
        if !self.is_v1 {
            return Err(fault());
        }
        // KFL v1: a selector in the place of a condition is true where it is not empty.
        match (term.kind.absent(), term.kind) {
            (Some(empty), _) => Ok(term.value().not_eq(Expr::Literal(empty, None))),
            (None, Type::List(_) | Type::Map) => Ok(self.size(term).gt(lit(0_i64))),
            _ => Err(fault()),
        }
    }

    /// The value of a node.
    pub fn term(&mut self, node: &Node) -> Result<Term, Fault> {
        match &node.kind {
            Kind::Nil => Ok(Term::literal(Type::Nil, ScalarValue::Null)),
            Kind::Bool(value) => Ok(Term::new(Type::Bool, lit(*value))),
            Kind::Int(value) => Ok(Term::new(Type::Int, lit(*value))),
            Kind::Double(value) => Ok(Term::new(Type::Double, lit(*value))),
            Kind::Text(text) | Kind::Raw(text) => Ok(Term::text(text)),
            Kind::Bytes(bytes) => Ok(Term::literal(Type::Bytes, ScalarValue::Binary(Some(bytes.clone())))),
            Kind::Name(_) | Kind::Select(..) => self.named(node),
            Kind::Index(inner, index) => self.element(inner, index),
            Kind::Call(target, name, span, arguments) => {
                self.call(node.span, target.as_deref(), name, *span, arguments)
            }
            Kind::Minus(inner) => self.negative(inner),
            Kind::Arithmetic(sign, left, right) => self.arithmetic(*sign, left, right),
            Kind::Choice(condition, then, otherwise) => self.choice(condition, then, otherwise),
            Kind::List(parts) => self.list(parts),
            Kind::All(_) | Kind::Any(_) | Kind::Not(_) | Kind::Compare(..) | Kind::In(..) => {
                Ok(Term::new(Type::Bool, self.condition(node, false)?))
            }
        }
    }

    /// A field, a variable, or a member of either.
    fn named(&mut self, node: &Node) -> Result<Term, Fault> {
        let Some(path) = path(node) else {
            // A member of something that is no name: the key of a map.
            let Kind::Select(inner, key) = &node.kind else {
                return Err(Fault::new(node.span, "this has no name"));
            };
            let term = self.term(inner)?;
            return self.member(&term, key, node.span);
        };
        let variable =
            self.variables.iter().rev().find(|(name, _)| *name == path[0]).map(|(_, term)| term.clone());
        let (term, used) = match variable {
            Some(term) => (Some(term), 1),
            None => self.longest(&path)?,
        };
        let whole = path.join(".");
        let Some(mut term) = term else { return Err(unknown(&whole, node.span)) };
        if used < path.len() && term.kind != Type::Map && misnomer(&whole).is_some() {
            return Err(unknown(&whole, node.span));
        }
        for key in &path[used..] {
            term = self.member(&term, key, node.span)?;
        }
        Ok(term)
    }

    /// The field that takes most parts of a dotted name.
    fn longest(&mut self, path: &[String]) -> Result<(Option<Term>, usize), Fault> {
        for used in (1..=path.len()).rev() {
            if let Some(field) = fields::field(&path[..used].join(".")) {
                return Ok((Some(self.field(field)), used));
            }
        }
        Ok((None, 0))
    }

    fn member(&mut self, term: &Term, key: &str, span: Span) -> Result<Term, Fault> {
        if term.kind != Type::Map {
            let fault = Fault::new(span, format!("{} has no member {key}", a(term.kind)));
            return Err(match term.kind {
                Type::Text | Type::Ip => {
                    fault.hint("look inside it with .contains(\"…\") or .matches(\"…\")")
                }
                _ => fault,
            });
        }
        Ok(maps::value(term, &Term::text(key).folded(term.fold)))
    }

    /// A field as a term, with a note where nothing recorded has it yet.
    fn field(&mut self, field: &'static Field) -> Term {
        let raw = expression(field);
        let protocol = field.protocol().filter(|(_, name)| table(name).is_none());
        if let Some((protocol, _)) = protocol {
            self.notes.insert(format!("no table for {protocol} yet"));
        } else if raw.is_none() {
            self.notes.insert(format!("nothing recorded says {} yet", field.name));
        }
        if raw.is_none() {
            self.unrecorded.insert(field.name);
        }
        let nowhere = || Expr::Literal(null_of(field.kind), None);
        Term {
            kind: field.kind,
            raw: raw.unwrap_or_else(nowhere),
            absent: field.kind.absent(),
            fold: field.fold,
            others: field.others.iter().filter_map(|sql| planned(sql)).collect(),
        }
    }

    fn choice(&mut self, condition: &Node, then: &Node, otherwise: &Node) -> Result<Term, Fault> {
        let condition = self.condition(condition, false)?;
        let (yes, no) = (self.term(then)?, self.term(otherwise)?);
        let Some((kind, yes, no)) = self.same_kind(&yes, &no) else {
            let reason = format!("one side is {}, the other {}", a(yes.kind), a(no.kind));
            return Err(Fault::new(then.span.to(otherwise.span), reason).hint("both must be of one type"));
        };
        // Neither side where the condition is an error.
        let raw = when(condition.clone(), yes).when(!condition, no).end();
        Ok(Term::new(kind, raw.map_err(|error| Fault::new(then.span, error.strip_backtrace()))?))
    }

    /// Both values as one type.
    pub fn same_kind(&self, left: &Term, right: &Term) -> Option<(Type, Expr, Expr)> {
        let (first, second) = (left.kind, right.kind);
        if first == second && first != Type::Map {
            return Some((first, left.value(), right.value()));
        }
        if self.is_number(first) && self.is_number(second) {
            let kind = if [first, second].contains(&Type::Double) { Type::Double } else { Type::Int };
            return Some((kind, self.number(left), self.number(right)));
        }
        match (first, second) {
            (Type::Text | Type::Ip, Type::Text | Type::Ip) => Some((Type::Text, left.value(), right.value())),
            (Type::Duration | Type::Micros, Type::Duration | Type::Micros) => {
                Some((Type::Duration, left.value(), right.value()))
            }
            _ => None,
        }
    }

    fn list(&mut self, parts: &[Node]) -> Result<Term, Fault> {
        let terms: Vec<Term> = parts.iter().map(|part| self.term(part)).collect::<Result<_, _>>()?;
        let mut element = Element::Nothing;
        for (term, part) in terms.iter().zip(parts) {
            let Some(next) = Element::of(term.kind) else {
                return Err(Fault::new(part.span, format!("{} cannot be in a list", a(term.kind))));
            };
            if element != Element::Nothing && element != next {
                let reason = format!("this is {}, those before it are of another type", a(term.kind));
                return Err(Fault::new(part.span, reason).hint("a list holds one type"));
            }
            element = next;
        }
        let values =
            terms.iter().map(|term| if self.is_number(term.kind) { self.number(term) } else { term.value() });
        let raw = match element {
            Element::Nothing => Expr::Literal(empty_list(), None),
            _ => datafusion::functions_nested::expr_fn::make_array(values.collect()),
        };
        Ok(Term::new(Type::List(element), raw))
    }

    /// The variable of a macro.
    pub fn variable(&self, name: &str, element: Element) -> (String, Term) {
        // Inner variables of the same name hide outer ones; the engine wants them told apart.
        let depth = self.variables.len();
        let inner = if depth == 0 { name.to_string() } else { format!("{name}_{depth}") };
        let field = Arc::new(ArrowField::new(&inner, element.data_type(), true));
        let variable = Expr::LambdaVariable(LambdaVariable::new(inner.clone(), Some(field)));
        (inner, Term::new(element.one(), variable))
    }
}

/// The expression of a field over `entries`; `None` where no table has what it needs.
pub fn expression(field: &Field) -> Option<Expr> {
    if field.sql.is_empty()
        || (!field.tables.is_empty() && field.tables.iter().all(|name| table(name).is_none()))
    {
        return None;
    }
    let expr = planned(field.sql)?;
    let is_own = |name: &str| {
        let column = COLUMNS.iter().find(|column| column.name == name);
        name == "protocol"
            || column.is_some_and(|column| column.tables.iter().all(|table| field.tables.contains(table)))
    };
    let is_flag = field.kind == Type::Bool && field.sql.starts_with("protocol");
    if field.tables.is_empty() || is_flag || expr.column_refs().iter().all(|column| is_own(&column.name)) {
        return Some(expr);
    }
    // Other tables have columns of the same names.
    let protocol = || datafusion::logical_expr::col("protocol");
    let here = field.tables.iter().map(|name| protocol().eq(lit(*name))).reduce(Expr::or)?;
    when(here, expr).end().ok()
}

/// SQL over `entries` as an expression.
fn planned(sql: &str) -> Option<Expr> {
    let planner = PLANNER.as_ref()?;
    planner.context.parse_sql_expr(sql, &planner.scope).ok()
}

/// The type of a field's expression in the engine.
pub fn engine_type(expr: &Expr) -> Option<DataType> {
    use datafusion::logical_expr::ExprSchemable;
    expr.get_type(&PLANNER.as_ref()?.scope).ok()
}

/// An empty list, of texts.
pub fn empty_list() -> ScalarValue {
    ScalarValue::List(ScalarValue::new_list_nullable(&[], &DataType::Utf8))
}

fn null_of(kind: Type) -> ScalarValue {
    match kind {
        Type::List(_) => empty_list(),
        Type::Map => ScalarValue::Null,
        Type::Time => ScalarValue::TimestampNanosecond(None, None),
        Type::Bool => ScalarValue::Boolean(None),
        Type::Double => ScalarValue::Float64(None),
        Type::Bytes => ScalarValue::Binary(None),
        Type::Text | Type::Ip | Type::Nil => ScalarValue::Utf8(None),
        Type::Int | Type::Duration | Type::Micros => ScalarValue::Int64(None),
    }
}

/// A list without NULL.
pub fn whole_list(term: &Term) -> Expr {
    match term.raw.as_literal() {
        Some(_) => term.raw.clone(),
        None => coalesce(vec![term.raw.clone(), Expr::Literal(empty_list(), None)]),
    }
}

/// The parts of `a.b.c`.
fn path(node: &Node) -> Option<Vec<String>> {
    match &node.kind {
        Kind::Name(name) => Some(vec![name.clone()]),
        Kind::Select(inner, name) => {
            let mut path = path(inner)?;
            path.push(name.clone());
            Some(path)
        }
        _ => None,
    }
}

/// A type with its article.
pub fn a(kind: Type) -> String {
    let name = kind.name();
    match kind {
        Type::Int | Type::Micros | Type::List(Element::Nothing) => format!("an {name}"),
        Type::Nil | Type::Bytes => name.into(),
        _ => format!("a {name}"),
    }
}

/// What a name of other pages is called here.
fn misnomer(name: &str) -> Option<&'static str> {
    fields::MISNOMERS.iter().find(|(wrong, _)| *wrong == name).map(|(_, right)| *right)
}

fn unknown(name: &str, span: Span) -> Fault {
    let fault = Fault::new(span, format!("there is no field {name}"));
    if let Some((_, place)) = fields::ELSEWHERE.iter().find(|(wrong, _)| *wrong == name) {
        return fault.hint(*place);
    }
    let below = format!("{name}.");
    let members = || {
        let mut members: Vec<&str> = fields::names().filter(|other| other.starts_with(&below)).collect();
        members.sort_unstable();
        members.first().copied()
    };
    let near = misnomer(name).or_else(members).or_else(|| {
        let mut names: Vec<&str> = fields::names().collect();
        names.sort_unstable();
        nearest(name, &names)
    });
    match near {
        Some(near) => {
            // Others count it in milliseconds.
            let is_span = fields::field(near).is_some_and(|field| field.kind == Type::Micros);
            let unit = if is_span { " It is in µs, or compare it with duration(\"100ms\")." } else { "" };
            fault.hint(format!("did you mean {near}?{unit} (`sharkq kfl --fields` lists all)"))
        }
        None => fault.hint("`sharkq kfl --fields` lists all"),
    }
}

/// Terms whose fold a comparison must heed.
pub fn fold_of(left: &Term, right: &Term) -> Fold {
    if left.fold == Fold::None { right.fold } else { left.fold }
}
