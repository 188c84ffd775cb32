//! The row of a request and its response.

use std::borrow::Cow;

use shark_schema::table::Block;
use shark_schema::tables::kafka::{KafkaBlock, KafkaRow};

use super::{Message, api, errors};
use crate::layer::Written;

/// Appends the row; at least one half is there.
pub fn write(request: Option<&Message>, response: Option<&Message>, columns: &mut KafkaBlock) -> Written {
    let first = request.or(response).expect("a call has at least one half");
    let (asked, answered) = (request.map(|half| &half.body), response.map(|half| &half.body));
    let halves = || asked.into_iter().chain(answered);
    let name = first.api.map(|(key, _)| match api::by_key(key) {
        Some(api) => Cow::Borrowed(api.name),
        None => key.to_string().into(),
    });
    let error = answered.and_then(|body| body.error);
    let error_name = error.map(errors::name);
    let row = KafkaRow {
        api: name.as_deref(),
        api_version: first.api.map(|(_, version)| version.into()),
        correlation_id: Some(first.correlation),
        client_id: request.and_then(|request| request.client_id.as_deref()),
        group: halves().find_map(|body| body.group.as_deref()),
        topic: halves().find_map(|body| body.topic.as_deref()),
        partition: halves().find_map(|body| body.partition),
        offset: halves().find_map(|body| body.offset),
        records: halves().find_map(|body| body.records),
        acks: asked.and_then(|body| body.acks).map(i32::from),
        throttle_ms: answered.and_then(|body| body.throttle_ms),
        error_code: error.map(i32::from),
        error_name: error_name.as_deref(),
        api_key: first.api.map(|(key, _)| key.into()),
        ..KafkaRow::default()
    };
    let is_done = response.is_some() || super::is_unanswered(first);
    Written {
        bytes: columns.append(&row),
        is_error: is_done.then_some(error.is_some_and(|error| error != 0)),
        error_type: error.filter(|error| *error != 0).map(errors::name),
        ..Written::default()
    }
}
