//! What other interfaces and nodes saw of a conversation.

use super::flows::FlowBlock;
use crate::call::OriginBlock;
use crate::table::{Block, Table};

/// The columns of `flows`; what only the counted observation tells is NULL.
pub static TABLE: Table = Table {
    name: "flow_copies",
    doc: "Observations beyond the one that `flows` counts: one row per conversation and further interface, with the time, the \
          counters and the packets of that observation. What the programs at its ends told of what was said inside of TLS is \
          one, too, for each end that told: with vantage tls_uprobe, and bytes but no packets. The view `flows_all` is both together.",
    sort: &["dst_namespace", "dst_workload", "ts"],
    blocks: &[<FlowBlock as Block>::COLUMNS, <OriginBlock as Block>::COLUMNS],
    call: None,
    derived: &[],
};
