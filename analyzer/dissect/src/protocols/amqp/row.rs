//! The row of a method and its answer.

use std::borrow::Cow;

use shark_schema::table::Block;
use shark_schema::tables::amqp::{AmqpBlock, AmqpRow};

use super::method::{Arguments, Message};
use crate::layer::Written;

/// Appends the row; at least one half is there.
pub fn write(request: Option<&Message>, response: Option<&Message>, columns: &mut AmqpBlock) -> Written {
    let first = request.or(response).expect("a call has at least one half");
    let halves = || request.into_iter().chain(response);
    let text =
        |of: fn(&Arguments) -> &Option<Box<str>>| halves().find_map(|half| of(&half.arguments).as_deref());
    let reply_code = halves().find_map(|half| half.arguments.reply_code);
    let row = AmqpRow {
        method: Some(first.method.name),
        channel: Some(first.channel.into()),
        vhost: first.arguments.vhost.as_deref().or(first.vhost.as_deref()),
        exchange: text(|arguments| &arguments.exchange),
        routing_key: text(|arguments| &arguments.routing_key),
        queue: text(|arguments| &arguments.queue),
        delivery_tag: halves().find_map(|half| half.arguments.delivery_tag),
        redelivered: halves().find_map(|half| half.arguments.redelivered),
        reply_code,
        reply_text: text(|arguments| &arguments.reply_text),
        consumer_tag: text(|arguments| &arguments.consumer_tag),
        body_len: halves().find_map(|half| half.arguments.body_len),
        content_type: text(|arguments| &arguments.content_type),
        ..AmqpRow::default()
    };
    // A broker that cannot take a message says so with the method by which consumers hand theirs back.
    let is_refusal = first.method.name == "basic.nack" && !first.from_client;
    let error_type = match reply_code {
        Some(code @ 300..) => Some(code_name(code)),
        _ if is_refusal => Some("nack".into()),
        _ => None,
    };
    let is_done = response.is_some() || super::is_alone(first);
    Written {
        bytes: columns.append(&row),
        is_error: if error_type.is_some() { Some(true) } else { is_done.then_some(false) },
        error_type,
        ..Written::default()
    }
}

/// Names of reply codes (amqp0-9-1.xml, constants).
fn code_name(code: i32) -> Cow<'static, str> {
    let name = match code {
        311 => "CONTENT_TOO_LARGE",
        312 => "NO_ROUTE",
        313 => "NO_CONSUMERS",
        320 => "CONNECTION_FORCED",
        402 => "INVALID_PATH",
        403 => "ACCESS_REFUSED",
        404 => "NOT_FOUND",
        405 => "RESOURCE_LOCKED",
        406 => "PRECONDITION_FAILED",
        501 => "FRAME_ERROR",
        502 => "SYNTAX_ERROR",
        503 => "COMMAND_INVALID",
        504 => "CHANNEL_ERROR",
        505 => "UNEXPECTED_FRAME",
        506 => "RESOURCE_ERROR",
        530 => "NOT_ALLOWED",
        540 => "NOT_IMPLEMENTED",
        541 => "INTERNAL_ERROR",
        _ => return code.to_string().into(),
    };
    name.into()
}
