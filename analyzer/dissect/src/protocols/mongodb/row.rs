//! The row of a command of MongoDB and its answer.

use shark_schema::table::Block;
use shark_schema::tables::db::{DbBlock, DbRow};

use super::facts::{Facts, Failure};
use super::render::{Show, command};
use super::{
    Message, OP_COMPRESSED, OP_DELETE, OP_GET_MORE, OP_INSERT, OP_KILL_CURSORS, OP_MSG, OP_QUERY, OP_REPLY,
    OP_UPDATE, Response,
};
use crate::layer::Written;

/// Appends the row; at least one half is there.
pub(super) fn write(request: Option<&Message>, response: Option<&Message>, columns: &mut DbBlock) -> Written {
    let (mut asked, mut answered, mut code) = (None, None, None);
    for half in [response, request].into_iter().flatten() {
        match half {
            Message::Request(request) => {
                asked = Some(&*request.asked);
                code = Some(request.code);
            }
            Message::Response(response) => {
                answered = Some(&**response);
                asked = response.asked.as_deref();
                code = Some(response.code);
            }
        }
    }
    let facts = asked.map(|asked| &asked.facts);
    let document = facts.filter(|facts| !facts.document.is_empty());
    let statement = document.map(|facts| command(facts, Show::Values));
    let fingerprint = document.map(|facts| command(facts, Show::Shape));
    let failure = answered.and_then(|answered| failure(&answered.facts));
    let error_code = failure.and_then(|failure| failure.code).map(|code| code.to_string());
    let row = DbRow {
        system: Some("mongodb"),
        database: facts.and_then(|facts| facts.database.as_deref()),
        user: asked.and_then(|asked| asked.user.as_deref()),
        command: code.and_then(name),
        operation: facts.and_then(|facts| facts.operation.as_deref()),
        collection: facts.and_then(|facts| facts.collection.as_deref()),
        statement: statement.as_deref(),
        fingerprint: fingerprint.as_deref(),
        rows: answered.and_then(rows),
        error_code: error_code.as_deref(),
        error_message: failure.and_then(|failure| failure.message.as_deref()),
        error_code_name: failure.and_then(|failure| failure.name.as_deref()),
        ..DbRow::default()
    };
    Written {
        bytes: columns.append(&row),
        is_error: answered.and_then(|answered| is_error(answered, failure)),
        error_type: failure.map(|failure| {
            let name = failure.name.clone().or(error_code.clone());
            name.unwrap_or_else(|| "error".into()).into()
        }),
        ..Written::default()
    }
}

/// What failed: the command, or else one of its writes.
fn failure(facts: &Facts) -> Option<&Failure> {
    let is_told = facts.failure.code.is_some() || facts.failure.message.is_some();
    match facts.ok {
        Some(true) => facts.write_failure.as_ref(),
        Some(false) => Some(&facts.failure),
        None => Some(&facts.failure).filter(|_| is_told),
    }
}

/// Not known of what could not be read.
fn is_error(answered: &Response, failure: Option<&Failure>) -> Option<bool> {
    (failure.is_some() || answered.facts.ok.is_some() || answered.returned.is_some())
        .then_some(failure.is_some())
}

/// Documents returned, or else those that were changed.
fn rows(answered: &Response) -> Option<i64> {
    let facts = &answered.facts;
    // What answers a command is a document too.
    let returned = answered.returned.filter(|_| facts.ok.is_none());
    facts.counted.or(facts.n).or(returned)
}

fn name(code: u32) -> Option<&'static str> {
    Some(match code {
        OP_REPLY => "OP_REPLY",
        OP_UPDATE => "OP_UPDATE",
        OP_INSERT => "OP_INSERT",
        OP_QUERY => "OP_QUERY",
        OP_GET_MORE => "OP_GET_MORE",
        OP_DELETE => "OP_DELETE",
        OP_KILL_CURSORS => "OP_KILL_CURSORS",
        OP_COMPRESSED => "OP_COMPRESSED",
        OP_MSG => "OP_MSG",
        _ => return None,
    })
}
