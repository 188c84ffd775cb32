//! Times and spans that are written in an expression. In: RFC 3339 texts, spans as Go writes them, the helpers of KFL v1
//! that are relative to now. Out: literals; rows are never parsed as times.

use datafusion::common::ScalarValue;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::check::{Check, a};
use super::error::{Fault, Span};
use super::syntax::Node;
use super::types::{Term, Type};

impl Check {
    /// A function that gives a time or a span; `None` if the name is none of them or its arguments are too many or few.
    pub fn time_call(&mut self, name: &str, span: Span, arguments: &[Node]) -> Option<Result<Term, Fault>> {
        match (name, arguments) {
            ("now", []) => Some(Ok(time(self.now_ns))),
            ("timestamp", [one]) => Some(self.timestamp(one)),
            ("datetime", [one]) => Some(self.datetime(one)),
            ("duration", [one]) => Some(self.duration(one)),
            ("seconds" | "minutes" | "hours" | "days" | "weeks" | "months" | "years", [one]) => {
                Some(self.relative(name, span, one))
            }
            _ => None,
        }
    }

    fn timestamp(&mut self, node: &Node) -> Result<Term, Fault> {
        let term = self.term(node)?;
        let fault = |reason: String| {
            Fault::new(node.span, reason).hint("write the time as timestamp(\"2026-03-14T22:00:00Z\")")
        };
        let nanoseconds = match (term.kind, term.constant_text(), term.constant_int()) {
            (Type::Time, ..) => return Ok(term),
            (Type::Text, Some(text), _) => parsed(text),
            // CEL: seconds since 1970.
            (Type::Int, _, Some(seconds)) => seconds.checked_mul(1_000_000_000),
            (Type::Text | Type::Int, ..) => {
                return Err(fault("a time is written out, not taken from a row".into()));
            }
            (kind, ..) => return Err(fault(format!("{} is no time", a(kind)))),
        };
        nanoseconds.map(time).ok_or_else(|| fault("this is no time between 1677 and 2262".into()))
    }

    /// As KFL v1 wrote times, in UTC.
    fn datetime(&mut self, node: &Node) -> Result<Term, Fault> {
        let term = self.term(node)?;
        let parse = |text: &str| {
            let civil = DateTime::strptime("%m/%d/%Y, %I:%M:%S%.f %p", text).ok()?;
            nanoseconds(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
        };
        term.constant_text().and_then(parse).map(time).ok_or_else(|| {
            Fault::new(node.span, "this is no time").hint("write it as timestamp(\"2021-10-19T18:29:02Z\")")
        })
    }

    fn duration(&mut self, node: &Node) -> Result<Term, Fault> {
        let term = self.term(node)?;
        let span = term.constant_text().and_then(span_ns);
        span.map(|span| Term::literal(Type::Duration, ScalarValue::Int64(Some(span)))).ok_or_else(|| {
            Fault::new(node.span, "this is no span of time")
                .hint("write it as duration(\"5m\"), duration(\"1h30m\") or duration(\"250ms\")")
        })
    }

    /// `minutes(-5)`: five minutes ago.
    fn relative(&mut self, unit: &str, span: Span, node: &Node) -> Result<Term, Fault> {
        let term = self.term(node)?;
        let Some(count) = term.constant_int().filter(|count| count.unsigned_abs() < 1_000_000_000) else {
            let hint = format!("write it as {unit}(-5)");
            return Err(Fault::new(node.span, "a whole number is expected here").hint(hint));
        };
        let now = Timestamp::from_nanosecond(self.now_ns.into()).ok();
        let later = now.and_then(|now| {
            let span = match unit {
                "seconds" => jiff::Span::new().try_seconds(count),
                "minutes" => jiff::Span::new().try_minutes(count),
                "hours" => jiff::Span::new().try_hours(count),
                "days" => jiff::Span::new().try_days(count),
                "weeks" => jiff::Span::new().try_weeks(count),
                "months" => jiff::Span::new().try_months(count),
                _ => jiff::Span::new().try_years(count),
            };
            let then = now.to_zoned(TimeZone::UTC).checked_add(span.ok()?).ok()?;
            nanoseconds(then.timestamp())
        });
        later.map(time).ok_or_else(|| Fault::new(span, "this is no time between 1677 and 2262"))
    }
}

fn time(nanoseconds: i64) -> Term {
    Term::literal(Type::Time, ScalarValue::TimestampNanosecond(Some(nanoseconds), None))
}

fn nanoseconds(time: Timestamp) -> Option<i64> {
    i64::try_from(time.as_nanosecond()).ok()
}

/// RFC 3339, or the same without a zone, which is UTC.
fn parsed(text: &str) -> Option<i64> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return nanoseconds(time);
    }
    let civil: DateTime = text.parse().ok()?;
    nanoseconds(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// `1h30m`, `250ms`, `-1.5s`: as Go writes spans, and days.
fn span_ns(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0;
    while !rest.is_empty() && rest != "0" {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit_ns = match &rest[..end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "d" => 86400e9,
            _ => return None,
        };
        total += number * unit_ns;
        rest = &rest[end..];
    }
    // Beyond this a 64-bit number of nanoseconds ends: 292 years.
    let fits = total < i64::MAX as f64;
    fits.then_some(if negative { -(total as i64) } else { total as i64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        let spans =
            [("5m", 300e9), ("1h30m", 5400e9), ("250ms", 250e6), ("1.5s", 1.5e9), ("-2us", -2e3), ("0", 0.0)];
        for (text, expected) in spans {
            assert_eq!(span_ns(text), Some(expected as i64), "{text}");
        }
        for bad in ["", "-", "5", "m", "5x", "1h30", "9999999h", "1..5s", ".s"] {
            assert_eq!(span_ns(bad), None, "{bad}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(parsed("1970-01-01T00:00:01Z"), Some(1_000_000_000));
        assert_eq!(parsed("1970-01-01T01:00:00.5+01:00"), Some(500_000_000));
        assert_eq!(parsed("1970-01-01 00:00:02"), Some(2_000_000_000));
        assert_eq!(parsed("9999-01-01T00:00:00Z"), None);
        assert_eq!(parsed("yesterday"), None);
    }
}
