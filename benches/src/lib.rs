//! Traffic that is the same for every run, and what it takes to compare programs that read it.
//! In: a seed and a size. Out: captures with the count of what is in them, and measured runs of programs over them.
//! A speed is only claimed once every program has seen all there is to see.

pub mod line;
pub mod measure;
pub mod memory_file;
pub mod mix;
pub mod pcap;
pub mod shapes;
pub mod words;
