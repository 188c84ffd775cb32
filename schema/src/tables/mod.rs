//! The catalogue: one file a table. Adding a table takes its file, its `mod` line and its line in [`TABLES`].

pub mod coverage;
pub mod dns;
pub mod flows;
pub mod http;
pub mod packets;
pub mod processes;
pub mod segments;
pub mod snapshots;
pub mod sockets;

use crate::table::Table;

/// All tables, in the order of the reference.
pub static TABLES: &[&Table] = &[
    &flows::TABLE,
    &http::TABLE,
    &dns::TABLE,
    &processes::TABLE,
    &sockets::TABLE,
    &segments::TABLE,
    &coverage::TABLE,
    &snapshots::TABLE,
    &packets::TABLE,
];

/// A table by name.
pub fn table(name: &str) -> Option<&'static Table> {
    TABLES.iter().copied().find(|table| table.name == name)
}
