//! Comparisons and arithmetic. In: two terms. Out: one, or why they do not go together. Nothing here can fail for a row:
//! division by zero is NULL, sums wrap as the engine's do.

use std::cmp::Ordering;
use std::net::IpAddr;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::functions::core::expr_fn::nullif;
use datafusion::functions::datetime::expr_fn::to_timestamp_nanos;
use datafusion::functions::regex::expr_fn::regexp_like;
use datafusion::functions_nested::expr_fn::array_concat;
use datafusion::logical_expr::{Expr, cast, lit, try_cast, when};

use super::check::{Check, a, fold_of, whole_list};
use super::error::{Fault, Span};
use super::syntax::{Comparison, Kind, Node};
use super::types::{Element, Term, Type};

impl Check {
    /// `a == b` and the like.
    pub fn comparison(
        &mut self,
        comparison: Comparison,
        left: &Node,
        right: &Node,
        positive: bool,
    ) -> Result<Expr, Fault> {
        if let Some((pattern, other)) = pattern_side(left, right) {
            return self.pattern(comparison, pattern, other);
        }
        let (first, second) = (self.term(left)?, self.term(right)?);
        if let (Kind::Text(text), _) | (_, Kind::Text(text)) = (&left.kind, &right.kind)
            && text.contains(".*")
        {
            self.notes
                .insert(format!("{text:?} is compared letter by letter; for a pattern write .matches(…)"));
        }
        self.note_port(&first, &second);
        self.compared(comparison, &first, &second, left.span.to(right.span), positive)
    }

    /// Lists show the name of a server with its port, and somebody may take both for the name.
    pub fn note_port(&mut self, one: &Term, other: &Term) {
        for (named, written) in [(one, other), (other, one)] {
            let Some(text) = written.constant_text().filter(|_| !named.others.is_empty()) else { continue };
            let port = text.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
            if let Some((name, port)) = port.filter(|_| text.parse::<IpAddr>().is_err()) {
                self.notes.insert(format!(
                    "a name has no port; for {text:?} write dst.name == {name:?} && dst.port == {port}"
                ));
            }
        }
    }

    /// `text == r"pattern"` of KFL v1: matched from its start, so that `response.status == r"4.*"` is 4xx.
    fn pattern(&mut self, comparison: Comparison, pattern: &Node, other: &Node) -> Result<Expr, Fault> {
        let Kind::Raw(text) = &pattern.kind else { return Ok(lit(false)) };
        let checked = self.regex(&format!("^(?:{text})"), pattern.span)?;
        let term = self.term(other)?;
        let matches = term.any_name(false, |name| {
            let value = match name.kind {
                Type::Text | Type::Ip => name.value(),
                Type::Int | Type::Micros => cast(self.number(name), DataType::Utf8),
                kind => return Err(Fault::new(other.span, format!("{} does not match patterns", a(kind)))),
            };
            Ok(regexp_like(value, lit(checked.clone()), None))
        })?;
        match comparison {
            Comparison::Equal => Ok(matches),
            Comparison::NotEqual => Ok(!matches),
            _ => Err(Fault::new(pattern.span, "a pattern is compared with == or !=")),
        }
    }

    /// Two terms compared.
    pub fn compared(
        &self,
        comparison: Comparison,
        left: &Term,
        right: &Term,
        span: Span,
        positive: bool,
    ) -> Result<Expr, Fault> {
        if left.kind == Type::Nil || right.kind == Type::Nil {
            return self.with_nil(comparison, left, right, span);
        }
        if let Some((named, other, comparison)) = named_side(left, right, comparison) {
            let is_equal = |positive| {
                named.any_name(positive, |name| self.compared(Comparison::Equal, name, other, span, positive))
            };
            match comparison {
                Comparison::Equal => return is_equal(positive),
                Comparison::NotEqual => return Ok(!is_equal(false)?),
                // The order is that of the names that lists show.
                _ => {}
            }
        }
        if matches!((left.kind, right.kind), (Type::List(_), Type::List(_))) {
            return self.lists(comparison, left, right, span);
        }
        let is_text = |term: &Term| matches!(term.kind, Type::Text | Type::Ip);
        if self.is_v1 && is_text(left) != is_text(right) {
            let (left, right) = (self.spelled(left, right), self.spelled(right, left));
            if !is_text(&left) && !is_text(&right) {
                return self.compared(comparison, &left, &right, span, positive);
            }
        }
        let fold = fold_of(left, right);
        let (left, right) = if is_text(left) && is_text(right) {
            (left.folded(fold), right.folded(fold))
        } else {
            (left.clone(), right.clone())
        };
        if left.constant().is_none() && right.constant().is_some() {
            return self.with_constant(comparison, &left, &right, span, positive);
        }
        if right.constant().is_none() && left.constant().is_some() {
            return self.with_constant(comparison.mirrored(), &right, &left, span, positive);
        }
        let Some((kind, first, second)) = self.same_kind(&left, &right) else {
            return Err(unlike(&left, &right, span));
        };
        if kind == Type::Bool && !matches!(comparison, Comparison::Equal | Comparison::NotEqual) {
            return Err(Fault::new(span, "truth values have no order").hint("compare them with == or !="));
        }
        Ok(applied(comparison, first, second))
    }

    /// KFL v1: a text beside a number is the number it spells, since ports and parameters of queries were texts there.
    fn spelled(&self, term: &Term, beside: &Term) -> Term {
        if !self.is_number(beside.kind) || !matches!(term.kind, Type::Text | Type::Ip) {
            return term.clone();
        }
        match term.constant_text().map(|text| (text.parse::<i64>(), text.parse::<f64>())) {
            Some((Ok(number), _)) => Term::new(Type::Int, lit(number)),
            Some((_, Ok(number))) => Term::new(Type::Double, lit(number)),
            Some(_) => term.clone(),
            None => Term::new(Type::Double, try_cast(term.value(), DataType::Float64)),
        }
    }

    /// A term with a literal. The default of an absent field is left out where it would not match anyway.
    fn with_constant(
        &self,
        comparison: Comparison,
        term: &Term,
        constant: &Term,
        span: Span,
        positive: bool,
    ) -> Result<Expr, Fault> {
        let Some((kind, value, literal)) = self.same_kind(term, constant) else {
            return Err(unlike(term, constant, span));
        };
        if kind == Type::Bool && !matches!(comparison, Comparison::Equal | Comparison::NotEqual) {
            return Err(Fault::new(span, "truth values have no order").hint("compare them with == or !="));
        }
        let default_matches = match (&term.absent, constant.constant()) {
            (Some(absent), Some(constant)) => {
                absent.partial_cmp(constant).is_none_or(|order: Ordering| comparison.holds(order))
            }
            _ => true,
        };
        if positive && !default_matches {
            let bare = Term { absent: None, ..term.clone() };
            if let Some((_, value, literal)) = self.same_kind(&bare, constant) {
                return Ok(applied(comparison, value, literal));
            }
        }
        Ok(applied(comparison, value, literal))
    }

    fn with_nil(&self, comparison: Comparison, left: &Term, right: &Term, span: Span) -> Result<Expr, Fault> {
        let term = if left.kind == Type::Nil { right } else { left };
        match comparison {
            Comparison::Equal => Ok(term.raw.clone().is_null()),
            Comparison::NotEqual => Ok(term.raw.clone().is_not_null()),
            _ => Err(Fault::new(span, "nil has no order").hint("compare with == nil or != nil")),
        }
    }

    fn lists(&self, comparison: Comparison, left: &Term, right: &Term, span: Span) -> Result<Expr, Fault> {
        let empty = Type::List(Element::Nothing);
        let equal = match (left.kind, right.kind) {
            (_, second) if second == empty => self.size(left).eq(lit(0_i64)),
            (first, _) if first == empty => self.size(right).eq(lit(0_i64)),
            (first, second) if first == second => whole_list(left).eq(whole_list(right)),
            _ => return Err(unlike(left, right, span)),
        };
        match comparison {
            Comparison::Equal => Ok(equal),
            Comparison::NotEqual => Ok(!equal),
            _ => Err(Fault::new(span, "lists have no order").hint("compare their sizes: size(...) > 1")),
        }
    }

    /// `a + b` and the like.
    pub fn arithmetic(&mut self, sign: char, left: &Node, right: &Node) -> Result<Term, Fault> {
        let (first, second) = (self.term(left)?, self.term(right)?);
        let span = left.span.to(right.span);
        if self.is_number(first.kind) && self.is_number(second.kind) && !self.is_span(&first, &second) {
            return self.numbers(sign, &first, &second, right.span);
        }
        let nanoseconds = |term: &Term| match (term.kind, term.constant()) {
            (Type::Time, Some(ScalarValue::TimestampNanosecond(Some(time), _))) => lit(*time),
            (Type::Time, _) => cast(term.value(), DataType::Int64),
            _ => term.value(),
        };
        let is_span = |kind| matches!(kind, Type::Duration | Type::Micros);
        let kind = match (sign, first.kind, second.kind) {
            ('+', Type::Text | Type::Ip, Type::Text | Type::Ip) => {
                let joined =
                    binary(first.value(), datafusion::logical_expr::Operator::StringConcat, second.value());
                return Ok(Term::new(Type::Text, joined));
            }
            ('+', Type::List(one), Type::List(other)) if one == other => {
                let joined = array_concat(vec![whole_list(&first), whole_list(&second)]);
                return Ok(Term::new(first.kind, joined));
            }
            ('+' | '-', Type::Time, kind) if is_span(kind) => Type::Time,
            ('+', kind, Type::Time) if is_span(kind) => Type::Time,
            ('-', Type::Time, Type::Time) => Type::Duration,
            ('+' | '-', one, other) if is_span(one) && is_span(other) => Type::Duration,
            (_, one, other) => {
                let reason = format!("{} {sign} {} means nothing", a(one), a(other));
                return Err(Fault::new(span, reason));
            }
        };
        let (one, other) = (nanoseconds(&first), nanoseconds(&second));
        let result = match (one.as_literal(), other.as_literal()) {
            (Some(ScalarValue::Int64(Some(one))), Some(ScalarValue::Int64(Some(other)))) => {
                lit(if sign == '+' { one.wrapping_add(*other) } else { one.wrapping_sub(*other) })
            }
            _ if sign == '+' => one + other,
            _ => one - other,
        };
        let raw = match (kind, result.as_literal()) {
            (Type::Time, Some(ScalarValue::Int64(time))) => {
                Expr::Literal(ScalarValue::TimestampNanosecond(*time, None), None)
            }
            // A cast of a number means seconds in SQL.
            (Type::Time, _) => to_timestamp_nanos(vec![result]),
            _ => result,
        };
        Ok(Term::new(kind, raw))
    }

    /// A span and a span, rather than numbers.
    fn is_span(&self, left: &Term, right: &Term) -> bool {
        [left.kind, right.kind].contains(&Type::Duration)
    }

    fn numbers(&mut self, sign: char, left: &Term, right: &Term, at: Span) -> Result<Term, Fault> {
        let is_double = [left.kind, right.kind].contains(&Type::Double);
        let float = |expr: Expr| if is_double { cast(expr, DataType::Float64) } else { expr };
        let (one, other) = (float(self.number(left)), float(self.number(right)));
        let divisor = right.constant_int();
        if !is_double && matches!(sign, '/' | '%') && divisor == Some(0) {
            return Err(Fault::new(at, "nothing can be divided by zero"));
        }
        let raw = match sign {
            '+' => one + other,
            '-' => one - other,
            '*' => one * other,
            '/' if is_double => one / other,
            '%' if is_double => return Err(Fault::new(at, "% is for whole numbers")),
            // The least integer has no positive twin, and dividing it by -1 would end the query.
            '/' if divisor == Some(-1) => lit(0_i64) - one,
            '%' if divisor == Some(-1) => lit(0_i64),
            '/' if divisor.is_some() => one / other,
            '%' if divisor.is_some() => one % other,
            _ => {
                let turned = if sign == '/' { lit(0_i64) - one.clone() } else { lit(0_i64) };
                let safe = nullif(other.clone(), lit(0_i64));
                let divided = if sign == '/' { one / safe } else { one % safe };
                when(other.eq(lit(-1_i64)), turned)
                    .otherwise(divided)
                    .map_err(|error| Fault::new(at, error.strip_backtrace()))?
            }
        };
        Ok(Term::new(if is_double { Type::Double } else { Type::Int }, raw))
    }

    /// `-a`
    pub fn negative(&mut self, inner: &Node) -> Result<Term, Fault> {
        let term = self.term(inner)?;
        let kind = match term.kind {
            Type::Micros => Type::Int,
            kind @ (Type::Int | Type::Double | Type::Duration) => kind,
            kind => return Err(Fault::new(inner.span, format!("{} has no negative", a(kind)))),
        };
        let raw = match (term.constant(), kind) {
            (Some(ScalarValue::Int64(Some(number))), _) => lit(number.wrapping_neg()),
            (Some(ScalarValue::Float64(Some(number))), _) => lit(-number),
            (_, Type::Double) => lit(0.0) - term.value(),
            (_, Type::Duration) => lit(0_i64) - term.value(),
            _ => lit(0_i64) - self.number(&term),
        };
        Ok(Term::new(kind, raw))
    }

    /// A type that is a number where one is asked for.
    pub fn is_number(&self, kind: Type) -> bool {
        matches!(kind, Type::Int | Type::Double | Type::Micros)
    }

    /// A term as a number: 64 bits, spans in microseconds.
    pub fn number(&self, term: &Term) -> Expr {
        match term.kind {
            Type::Micros if term.absent.is_none() => term.raw.clone() / lit(1000_i64),
            Type::Micros => term.value() / lit(1000_i64),
            Type::Int if term.constant().is_none() => cast(term.value(), DataType::Int64),
            _ => term.value(),
        }
    }
}

fn pattern_side<'a>(left: &'a Node, right: &'a Node) -> Option<(&'a Node, &'a Node)> {
    match (&left.kind, &right.kind) {
        (_, Kind::Raw(_)) => Some((right, left)),
        (Kind::Raw(_), _) => Some((left, right)),
        _ => None,
    }
}

/// The side that has several names, and the other one, which has not: two ends have the same name where
/// lists show the same.
fn named_side<'a>(
    left: &'a Term,
    right: &'a Term,
    comparison: Comparison,
) -> Option<(&'a Term, &'a Term, Comparison)> {
    match (left.others.is_empty(), right.others.is_empty()) {
        (false, true) => Some((left, right, comparison)),
        (true, false) => Some((right, left, comparison.mirrored())),
        _ => None,
    }
}

fn binary(left: Expr, operator: datafusion::logical_expr::Operator, right: Expr) -> Expr {
    datafusion::logical_expr::binary_expr(left, operator, right)
}

fn applied(comparison: Comparison, left: Expr, right: Expr) -> Expr {
    match comparison {
        Comparison::Equal => left.eq(right),
        Comparison::NotEqual => left.not_eq(right),
        Comparison::Less => left.lt(right),
        Comparison::LessOrEqual => left.lt_eq(right),
        Comparison::Greater => left.gt(right),
        Comparison::GreaterOrEqual => left.gt_eq(right),
    }
}

/// Two types that do not compare, and what was probably meant.
fn unlike(left: &Term, right: &Term, span: Span) -> Fault {
    let reason = format!("{} does not compare with {}", a(left.kind), a(right.kind));
    let fault = Fault::new(span, reason);
    let (term, other) = if left.constant().is_some() { (right, left) } else { (left, right) };
    let written = other.constant_text();
    match (term.kind, other.kind) {
        (Type::Int | Type::Micros | Type::Double, Type::Text) => match written.map(str::parse::<f64>) {
            Some(Ok(number)) => fault.hint(format!("write the number without quotes: {number}")),
            _ if term.kind == Type::Micros => fault.hint("write the span as duration(\"100ms\")"),
            _ => fault.hint("compare it with a number"),
        },
        (Type::Text | Type::Ip, Type::Int | Type::Double) => {
            fault.hint("write the text in quotes, or make the string a number: int(...)")
        }
        (Type::Time, Type::Text) => fault.hint("write the time as timestamp(\"2026-03-14T22:00:00Z\")"),
        (Type::Time, Type::Int | Type::Double) => {
            fault.hint("write the time as timestamp(\"2026-03-14T22:00:00Z\")")
        }
        (Type::Duration, Type::Text) => fault.hint("write the span as duration(\"100ms\")"),
        (Type::List(_), Type::Text) => fault.hint("ask whether it is in the list: \"…\" in list"),
        (Type::Map, _) => fault.hint("compare one of its keys: map[\"key\"] == \"…\""),
        _ => fault,
    }
}
