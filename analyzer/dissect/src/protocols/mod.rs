//! The protocols. Adding one takes its file, its `mod` line and its line in [`PROTOCOLS`].

pub mod amqp;
pub mod diameter;
pub mod dns;
pub mod http;
pub mod kafka;
pub mod ldap;
pub mod mongodb;
pub mod mysql;
pub mod postgresql;
pub mod radius;
pub mod redis;
mod rest;
mod sql;
mod statements;
pub mod tls;

use shark_schema::table::Table;

use crate::dissector::{Dissector, Options, Over, Probe};
use crate::driver::{Conversation, Driver};
use crate::rows::{CallRows, Rows};

/// All protocols.
pub static PROTOCOLS: &[Protocol] = &[
    protocol::<http::Http>(),
    protocol::<dns::DnsUdp>(),
    protocol::<dns::DnsTcp>(),
    protocol::<postgresql::Postgresql>(),
    protocol::<mysql::Mysql>(),
    protocol::<mongodb::Mongodb>(),
    protocol::<redis::Redis>(),
    protocol::<kafka::Kafka>(),
    protocol::<amqp::Amqp>(),
    protocol::<tls::Tls>(),
    protocol::<ldap::LdapTcp>(),
    protocol::<ldap::LdapUdp>(),
    protocol::<radius::Radius>(),
    protocol::<diameter::Diameter>(),
];

/// A protocol, erased.
pub struct Protocol {
    /// Name.
    pub name: &'static str,
    /// Transport.
    pub over: Over,
    /// Usual ports.
    pub ports: &'static [u16],
    /// Its table.
    pub table: &'static Table,
    /// See [`Dissector::probe`].
    pub probe: fn(&[u8]) -> Probe,
    /// See [`Dissector::probe_elsewhere`].
    pub probe_elsewhere: fn(&[u8]) -> Probe,
    /// See [`Dissector::resync`].
    pub resync: fn(&[u8]) -> Option<usize>,
    /// Starts a conversation: the table's number, options, and whether the capture has its start.
    pub talk: fn(usize, Options, bool) -> Box<dyn Conversation>,
    /// Empty builders of its table.
    pub rows: fn() -> Box<dyn Rows>,
}

const fn protocol<D: Dissector>() -> Protocol {
    Protocol {
        name: D::NAME,
        over: D::OVER,
        ports: D::PORTS,
        table: D::TABLE,
        probe: D::probe,
        probe_elsewhere: D::probe_elsewhere,
        resync: D::resync,
        talk: |table, options, aligned| Box::new(Driver::<D>::new(table, options, aligned)),
        rows: || Box::new(CallRows::<D::Columns>::default()),
    }
}

/// The distinct tables of [`PROTOCOLS`], in order.
pub fn call_tables() -> Vec<&'static Table> {
    let mut tables: Vec<&'static Table> = Vec::new();
    for protocol in PROTOCOLS {
        if !tables.iter().any(|table| table.name == protocol.table.name) {
            tables.push(protocol.table);
        }
    }
    tables
}

/// Number of a protocol's table in [`call_tables`].
pub fn table_number(protocol: &Protocol) -> usize {
    call_tables()
        .iter()
        .position(|table| table.name == protocol.table.name)
        .expect("its table is in the list")
}

/// Does a direction that begins with these bytes speak the protocol?
type Begins = fn(&[u8]) -> Probe;

/// Protocols that are named in `flows.l7` but whose content has no table.
pub static RECOGNISED: &[(&str, Begins)] = &[
    ("http2", |bytes| begins_with(bytes, &["PRI * HTTP/2.0\r\n"])),
    ("ssh", |bytes| begins_with(bytes, &["SSH-2.0-", "SSH-1.99-"])),
];

fn begins_with(bytes: &[u8], any: &[&str]) -> Probe {
    let known = || any.iter().map(|text| text.as_bytes());
    if known().any(|text| bytes.starts_with(text)) {
        Probe::Yes
    } else if known().any(|text| text.starts_with(bytes)) {
        Probe::More
    } else {
        Probe::No
    }
}
