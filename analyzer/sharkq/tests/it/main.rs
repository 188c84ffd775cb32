//! The analyzer as its users run it: real programs, real packets from the recorder, the senders' own word as the truth.
//! One binary, since each one that links the query engine is large.
//! A test that lacks a tool or a right says so on standard error and passes.

mod absence;
mod bundled;
mod captures;
mod cluster;
mod commands;
mod corpus;
mod desk;
mod determinism;
mod dns;
mod duckdb;
mod errors;
mod evidence;
mod first_answer;
mod footer;
mod hostile;
mod hostile_logs;
mod hostile_names;
mod identity;
mod identity_facts;
mod kfl_names;
mod kfl_rows;
mod kfl_twins;
mod kfl_words;
mod live_ring;
mod names;
mod names_agents;
mod names_verdicts;
mod nginx;
mod notebook;
mod output;
mod packets;
mod pair;
mod plaintext;
mod plaintext_pods;
mod programs;
mod s3;
mod safety;
mod same;
mod server_names;
mod shop;
mod terminal;
mod truth;
mod vantage;
