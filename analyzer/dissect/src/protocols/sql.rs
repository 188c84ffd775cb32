//! What the text of an SQL statement says of it: its first word, its main table, and the same statement without its literals.
//! In: a statement, perhaps cut. Out: texts for columns. It is a tokenizer and not a parser: what it does not know it leaves
//! out, and a literal never passes as anything else.

mod tokens;

use std::borrow::Cow;

pub use tokens::Dialect;
use tokens::{Token, Tokens};

/// What a row says of a statement.
#[derive(Debug, Default, PartialEq)]
pub struct Facts {
    /// First word, in upper case.
    pub operation: Option<String>,
    /// Main table.
    pub collection: Option<String>,
    /// The statement with `?` for its literals.
    pub fingerprint: String,
}

/// Reads a statement.
pub fn facts(text: &str, dialect: Dialect) -> Facts {
    let operation = Tokens::new(text, dialect).find_map(|(token, _)| match token {
        Token::Word(word) => Some(word.to_ascii_uppercase()),
        _ => None,
    });
    let collection = operation.as_deref().and_then(|operation| collection(text, dialect, operation));
    Facts { operation, collection, fingerprint: fingerprint(text, dialect) }
}

/// A statement that sets a password, with `?` for its texts.
pub fn masked(text: &str, dialect: Dialect) -> Cow<'_, str> {
    const SETS: [&str; 4] = ["CREATE", "ALTER", "SET", "GRANT"];
    const SECRET: [&str; 2] = ["PASSWORD", "IDENTIFIED"];
    let is = |word: &str, any: &[&str]| any.iter().any(|known| word.eq_ignore_ascii_case(known));
    let mut out = String::new();
    let mut copied = 0;
    let (mut sets, mut secret) = (false, false);
    for (token, range) in Tokens::new(text, dialect) {
        match token {
            Token::Word(word) => {
                sets |= is(word, &SETS);
                secret |= sets && is(word, &SECRET);
            }
            Token::Text if secret => {
                out.push_str(&text[copied..range.start]);
                out.push('?');
                copied = range.end;
            }
            _ => {}
        }
    }
    if copied == 0 {
        return text.into();
    }
    out.push_str(&text[copied..]);
    out.into()
}

/// The trace id that a client put into a comment (sqlcommenter: `/*traceparent='00-<trace id>-...'*/`).
pub fn trace_id(text: &str) -> Option<String> {
    let (_, value) = text.split_once("traceparent='")?;
    let id = value.split('-').nth(1)?;
    let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| id.to_ascii_lowercase())
}

fn fingerprint(text: &str, dialect: Dialect) -> String {
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    for (token, range) in Tokens::new(text, dialect) {
        if range.start > end && !out.is_empty() {
            out.push(' ');
        }
        end = range.end;
        match token {
            Token::Text | Token::Number => out.push('?'),
            _ => out.push_str(&text[range]),
        }
    }
    let len = out.trim_end_matches([';', ' ']).len();
    out.truncate(len);
    out
}

/// Functions with a FROM in their parentheses.
const WITH_FROM: [&str; 4] = ["EXTRACT", "SUBSTRING", "TRIM", "OVERLAY"];
/// Words between the one that announces a table and its name.
const BETWEEN: [&str; 9] =
    ["ONLY", "IF", "NOT", "EXISTS", "LATERAL", "TABLE", "IGNORE", "LOW_PRIORITY", "DELAYED"];

/// The table behind the first FROM, INTO or TABLE, or the verb where it stands behind that.
fn collection(text: &str, dialect: Dialect, operation: &str) -> Option<String> {
    if matches!(operation, "SHOW" | "SET" | "FETCH" | "MOVE" | "USE" | "GRANT" | "REVOKE") {
        // What stands behind their FROM is a database, a cursor or a user.
        return None;
    }
    let mut tokens = Tokens::new(text, dialect).map(|(token, _)| token).peekable();
    let (mut depth, mut ignored): (u32, Option<u32>) = (0, None);
    let mut before = "";
    let mut is_first = true;
    while let Some(token) = tokens.next() {
        match token {
            Token::Symbol('(') => {
                let opens = ignored.is_none() && is_any(before, &WITH_FROM);
                ignored = ignored.or(opens.then_some(depth));
                depth += 1;
            }
            Token::Symbol(')') => {
                depth = depth.saturating_sub(1);
                ignored = ignored.filter(|from| *from < depth);
            }
            Token::Word(word) => {
                let announces = is_any(word, &["FROM", "INTO", "TABLE"])
                    || (is_first && is_any(word, &["UPDATE", "COPY", "TRUNCATE", "REPLACE"]));
                is_first = false;
                // IS DISTINCT FROM compares.
                let compares = before.eq_ignore_ascii_case("DISTINCT");
                before = word;
                if announces
                    && !compares
                    && ignored.is_none()
                    && let Some(name) = name(&mut tokens)
                {
                    return Some(name);
                }
                continue;
            }
            _ => {}
        }
        before = "";
    }
    None
}

/// The name that follows, with its qualifiers; none where a query, a function or a file follows.
fn name<'a>(tokens: &mut std::iter::Peekable<impl Iterator<Item = Token<'a>>>) -> Option<String> {
    while matches!(tokens.peek(), Some(Token::Word(word)) if is_any(word, &BETWEEN)) {
        tokens.next();
    }
    let mut name = String::new();
    loop {
        match tokens.peek() {
            Some(Token::Word(word)) if !is_any(word, &["OUTFILE", "DUMPFILE", "SELECT", "INTO", "FROM"]) => {
                name.push_str(word);
            }
            Some(Token::Name(word)) => name.push_str(word),
            _ => return None,
        }
        tokens.next();
        match tokens.peek() {
            Some(Token::Symbol('.')) => {
                name.push('.');
                tokens.next();
            }
            _ => return Some(name),
        }
    }
}

fn is_any(word: &str, any: &[&str]) -> bool {
    any.iter().any(|known| word.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Dialect::{Mysql, Postgresql};

    fn table(text: &str) -> Option<String> {
        facts(text, Postgresql).collection
    }

    #[test]
    fn main_tables() {
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(table("SELECT a FROM orders WHERE b = 'FROM x'"), some("orders"));
        assert_eq!(table("select 1 from only public.\"Order Items\" o"), some("public.Order Items"));
        assert_eq!(table("/* FROM x */ INSERT INTO t(a) VALUES (1)"), some("t"));
        assert_eq!(table("UPDATE t SET a = 1 FROM u"), some("t"));
        assert_eq!(table("DELETE FROM t"), some("t"));
        assert_eq!(table("DROP TABLE IF EXISTS t"), some("t"));
        assert_eq!(table("TRUNCATE t"), some("t"));
        assert_eq!(table("COPY t FROM STDIN"), some("t"));
        assert_eq!(table("COPY (SELECT * FROM u) TO STDOUT"), some("u"));
        assert_eq!(table("SELECT extract(year FROM ts), a IS DISTINCT FROM b FROM t FOR UPDATE"), some("t"));
        assert_eq!(table("SELECT * FROM (SELECT * FROM inner_one) x"), some("inner_one"));
        assert_eq!(table("WITH q AS (SELECT 1 FROM a) SELECT * FROM q"), some("a"));
        assert_eq!(table("DECLARE c CURSOR FOR SELECT * FROM t"), some("t"));
        assert_eq!(table("SELECT 1"), None);
        assert_eq!(table("SET x FROM y"), None);
        assert_eq!(table("SELECT 1 FROM"), None);
        assert_eq!(facts("REPLACE INTO `d b`.`t` VALUES (1)", Mysql).collection, some("d b.t"));
    }

    #[test]
    fn fingerprints_have_no_literals() {
        let of = |text: &str, dialect| facts(text, dialect).fingerprint;
        assert_eq!(
            of("SELECT  a,\n\tb FROM t -- why\nWHERE a='it''s' AND b = 1.5e3;", Postgresql),
            "SELECT a, b FROM t WHERE a=? AND b = ?"
        );
        assert_eq!(
            of("SELECT $1, $$a ' b$$, $x$ $$ $x$, E'\\'', x'ff', t1.c2", Postgresql),
            "SELECT ?, ?, ?, ?, ?, t1.c2"
        );
        assert_eq!(of("SELECT \"a\", 'b\\'c', `d` # end", Mysql), "SELECT ?, ?, `d`");
        assert_eq!(of("SELECT \"a\" /* b /* c */ d */ + 'cut", Postgresql), "SELECT \"a\" + ?");
        assert_eq!(of("", Mysql), "");
        assert_eq!(of("SELECT 'ñ', ñ", Mysql), "SELECT ?, ñ");
    }

    #[test]
    fn passwords_are_masked() {
        assert_eq!(
            masked("ALTER USER a WITH PASSWORD 'x' VALID UNTIL 'y'", Postgresql),
            "ALTER USER a WITH PASSWORD ? VALID UNTIL ?"
        );
        assert_eq!(
            masked("CREATE USER 'a'@'%' IDENTIFIED BY \"x\"", Mysql),
            "CREATE USER 'a'@'%' IDENTIFIED BY ?"
        );
        assert_eq!(masked("SET PASSWORD = PASSWORD('x')", Mysql), "SET PASSWORD = PASSWORD(?)");
        assert_eq!(
            masked("SELECT password FROM t WHERE a = 'x'", Mysql),
            "SELECT password FROM t WHERE a = 'x'"
        );
        assert_eq!(masked("ALTER USER a PASSWORD 'cut", Postgresql), "ALTER USER a PASSWORD ?");
    }

    #[test]
    fn a_trace_id_in_a_comment() {
        let text = "SELECT 1 /*traceparent='00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'*/";
        assert_eq!(trace_id(text).as_deref(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        assert_eq!(trace_id("SELECT 1 /*traceparent='00-zz'*/"), None);
    }
}
