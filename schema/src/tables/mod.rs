//! The catalogue: one file a table. Adding a table takes its file, its `mod` line and its line in [`TABLES`].

pub mod amqp;
pub mod coverage;
pub mod db;
pub mod diameter;
pub mod dns;
pub mod flow_copies;
pub mod flows;
pub mod http;
pub mod icmp;
pub mod identity_conflicts;
pub mod k8s_events;
pub mod kafka;
pub mod ldap;
pub mod name_coverage;
pub mod nat_links;
pub mod network_policies;
pub mod nodes;
pub mod packets;
pub mod pods;
pub mod processes;
pub mod radius;
pub mod redis;
pub mod segments;
pub mod services;
pub mod snapshots;
pub mod sockets;
pub mod tls;
pub mod tls_coverage;
pub mod ws;

use crate::table::Table;

/// All tables, in the order of the reference.
pub static TABLES: &[&Table] = &[
    &flows::TABLE,
    &flow_copies::TABLE,
    &nat_links::TABLE,
    &http::TABLE,
    &dns::TABLE,
    &db::TABLE,
    &redis::TABLE,
    &kafka::TABLE,
    &amqp::TABLE,
    &tls::TABLE,
    &ws::TABLE,
    &ldap::TABLE,
    &radius::TABLE,
    &diameter::TABLE,
    &icmp::TABLE,
    &pods::TABLE,
    &services::TABLE,
    &nodes::TABLE,
    &processes::TABLE,
    &sockets::TABLE,
    &k8s_events::TABLE,
    &network_policies::TABLE,
    &identity_conflicts::TABLE,
    &segments::TABLE,
    &coverage::TABLE,
    &tls_coverage::TABLE,
    &name_coverage::TABLE,
    &snapshots::TABLE,
    &packets::TABLE,
];

/// A table by name.
pub fn table(name: &str) -> Option<&'static Table> {
    TABLES.iter().copied().find(|table| table.name == name)
}
