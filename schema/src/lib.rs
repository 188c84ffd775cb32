//! Everything that crosses a process boundary: the tables, the segment, log and manifest formats.
//! Pure data and pure functions; this crate does no I/O and knows no async runtime.

pub mod call;
pub mod cell;
pub mod identity;
pub mod manifest;
pub mod reference;
pub mod segment;
pub mod shared;
pub mod shown;
pub mod table;
pub mod tables;
pub mod views;
