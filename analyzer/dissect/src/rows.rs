//! Rows of calls: what a layer says of a call, with what the driver and the flow know of it.
//! In: calls as the driver finishes them. Out: a row in the builders of their shard.

use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use shark_schema::call::{CallRow, OriginRow};
use shark_schema::table::Block;

use crate::batch::{CallRows, Tables};
use crate::frame;
use crate::layer::{Carrier, Direction, End, Resolved, Written};
use crate::shared::{FlowId, Shared};
use crate::stream::Mark;

/// A recorded file or segment that frames come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SegmentInfo {
    /// Name, as rows give it.
    pub name: String,
    /// Snapshot it lies in.
    pub snapshot_id: Option<String>,
    /// Cluster it was recorded in.
    pub cluster: Option<String>,
    /// Node it was recorded on.
    pub node: Option<String>,
}

/// All sources, by the numbers frames carry.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Segments and files.
    pub segments: Vec<SegmentInfo>,
    /// Interface names; `None` where the file has none.
    pub interfaces: Vec<Option<String>>,
}

impl Catalog {
    /// Names of the segments, by number.
    pub fn segment_names(&self) -> ArrayRef {
        Arc::new(StringArray::from_iter_values(self.segments.iter().map(|segment| &segment.name)))
    }
}

/// The properties of a flow that its rows need.
#[derive(Debug)]
pub struct FlowFacts {
    /// `flow_id`.
    pub id: FlowId,
    /// IP protocol.
    pub protocol: u8,
    /// Addresses and ports of both ends.
    pub ends: [frame::End; 2],
    /// First packet.
    pub start_ns: i64,
    /// Who asked, and how that is known.
    pub client: Option<(Direction, &'static str)>,
    /// Protocols recognised.
    pub l7: Vec<&'static str>,
    /// Whom the client asked for when it began TLS.
    pub server_name: Option<Arc<str>>,
    /// Calls written.
    pub calls: u64,
}

/// Where a conversation writes.
pub struct Context<'a> {
    /// Its flow.
    pub flow: &'a mut FlowFacts,
    /// Builders of its shard.
    pub tables: &'a mut Tables,
    /// Names of segments.
    pub catalog: &'a Catalog,
    /// Programs at its ends told it; on the wire it is encrypted.
    pub is_inside: bool,
}

/// What the driver knows of a finished call.
pub struct CallFacts {
    /// First byte.
    pub began: Mark,
    /// Last byte.
    pub ended: Mark,
    /// Last byte of the response.
    pub end_ns: Option<i64>,
    /// Request first byte to response last byte.
    pub duration_ns: Option<i64>,
    /// Size of the request on the wire.
    pub request_bytes: Option<u64>,
    /// Size of the response on the wire.
    pub response_bytes: Option<u64>,
    /// Near a gap.
    pub lossy: bool,
    /// Nothing answers it.
    pub is_one_way: bool,
    /// Who asks here: among datagrams, both ends may.
    pub asked_by: Direction,
    /// Who asks, where nothing was said on the conversation before.
    pub opened_by: Option<Direction>,
    /// Why there is no response.
    pub end: Option<End>,
}

impl CallFacts {
    fn pairing(&self) -> &'static str {
        match (self.lossy, self.request_bytes, self.response_bytes) {
            (true, ..) => "lossy",
            _ if self.is_one_way => "complete",
            (_, Some(_), Some(_)) => "complete",
            (_, Some(_), None) => "request_only",
            _ => "response_only",
        }
    }

    /// What a missing response means; nothing where a gap may have swallowed it.
    fn failure(&self) -> Option<&'static str> {
        match (self.lossy || self.is_one_way, self.response_bytes, self.end) {
            (true, ..) | (_, Some(_), _) => None,
            (_, _, Some(End::Reset)) => Some("reset"),
            (_, _, Some(End::Timeout)) => Some("timeout"),
            _ => Some("no_response"),
        }
    }
}

impl Context<'_> {
    /// Notes who asks, unless a handshake already told.
    pub fn orient(&mut self, client: Direction) {
        self.flow.client.get_or_insert((client, "protocol"));
    }
}

/// Where a layer writes the rows of a call.
pub struct RowSink<'a, 'b> {
    cx: &'a mut Context<'b>,
    tables: &'a [usize],
    carrier: Carrier,
    facts: &'a CallFacts,
}

impl<'a, 'b> RowSink<'a, 'b> {
    /// To `tables`, by their places among those of calls.
    pub fn new(cx: &'a mut Context<'b>, tables: &'a [usize], carrier: Carrier, facts: &'a CallFacts) -> Self {
        RowSink { cx, tables, carrier, facts }
    }

    /// Writes a row to the table with these columns, which must be one of the layer's.
    pub fn call<B: Block + 'static>(&mut self, write: impl FnOnce(&mut B) -> Written) {
        let RowSink { ref mut cx, tables, carrier, facts: call } = *self;
        let is_its = |table: &&usize| (&*cx.tables.calls[**table] as &dyn Any).is::<CallRows<B>>();
        let table = *tables.iter().find(is_its).expect("a layer writes to its own tables");
        cx.write_call(table, carrier, call, write);
    }
}

impl Context<'_> {
    fn write_call<B: Block + 'static>(
        &mut self,
        table: usize,
        carrier: Carrier,
        call: &CallFacts,
        write: impl FnOnce(&mut B) -> Written,
    ) {
        let rows = (&mut *self.tables.calls[table] as &mut dyn Any).downcast_mut::<CallRows<B>>();
        let CallRows { call: common, traced: rows, id } = rows.expect("it was found by its columns");
        let written = write(rows.own.get_or_insert_default());
        let number = self.flow.calls;
        self.flow.calls += 1;
        let flow = &*self.flow;
        let src = match carrier {
            Carrier::Datagram | Carrier::Icmp | Carrier::Icmp6 => call.asked_by,
            Carrier::Stream => flow.client.map_or(Direction::Forward, |(client, _)| client),
        };
        let dst = src.opposite();
        let [src_end, dst_end] = [src, dst].map(|end| flow.ends[end as usize]);
        // What is asked of a group is answered from other addresses, by those that have something to say, or by nobody.
        let failure = call.failure().filter(|_| carrier == Carrier::Stream || !is_group(dst_end.addr()));
        id.clear();
        let _ = std::fmt::Write::write_fmt(id, format_args!("{}-{number}", flow.id));
        let row = CallRow {
            call_id: Some(id),
            ts: Some(call.began.ts_ns),
            end_ts: call.end_ns,
            duration_ns: call.duration_ns,
            request_bytes: call.request_bytes.map(|bytes| bytes as i64),
            response_bytes: call.response_bytes.map(|bytes| bytes as i64),
            is_error: written.is_error.or(failure.map(|_| true)),
            error_type: written.error_type.as_deref().or(failure),
            tls: Some(self.is_inside),
            trace_id: written.trace_id.as_deref(),
            pairing: Some(call.pairing()),
            ..CallRow::default()
        };
        rows.bytes += written.bytes + common.get_or_insert_default().append(&row);
        rows.bytes += rows.origin.get_or_insert_default().append(&origin(call.began, call.ended));
        rows.bytes += rows.shared.append(Shared {
            id: flow.id,
            protocol: flow.protocol,
            src: src_end,
            dst: dst_end,
            segment: call.began.segment,
            // UDP has no handshake, so one flow may contain the datagrams of two sockets that used the port one after the other.
            // Each call in datagrams is therefore named as of its own time.
            named_at_ns: if carrier == Carrier::Datagram { call.began.ts_ns } else { flow.start_ns },
            end_ns: None,
            is_inside: self.is_inside,
            server_name: None,
        });
        if let Some(Resolved { name, addresses }) = written.resolved {
            let ts_ns = call.end_ns.unwrap_or(call.began.ts_ns);
            self.tables.answers.push(Answer { client: src_end.addr(), name, addresses, ts_ns });
        }
        // Inside of a tunnel it is not the destination of this conversation that is named.
        let is_to_dst = !self.is_inside && call.opened_by == Some(src);
        if let Some(name) = written.server_name.filter(|_| is_to_dst) {
            self.flow.server_name.get_or_insert(name.into());
        }
    }
}

/// A multicast or broadcast address.
fn is_group(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast(),
    }
}

/// The vantage of what programs told of their TLS.
pub const INSIDE: &str = "tls_uprobe";

/// Names that a client was told the addresses of.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Who asked.
    pub client: IpAddr,
    /// For what.
    pub name: String,
    /// What it was told.
    pub addresses: Vec<String>,
    /// When.
    pub ts_ns: i64,
}

/// The packets behind a row.
pub fn origin<'a>(first: Mark, last: Mark) -> OriginRow<'a> {
    OriginRow {
        first_segment: Some(first.segment),
        first_frame: Some(first.frame.into()),
        last_segment: Some(last.segment),
        last_frame: Some(last.frame.into()),
        ..OriginRow::default()
    }
}
