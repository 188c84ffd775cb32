//! Protocols against captures of real servers: golden rows, tshark's word, other cuts of the same streams, and the registry
//! that keeps tables, layers and fixtures together.

mod cutting;
mod golden;
mod inside;
mod kinds;
mod outside;
mod recording;
mod registry;
mod truth;
