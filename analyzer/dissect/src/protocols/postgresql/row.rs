//! The row of a request of PostgreSQL and its answer.

use shark_schema::table::Block;
use shark_schema::tables::db::{DbBlock, DbRow};

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
    let statement = asked.and_then(|asked| asked.statement.as_deref());
    let facts = statement.map(|text| sql::facts(text, Dialect::Postgresql)).unwrap_or_default();
    let text = statement.map(|text| sql::masked(text, Dialect::Postgresql));
    let error = answered.and_then(|answered| answered.error.as_ref());
    let tagged = answered.and_then(|answered| answered.operation.as_deref());
    let row = DbRow {
        system: Some("postgresql"),
        database: session.and_then(|session| session.database.as_deref()),
        user: session.and_then(|session| session.user.as_deref()),
        command: asked.map(|asked| asked.command),
        operation: tagged.or(facts.operation.as_deref()),
        collection: facts.collection.as_deref(),
        statement: text.as_deref(),
        fingerprint: statement.map(|_| facts.fingerprint.as_str()),
        rows: answered.and_then(|answered| answered.tag_rows.or(answered.data_rows.filter(|rows| *rows > 0))),
        error_code: error.and_then(|error| error.code.as_deref()),
        error_message: error.and_then(|error| error.message.as_deref()),
        ..DbRow::default()
    };
    Written {
        bytes: columns.append(&row),
        is_error: answered.filter(|answered| answered.is_whole).map(|_| error.is_some()),
        error_type: error.map(|error| error.code.clone().unwrap_or_else(|| "error".into()).into()),
        trace_id: statement.and_then(sql::trace_id),
        ..Written::default()
    }
}
