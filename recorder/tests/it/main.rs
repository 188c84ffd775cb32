//! The recorder against the real kernel: namespaces, veth pairs, packets numbered by their sender.
//! One binary, so that it links once. A test that needs root prints why it skips; nothing here touches a real interface.

mod bad_input;
mod budget;
mod crash;
mod disk;
mod doctor;
mod gcs;
mod gone;
mod kube;
mod kube_chart;
mod kube_gaps;
mod kube_log;
mod kube_snapshot;
mod kube_witness;
mod links;
mod live;
mod loss;
mod names_shown;
mod net;
mod nginx;
mod process;
mod reading;
mod removed;
mod replay;
mod resume;
mod s3;
mod snapshot;
mod start;
mod stores;
mod tls;
mod tls_matrix;
mod tls_programs;
mod witness;
