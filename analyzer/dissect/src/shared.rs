//! The values that all rows of a flow share: its id, its endpoints, the segment it is in. In: these values, given with each row.
//! Out: each distinct set of values once, for each row the number of its set, and columns that are built from both.

use std::fmt::{self, Write};
use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, DictionaryArray, Int32Array, StringArray, StringBuilder, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;
use shark_schema::table::{Endpoint, EndpointColumn, FlowColumn};

use crate::flow::has_ports;
use crate::frame::End;
use crate::rows::{Catalog, INSIDE};

/// The id of a flow: twenty hexadecimal digits of a hash of its key and its first time stamp.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowId(pub [u8; 20]);

impl FlowId {
    /// As it stands in tables.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("these are digits")
    }
}

impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The values that rows of a flow share, as they were known when the rows were written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shared {
    /// The flow.
    pub id: FlowId,
    /// IP protocol.
    pub protocol: u8,
    /// The client.
    pub src: End,
    /// The server.
    pub dst: End,
    /// Number of the segment that contains the first packet of the row.
    pub segment: u32,
    /// As of when its endpoints are named.
    pub named_at_ns: i64,
    /// Last packet, where the names must hold until then.
    pub end_ns: Option<i64>,
    /// Programs at its ends told it; on the wire it is encrypted.
    pub is_inside: bool,
    /// Whom the client asked for when it began TLS; only rows of flows have it.
    pub server_name: Option<Arc<str>>,
}

/// The shared values of the rows in a builder.
#[derive(Default)]
pub struct SharedRows {
    list: Vec<Shared>,
    numbers: Vec<u32>,
    known: HashTable<u32>,
}

impl SharedRows {
    /// Appends the shared values of a row; returns the bytes that this took.
    pub fn append(&mut self, shared: Shared) -> usize {
        const NUMBER_BYTES: usize = 4;
        let hash = FxBuildHasher.hash_one(&shared);
        let list = &mut self.list;
        if let Some(number) = self.known.find(hash, |at| list[*at as usize] == shared) {
            self.numbers.push(*number);
            return NUMBER_BYTES;
        }
        let number = list.len() as u32;
        list.push(shared);
        self.numbers.push(number);
        self.known.insert_unique(hash, number, |at| FxBuildHasher.hash_one(&list[*at as usize]));
        NUMBER_BYTES + size_of::<Shared>()
    }

    /// Takes the distinct values, and for each row the index of its values among them.
    pub fn take(&mut self) -> (Vec<Shared>, Vec<u32>) {
        self.known = HashTable::new();
        (std::mem::take(&mut self.list), std::mem::take(&mut self.numbers))
    }
}

/// The values of a column for each flow; `None` where only the identity log tells.
pub fn flow_values(column: FlowColumn, flows: &[Shared], catalog: &Catalog) -> Option<ArrayRef> {
    let segment = |flow: &Shared| &catalog.segments[flow.segment as usize];
    let values: StringArray = match column {
        FlowColumn::FlowId => flows.iter().map(|flow| Some(flow.id.as_str())).collect(),
        FlowColumn::SnapshotId => flows.iter().map(|flow| segment(flow).snapshot_id.as_deref()).collect(),
        FlowColumn::Cluster => flows.iter().map(|flow| segment(flow).cluster.as_deref()).collect(),
        FlowColumn::Node => flows.iter().map(|flow| segment(flow).node.as_deref()).collect(),
        FlowColumn::Vantage => flows.iter().map(|flow| flow.is_inside.then_some(INSIDE)).collect(),
        _ => return None,
    };
    Some(Arc::new(values))
}

/// The values of a column of one endpoint for each flow; `None` where only the identity log tells.
pub fn endpoint_values(endpoint: Endpoint, column: EndpointColumn, flows: &[Shared]) -> Option<ArrayRef> {
    let end = |flow: &Shared| match endpoint {
        Endpoint::Src => flow.src,
        Endpoint::Dst => flow.dst,
    };
    Some(match (column, endpoint) {
        (EndpointColumn::Ip, _) => {
            let mut ips = StringBuilder::new();
            for flow in flows {
                let _ = write!(ips, "{}", end(flow).addr());
                ips.append_value("");
            }
            Arc::new(ips.finish())
        }
        (EndpointColumn::Port, _) => {
            let port = |flow: &Shared| has_ports(flow.protocol).then(|| i32::from(end(flow).port));
            Arc::new(flows.iter().map(port).collect::<Int32Array>())
        }
        (EndpointColumn::Dns, Endpoint::Dst) => {
            Arc::new(flows.iter().map(|flow| flow.server_name.as_deref()).collect::<StringArray>())
        }
        _ => return None,
    })
}

/// Builds a column in which each row has the value with its number. Texts become a dictionary, so that they are not copied.
pub fn spread(values: &ArrayRef, numbers: &[u32]) -> Result<ArrayRef, ArrowError> {
    let numbers = UInt32Array::from(numbers.to_vec());
    if !matches!(values.data_type(), DataType::Utf8) || values.is_empty() {
        return take(values, &numbers, None);
    }
    // Who reads a dictionary looks for NULL among its keys.
    let keys = match values.logical_nulls().filter(|nulls| nulls.null_count() > 0) {
        Some(nulls) => {
            let is_known = numbers.values().iter().map(|number| nulls.is_valid(*number as usize)).collect();
            UInt32Array::new(numbers.values().clone(), Some(is_known))
        }
        None => numbers,
    };
    Ok(Arc::new(DictionaryArray::try_new(keys, Arc::clone(values))?))
}
