//! Questions to recordings: sources, index, identity join, SQL. Works on a laptop, without a cluster, and opens recordings
//! read-only.

pub mod asked;
pub mod blind;
pub mod cache;
pub mod capture;
pub mod cli;
pub mod coverage;
pub mod identity;
pub mod index;
pub mod info;
pub mod kfl;
pub mod name_coverage;
pub mod packet_coverage;
pub mod pcap;
pub mod place;
pub mod print;
pub mod progress;
pub mod provenance;
pub mod rounds;
pub mod runs;
pub mod session;
pub mod source;
pub mod survey;
pub mod times;
pub mod tls_coverage;
pub mod verify;
pub mod yielding;
