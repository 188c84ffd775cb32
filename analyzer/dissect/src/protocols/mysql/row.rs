//! The row of a command of MySQL and its answer.

use shark_schema::table::Block;
use shark_schema::tables::db::{DbBlock, DbRow};

use super::asks::{Command, INIT_DB};
use super::{Message, Request, Response};
use crate::layer::Written;
use crate::protocols::sql::{self, Dialect};

/// Appends the row; at least one half is there.
pub(super) fn write(request: Option<&Message>, response: Option<&Message>, columns: &mut DbBlock) -> Written {
    let (mut asked, mut answered): (Option<&Request>, Option<&Response>) = (None, None);
    for half in [request, response].into_iter().flatten() {
        match half {
            Message::Request(request) => asked = Some(request),
            Message::Response(response) => answered = Some(response),
        }
    }
    let session = asked.map(|asked| &asked.session).or(answered.map(|answered| &answered.session));
    let session = session.and_then(Option::as_deref);
    let text = asked.and_then(|asked| asked.statement.as_deref());
    // The name of a database is all there is of that command.
    let (statement, chosen) = match asked.map(|asked| asked.command) {
        Some(Command::Com(INIT_DB)) => (None, text),
        _ => (text, None),
    };
    let facts = statement.map(|text| sql::facts(text, Dialect::Mysql)).unwrap_or_default();
    let masked = statement.map(|text| sql::masked(text, Dialect::Mysql));
    let error = answered.and_then(|answered| answered.error.as_ref());
    let code = error.map(|error| error.code.to_string());
    let statement_id = asked.and_then(|asked| asked.statement_id);
    let statement_id = statement_id.or(answered.and_then(|answered| answered.statement_id));
    let row = DbRow {
        system: Some("mysql"),
        database: chosen.or(session.and_then(|session| session.database.as_deref())),
        user: session.and_then(|session| session.user.as_deref()),
        command: asked.map(|asked| asked.command.name()),
        operation: facts.operation.as_deref(),
        collection: facts.collection.as_deref(),
        statement: masked.as_deref(),
        fingerprint: statement.map(|_| facts.fingerprint.as_str()),
        rows: answered.and_then(|answered| answered.rows).map(|rows| rows.min(i64::MAX as u64) as i64),
        error_code: code.as_deref(),
        error_message: error.map(|error| error.message.as_str()),
        statement_id: statement_id.map(i64::from),
        sqlstate: error.and_then(|error| error.sqlstate.as_deref()),
        ..DbRow::default()
    };
    Written {
        bytes: columns.append(&row),
        is_error: answered.map(|_| error.is_some()),
        error_type: code.clone().map(Into::into),
        trace_id: statement.and_then(sql::trace_id),
        ..Written::default()
    }
}
