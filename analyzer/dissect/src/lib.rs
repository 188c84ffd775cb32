//! Bytes to rows: frames, flows, streams, protocols. Pure: no I/O, no async, no query engine.
//!
//! [`pipeline::Analysis`] is the way in: frames in rounds, record batches out. [`layer::Layer`] is what a protocol
//! implements; everything between the two is written once.

mod ages;
pub mod batch;
pub mod body;
mod buffer;
mod copies;
pub mod driver;
pub mod flow;
pub mod frame;
pub mod layer;
pub mod limits;
mod messages;
mod pairing;
pub mod pipeline;
pub mod protocols;
pub mod reassemble;
pub mod rows;
mod shard;
pub mod shared;
pub mod stream;
pub mod tcp;
mod write;
