//! The protocols. Adding one takes its file, its `mod` line and its line in [`PROTOCOLS`].

pub mod amqp;
pub mod diameter;
pub mod dns;
pub mod http;
pub mod icmp;
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
pub mod ws;

use std::sync::LazyLock;

use shark_schema::table::Table;

use crate::batch::CallTable;
use crate::driver::{Conversation, Driver};
use crate::layer::{Begin, Carrier, Layer, Probe};

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
    protocol::<ws::Ws>(),
    protocol::<ldap::LdapTcp>(),
    protocol::<ldap::LdapUdp>(),
    protocol::<radius::Radius>(),
    protocol::<diameter::Diameter>(),
    protocol::<icmp::Icmp4>(),
    protocol::<icmp::Icmp6>(),
];

/// A protocol, erased.
pub struct Protocol {
    /// Name.
    pub name: &'static str,
    /// What carries it.
    pub over: Carrier,
    /// Usual ports.
    pub ports: &'static [u16],
    /// Its tables.
    pub tables: &'static [CallTable],
    /// See [`Layer::probe`].
    pub probe: fn(&[u8]) -> Probe,
    /// See [`Layer::probe_elsewhere`].
    pub probe_elsewhere: fn(&[u8]) -> Probe,
    /// See [`Layer::resync`].
    pub resync: fn(&[u8]) -> Option<usize>,
    /// Starts a conversation: the places of its tables, what it begins with, and whether the capture has its start.
    pub begin: fn(&'static [usize], &Begin<'_>, bool) -> Box<dyn Conversation>,
}

const fn protocol<L: Layer>() -> Protocol {
    Protocol {
        name: L::NAME,
        over: L::OVER,
        ports: L::PORTS,
        tables: L::TABLES,
        probe: L::probe,
        probe_elsewhere: L::probe_elsewhere,
        resync: L::resync,
        begin: |tables, begin, aligned| Box::new(Driver::<L>::new(tables, begin, aligned)),
    }
}

/// The distinct tables of [`PROTOCOLS`], in order.
pub(crate) static CALL_TABLES: LazyLock<Vec<&'static CallTable>> = LazyLock::new(|| {
    let mut tables: Vec<&'static CallTable> = Vec::new();
    for table in PROTOCOLS.iter().flat_map(|protocol| protocol.tables) {
        if !tables.iter().any(|known| known.table.name == table.table.name) {
            tables.push(table);
        }
    }
    tables
});

/// The distinct tables of [`PROTOCOLS`], in order.
pub fn call_tables() -> Vec<&'static Table> {
    CALL_TABLES.iter().map(|table| table.table).collect()
}

/// The places in [`call_tables`] of the tables of the protocol with this number in [`PROTOCOLS`].
pub(crate) fn table_numbers(protocol: usize) -> &'static [usize] {
    static NUMBERS: LazyLock<Vec<Vec<usize>>> = LazyLock::new(|| {
        let number = |table: &CallTable| {
            let mut tables = CALL_TABLES.iter();
            tables.position(|known| known.table.name == table.table.name).expect("its table is in the list")
        };
        PROTOCOLS.iter().map(|protocol| protocol.tables.iter().map(number).collect()).collect()
    });
    &NUMBERS[protocol]
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
