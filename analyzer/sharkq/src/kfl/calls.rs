//! Functions, methods and macros of KFL2, and the helpers of KFL v1 that have an equal. In: a call as written. Out: a term,
//! or what the call should look like.

use arrow::datatypes::DataType;
use datafusion::functions::regex::expr_fn::regexp_like;
use datafusion::functions::string::expr_fn::{contains, ends_with, starts_with};
use datafusion::logical_expr::{Expr, cast, lit, try_cast};

use super::check::{Check, a};
use super::error::{Fault, Span};
use super::maps;
use super::syntax::Node;
use super::types::{Term, Type};

/// Functions and how each is called; the hints come from here.
const FUNCTIONS: &[(&str, &str)] = &[
    ("size", "size(dns_answers)"),
    ("map_get", "map_get(request.headers, \"host\", \"\")"),
    ("timestamp", "timestamp(\"2026-03-14T22:00:00Z\")"),
    ("duration", "duration(\"5m\")"),
    ("now", "now()"),
    ("matches", "matches(path, \"^/api/v[0-9]+\")"),
    ("has", "has(request.headers.host)"),
    ("int", "int(request.headers[\"content-length\"])"),
    ("double", "double(query_string[\"price\"])"),
    ("string", "string(status_code)"),
    ("bool", "bool(query_string[\"debug\"])"),
    ("datetime", "datetime(\"10/19/2021, 6:29:02 PM\")"),
    ("seconds", "seconds(-5)"),
    ("minutes", "minutes(-5)"),
    ("hours", "hours(-5)"),
    ("days", "days(-5)"),
    ("weeks", "weeks(-5)"),
    ("months", "months(-5)"),
    ("years", "years(-5)"),
];

/// Methods, likewise.
const METHODS: &[(&str, &str)] = &[
    ("contains", "path.contains(\"/api\")"),
    ("startsWith", "path.startsWith(\"/api\")"),
    ("endsWith", "path.endsWith(\".png\")"),
    ("matches", "path.matches(\"^/api/v[0-9]+\")"),
    ("size", "dns_answers.size()"),
    ("exists", "dns_questions.exists(q, q.contains(\"example\"))"),
    ("all", "dns_questions.all(q, q.endsWith(\".local\"))"),
    ("exists_one", "dns_answers.exists_one(x, x == \"10.0.0.1\")"),
    ("map", "dns_questions.map(q, size(q))"),
    ("filter", "dns_questions.filter(q, q.endsWith(\".local\"))"),
    ("getFullYear", "timestamp.getFullYear()"),
    ("getMonth", "timestamp.getMonth()"),
    ("getDate", "timestamp.getDate()"),
    ("getDayOfMonth", "timestamp.getDayOfMonth()"),
    ("getDayOfWeek", "timestamp.getDayOfWeek()"),
    ("getDayOfYear", "timestamp.getDayOfYear()"),
    ("getHours", "timestamp.getHours()"),
    ("getMinutes", "timestamp.getMinutes()"),
    ("getSeconds", "timestamp.getSeconds()"),
];

/// Helpers of KFL v1 that have no equal, and what to do instead.
const GONE: &[(&str, &str)] = &[
    ("limit", "give --limit on the command line"),
    ("redact", "leave it out: a recording is only asked, never changed"),
    ("record", "`sharkrec snapshot` keeps a window"),
    ("json", "search the text of the body: response.body.contains(\"…\")"),
    ("xml", "search the text of the body: response.body.contains(\"…\")"),
    ("rule", "ask one question at a time"),
];

/// The parts of time stamps that CEL names, as the engine names them, and what to add.
const PARTS: &[(&str, &str, i64)] = &[
    ("getFullYear", "year", 0),
    ("getMonth", "month", -1),
    ("getDate", "day", 0),
    ("getDayOfMonth", "day", -1),
    ("getDayOfWeek", "dow", 0),
    ("getDayOfYear", "doy", -1),
    ("getHours", "hour", 0),
    ("getMinutes", "minute", 0),
    ("getSeconds", "second", 0),
];

impl Check {
    /// `f(a)` or `t.f(a)`
    pub fn call(
        &mut self,
        whole: Span,
        target: Option<&Node>,
        name: &str,
        name_span: Span,
        arguments: &[Node],
    ) -> Result<Term, Fault> {
        match (target, name, arguments) {
            (None, "size", [one]) | (Some(one), "size", []) => {
                let term = self.term(one)?;
                match term.kind {
                    Type::Text | Type::Ip | Type::Bytes | Type::List(_) | Type::Map => {
                        Ok(Term::new(Type::Int, self.size(&term)))
                    }
                    kind => Err(Fault::new(one.span, format!("{} has no size", a(kind)))),
                }
            }
            (None, "map_get", [map, key, default]) => self.map_get(map, key, default),
            (None, "has", [one]) => self.has(one),
            (None, "int" | "double" | "string" | "bool", [one]) => self.converted(name, one),
            (None, "matches", [text, pattern]) | (Some(text), "matches", [pattern]) => {
                self.matches(text, pattern)
            }
            (Some(text), "contains" | "startsWith" | "endsWith", [part]) => {
                self.text_method(name, text, part)
            }
            (
                Some(list),
                "exists" | "all" | "exists_one" | "existsOne" | "filter" | "map",
                [variable, body],
            ) => self.over(name, list, variable, body),
            (Some(time), _, []) if PARTS.iter().any(|(part, ..)| *part == name) => self.part(name, time),
            (Some(_), "exists", []) => Err(Fault::new(whole, "exists asks about the elements of a list")
                .hint("whether a field is known: field != \"\"; whether a key is there: \"key\" in map")),
            (None, _, _) => match self.time_call(name, name_span, arguments) {
                Some(term) => term,
                None => Err(bad_call(whole, FUNCTIONS, METHODS, name, name_span)),
            },
            _ => Err(bad_call(whole, METHODS, FUNCTIONS, name, name_span)),
        }
    }

    fn text(&mut self, node: &Node, method: &str) -> Result<Term, Fault> {
        let term = self.term(node)?;
        match term.kind {
            Type::Text | Type::Ip => Ok(term),
            Type::List(_) if method == "contains" => {
                Err(Fault::new(node.span, "this is a list, not a string").hint(
                    "ask whether it is in the list: \"…\" in list, or list.exists(x, x.contains(\"…\"))",
                ))
            }
            kind => Err(Fault::new(node.span, format!("{method} is for strings; this is {}", a(kind)))),
        }
    }

    fn argument(&mut self, node: &Node) -> Result<Term, Fault> {
        let term = self.term(node)?;
        match term.kind {
            Type::Text | Type::Ip => Ok(term),
            kind => Err(Fault::new(node.span, format!("a string is expected here; this is {}", a(kind)))),
        }
    }

    fn text_method(&mut self, method: &str, text: &Node, part: &Node) -> Result<Term, Fault> {
        let (term, part) = (self.text(text, method)?, self.argument(part)?);
        let part = part.folded(term.fold).value();
        let raw = term.any_name(false, |name| {
            Ok(match method {
                "contains" => contains(name.value(), part.clone()),
                "startsWith" => starts_with(name.value(), part.clone()),
                _ => ends_with(name.value(), part.clone()),
            })
        })?;
        Ok(Term::new(Type::Bool, raw))
    }

    fn matches(&mut self, text: &Node, pattern: &Node) -> Result<Term, Fault> {
        let (term, written) = (self.text(text, "matches")?, self.argument(pattern)?);
        let Some(written) = written.constant_text() else {
            return Err(Fault::new(pattern.span, "a pattern is written out, not taken from a row")
                .hint("compare with == or .contains(...)"));
        };
        let checked = self.regex(written, pattern.span)?;
        let raw = term.any_name(false, |name| Ok(regexp_like(name.value(), lit(checked.clone()), None)))?;
        Ok(Term::new(Type::Bool, raw))
    }

    /// A pattern that can be matched.
    pub fn regex(&self, pattern: &str, span: Span) -> Result<String, Fault> {
        match regex::Regex::new(pattern) {
            Ok(_) => Ok(pattern.into()),
            Err(regex::Error::CompiledTooBig(_)) => Err(Fault::new(span, "the pattern is too large")),
            Err(error) => {
                let text = error.to_string();
                let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                Err(Fault::new(span, format!("the pattern cannot be used: {why}")))
            }
        }
    }

    /// `has(m.k)`: the key is there; `has(f)`: the row has the field.
    fn has(&mut self, node: &Node) -> Result<Term, Fault> {
        let term = self.term(node)?;
        Ok(Term::new(Type::Bool, term.raw.is_not_null()))
    }

    fn converted(&mut self, name: &str, node: &Node) -> Result<Term, Fault> {
        let term = self.term(node)?;
        let is_simple = matches!(term.kind, Type::Text | Type::Ip | Type::Bool) || self.is_number(term.kind);
        let (kind, data_type) = match name {
            "int" if term.kind == Type::Time => {
                let seconds = cast(term.value(), DataType::Int64) / lit(1_000_000_000_i64);
                return Ok(Term::new(Type::Int, seconds));
            }
            "int" => (Type::Int, DataType::Int64),
            "double" => (Type::Double, DataType::Float64),
            "bool" => (Type::Bool, DataType::Boolean),
            _ => (Type::Text, DataType::Utf8),
        };
        let is_time_as_text = name == "string" && term.kind == Type::Time;
        if !is_simple && !is_time_as_text {
            return Err(Fault::new(node.span, format!("{} cannot become {}", a(term.kind), a(kind))));
        }
        let value = if self.is_number(term.kind) { self.number(&term) } else { term.value() };
        Ok(Term::new(kind, try_cast(value, data_type)))
    }

    fn part(&mut self, name: &str, node: &Node) -> Result<Term, Fault> {
        let term = self.term(node)?;
        let part = PARTS.iter().find(|(part, ..)| *part == name);
        match (term.kind, part) {
            (Type::Time, Some((_, part, add))) => {
                let number = datafusion::functions::datetime::expr_fn::date_part(lit(*part), term.value());
                Ok(Term::new(Type::Int, cast(number, DataType::Int64) + lit(*add)))
            }
            (kind, _) => Err(Fault::new(node.span, format!("{name} is for timestamps; this is {}", a(kind)))),
        }
    }

    /// Macros over the elements of a list or the keys of a map.
    fn over(&mut self, name: &str, list: &Node, variable: &Node, body: &Node) -> Result<Term, Fault> {
        use datafusion::functions_nested::expr_fn::cardinality;
        let mut term = self.term(list)?;
        if term.kind == Type::Map {
            term = maps::keys(&term);
        }
        let Type::List(element) = term.kind else {
            return Err(Fault::new(
                list.span,
                format!("{name} is for lists and maps; this is {}", a(term.kind)),
            ));
        };
        let super::syntax::Kind::Name(written) = &variable.kind else {
            return Err(Fault::new(variable.span, "the name of a variable is expected here")
                .hint(shape(METHODS, name).unwrap_or_default()));
        };
        let (inner, mut one) = self.variable(written, element);
        one.fold = term.fold;
        self.variables.push((written.clone(), one));
        let done = if name == "map" { self.term(body).map(Ok) } else { self.condition(body, false).map(Err) };
        self.variables.pop();
        let whole = super::check::whole_list(&term);
        let some = |condition: Expr| lambda::any(whole.clone(), &inner, condition);
        match (name, done?) {
            ("map", Ok(mapped)) => {
                let Some(kind) = super::types::Element::of(mapped.kind) else {
                    return Err(Fault::new(body.span, format!("{} cannot be in a list", a(mapped.kind))));
                };
                let value = if self.is_number(mapped.kind) { self.number(&mapped) } else { mapped.value() };
                Ok(Term::new(Type::List(kind), lambda::transformed(whole, &inner, value)))
            }
            (_, Ok(_)) => Err(Fault::new(body.span, "a condition is expected here")),
            ("exists", Err(condition)) => Ok(Term::new(Type::Bool, some(condition))),
            ("all", Err(condition)) => Ok(Term::new(Type::Bool, !some(!condition))),
            ("filter", Err(condition)) => {
                Ok(Term::new(term.kind, lambda::filtered(whole, &inner, condition)))
            }
            (_, Err(condition)) => {
                let found = cardinality(lambda::filtered(whole, &inner, condition));
                Ok(Term::new(Type::Bool, cast(found, DataType::Int64).eq(lit(1_i64))))
            }
        }
    }
}

/// The engine's functions that take functions.
mod lambda {
    use datafusion::functions_nested::array_any_match::array_any_match;
    use datafusion::functions_nested::array_filter::array_filter;
    use datafusion::functions_nested::array_transform::array_transform;
    use datafusion::logical_expr::{Expr, lambda};

    pub fn any(list: Expr, variable: &str, body: Expr) -> Expr {
        array_any_match(list, lambda([variable], body))
    }

    pub fn filtered(list: Expr, variable: &str, body: Expr) -> Expr {
        array_filter(list, lambda([variable], body))
    }

    pub fn transformed(list: Expr, variable: &str, body: Expr) -> Expr {
        array_transform(list, lambda([variable], body))
    }
}

fn shape(list: &[(&str, &str)], name: &str) -> Option<String> {
    list.iter().find(|(known, _)| *known == name).map(|(_, shape)| format!("write it as {shape}"))
}

/// A name that is no function, or one that is called wrongly.
fn bad_call(
    whole: Span,
    expected: &[(&str, &str)],
    others: &[(&str, &str)],
    name: &str,
    name_span: Span,
) -> Fault {
    if let Some((_, instead)) = GONE.iter().find(|(gone, _)| *gone == name) {
        return Fault::new(name_span, format!("{name}() of KFL v1 has no equal here")).hint(*instead);
    }
    if let Some(shape) = shape(expected, name).or_else(|| shape(others, name)) {
        return Fault::new(whole, format!("{name} is called otherwise")).hint(shape);
    }
    let mut names: Vec<&str> = expected.iter().chain(others).map(|(known, _)| *known).collect();
    names.sort_unstable();
    names.dedup();
    let fault = Fault::new(name_span, format!("there is no function {name}"));
    match crate::session::nearest(name, &names) {
        Some(near) => fault.hint(shape(expected, near).or_else(|| shape(others, near)).unwrap_or_default()),
        None => fault.hint(format!("there are {}", names.join(", "))),
    }
}
