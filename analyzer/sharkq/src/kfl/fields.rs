//! The fields of KFL: the one list behind names, types, help, completions and `sharkq kfl --fields`. In: nothing. Out: for
//! each name its type and its expression over `entries`. A column that no table has yet is absent in every row.

mod calls;
mod ends;
mod flows;
mod others;

pub use ends::SHOWN;

use std::collections::HashMap;
use std::sync::LazyLock;

use super::types::{Fold, Type};

/// A field.
#[derive(Debug)]
pub struct Field {
    /// Its name in KFL2, or ours.
    pub name: &'static str,
    /// Other names: those of KFL v1 and our own.
    pub aliases: &'static [&'static str],
    /// Its type.
    pub kind: Type,
    /// Spelling of its texts.
    pub fold: Fold,
    /// Tables whose rows have it; all when empty.
    pub tables: &'static [&'static str],
    /// SQL over `entries`; empty where nothing recorded says it.
    pub sql: &'static str,
    /// SQL of other names of the same thing: a test of a text holds where it holds for any of them.
    pub others: &'static [&'static str],
    /// What it is.
    pub doc: &'static str,
}

impl Field {
    const fn new(name: &'static str, kind: Type, sql: &'static str, doc: &'static str) -> Field {
        Field { name, aliases: &[], kind, fold: Fold::None, tables: &[], sql, others: &[], doc }
    }

    /// True in the rows of a protocol.
    const fn flag(
        name: &'static str,
        tables: &'static [&'static str],
        sql: &'static str,
        doc: &'static str,
    ) -> Field {
        Field { name, aliases: &[], kind: Type::Bool, fold: Fold::None, tables, sql, others: &[], doc }
    }

    const fn or(mut self, aliases: &'static [&'static str]) -> Field {
        self.aliases = aliases;
        self
    }

    const fn of(mut self, tables: &'static [&'static str]) -> Field {
        self.tables = tables;
        self
    }

    const fn others(mut self, others: &'static [&'static str]) -> Field {
        self.others = others;
        self
    }

    const fn fold(mut self, fold: Fold) -> Field {
        self.fold = fold;
        self
    }

    /// The protocol a name begins with, and the table that has its rows.
    pub fn protocol(&self) -> Option<(&'static str, &'static str)> {
        let first = self.name.split(['_', '.']).next().unwrap_or(self.name);
        PROTOCOLS.iter().find(|(protocol, _)| *protocol == first).copied()
    }
}

/// All fields, by topic.
pub fn all() -> impl Iterator<Item = &'static Field> {
    [calls::FIELDS, ends::FIELDS, flows::FIELDS, others::FIELDS].into_iter().flatten()
}

/// All names and aliases.
pub fn names() -> impl Iterator<Item = &'static str> {
    BY_NAME.keys().copied()
}

/// A field by its name or an alias.
pub fn field(name: &str) -> Option<&'static Field> {
    BY_NAME.get(name).copied()
}

/// Protocols that have a table of their own, now or later.
pub const PROTOCOLS: &[(&str, &str)] = &[
    ("http", "http"),
    ("dns", "dns"),
    ("grpc", "grpc"),
    ("gql", "graphql"),
    ("gqlv1", "graphql"),
    ("gqlv2", "graphql"),
    ("ws", "ws"),
    ("redis", "redis"),
    ("kafka", "kafka"),
    ("amqp", "amqp"),
    ("ldap", "ldap"),
    ("radius", "radius"),
    ("diameter", "diameter"),
    ("tlsx", "tls"),
    ("mongodb", "db"),
    ("mysql", "db"),
    ("postgresql", "db"),
];

/// Names that other pages use, and what they mean here.
pub const MISNOMERS: &[(&str, &str)] = &[
    ("status", "status_code"),
    ("response.latency", "elapsed_time"),
    ("latency", "elapsed_time"),
    ("duration", "elapsed_time"),
    ("src.ns", "src.namespace"),
    ("dst.ns", "dst.namespace"),
    ("src.pod", "src.pod.name"),
    ("dst.pod", "dst.pod.name"),
    ("src.svc", "src.service.name"),
    ("dst.svc", "dst.service.name"),
    ("src.service", "src.service.name"),
    ("dst.service", "dst.service.name"),
    ("src.process", "src.process.name"),
    ("dst.process", "dst.process.name"),
    ("src.processName", "src.process.name"),
    ("dst.processName", "dst.process.name"),
    ("request.targetUri", "full_url"),
    ("request.pathSegments", "path"),
    ("request.postData", "request.body"),
    ("request.postData.text", "request.body"),
    ("response.content", "response.body"),
    ("response.content.text", "response.body"),
    ("response.content.size", "response_body_size"),
    ("response.content.mimeType", "content_type"),
    ("request.questions", "dns_questions"),
    ("response.answers", "dns_answers"),
    ("error.type", "error_type"),
    ("failed", "is_error"),
    ("headers", "request.headers"),
    ("response.header", "response.headers"),
    ("request.header", "request.headers"),
    ("uri", "url"),
    ("body", "response.body"),
    ("time", "timestamp"),
    ("ts", "timestamp"),
];

/// Names of what is in no row, and where it is.
pub const ELSEWHERE: &[(&str, &str)] = &[(
    "data.payload",
    "payloads are in the packets: `sharkq pcap SRC 'tcp' -w -` gives those behind an expression",
)];

static BY_NAME: LazyLock<HashMap<&'static str, &'static Field>> = LazyLock::new(|| {
    let named = |field: &'static Field| {
        std::iter::once(field.name).chain(field.aliases.iter().copied()).map(move |name| (name, field))
    };
    all().flat_map(named).collect()
});
