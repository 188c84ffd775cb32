//! The flight recorder of a node's network: packets and facts into a ring on disk, windows of it into a snapshot.
//! In: packets of network interfaces or of a capture file. Out: segments, sidecars, logs, snapshots (see `shark-schema`).
//! It must never stop silently, fill the disk, or lose a packet without saying how many, where and why.

pub mod api;
pub mod attach;
pub mod batch;
pub mod capture;
pub mod cli;
pub mod config;
pub mod devices;
pub mod log;
pub mod netlink;
pub mod record;
pub mod ring;
pub mod segment;
pub mod snapshot;
pub mod stats;
pub mod supervisor;
pub mod targets;
pub mod time;
pub mod tls;
pub mod units;
pub mod witness;
