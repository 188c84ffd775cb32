//! Names into rows. In: rows of flows and calls with the start of each one's flow. Out: the same rows with both ends named as of
//! that start. One look-up a conversation, none a packet; nothing but the columns themselves is allocated.

use std::net::IpAddr;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, RecordBatch, StringArray, StringBuilder,
};
use arrow::datatypes::{Int32Type, SchemaRef, TimestampNanosecondType};
use shark_dissect::rows::Batch;
use shark_schema::cell::{Cell, TextMap};
use shark_schema::table::Table;

use super::names::Names;
use super::parties::{Parties, Talk};
use super::tables::map;
use super::{Identities, Identity};

/// A row's parties, with the names they had for each other.
#[derive(Clone, Copy, Default)]
struct Named<'a> {
    parties: Parties<'a>,
    dns: [Option<&'a str>; 2],
    /// The server that the client asked for when it began TLS.
    sni: Option<&'a str>,
    asked: Option<(IpAddr, u16)>,
    loopback: bool,
}

impl<'a> Named<'a> {
    /// A name of an end, and where it is from.
    fn by_name(&self, end: usize) -> Option<(&'a str, &'static str)> {
        let dns = self.dns[end].map(|name| (name, "dns"));
        let sni = self.sni.filter(|_| end == 1).map(|name| (name, "sni"));
        dns.or(sni)
    }
}

/// Fills the identity columns of both ends, as of the start of each row's flow.
pub fn join(table: &Table, schema: &SchemaRef, batch: Batch, identities: &Identities) -> RecordBatch {
    if schema.column_with_name("src_workload").is_none() {
        return batch.rows;
    }
    let names = identities.names();
    let named = parties(table, &batch, identities, &names);
    if table.name == "flows" {
        link(&batch, &named, identities);
    }
    let mut columns: Vec<ArrayRef> = batch.rows.columns().to_vec();
    let mut set = |name: &str, column: &dyn Fn() -> ArrayRef| {
        if let Some((at, _)) = schema.column_with_name(name) {
            columns[at] = column();
        }
    };
    for (end, prefix) in ["src", "dst"].into_iter().enumerate() {
        let who = move |named: &Named<'_>| [named.parties.src, named.parties.dst][end].proof;
        let mut text = |name: &str, of: for<'a> fn(&Identity<'a>) -> Option<&'a str>| {
            let column = || -> ArrayRef {
                let texts = named.iter().map(|named| of([&named.parties.src, &named.parties.dst][end]));
                Arc::new(texts.collect::<StringArray>())
            };
            set(&format!("{prefix}_{name}"), &column);
        };
        text("namespace", |who| who.namespace);
        text("workload", |who| who.workload);
        text("workload_kind", |who| who.workload_kind);
        text("pod", |who| who.pod);
        text("pod_uid", |who| who.pod_uid);
        text("container", |who| who.container);
        text("zone", |who| who.zone);
        text("service", |who| who.service);
        text("process", |who| who.process);
        text("comm", |who| who.comm);
        text("kind", |who| who.kind.or(Some("unknown")));
        let names: Vec<Option<(&str, &str)>> = named.iter().map(|named| named.by_name(end)).collect();
        let proofs = || {
            named
                .iter()
                .zip(&names)
                .map(|(named, name)| who(named).or(name.map(|(_, proof)| proof)).or(Some("none")))
        };
        set(&format!("{prefix}_identity"), &|| Arc::new(proofs().collect::<StringArray>()));
        set(&format!("{prefix}_dns"), &|| {
            Arc::new(names.iter().map(|name| name.map(|(name, _)| name)).collect::<StringArray>())
        });
        set(&format!("{prefix}_pid"), &|| {
            let pids = named.iter().map(|named| [named.parties.src, named.parties.dst][end].pid);
            Arc::new(pids.collect::<Int32Array>())
        });
    }
    set("dst_nat_ip", &|| {
        let texts = named.iter().map(|named| named.parties.nat.map(|(ip, _)| ip.to_string()));
        Arc::new(texts.collect::<StringArray>())
    });
    let differ = |of: for<'a> fn(&Identity<'a>) -> Option<&'a str>| -> ArrayRef {
        let both = |named: &Named<'_>| Some(of(&named.parties.src)? != of(&named.parties.dst)?);
        Arc::new(named.iter().map(both).collect::<BooleanArray>())
    };
    if schema.column_with_name("src_labels").is_some() {
        for (end, name) in ["src_labels", "dst_labels"].into_iter().enumerate() {
            set(name, &|| pod_labels(&batch, &named, end, identities));
        }
    }
    set("is_cross_namespace", &|| differ(|who| who.namespace));
    set("is_cross_zone", &|| differ(|who| who.zone));
    set("community_pair", &|| labels(&named));
    set("vantage", &|| vantages(&batch, &named));
    RecordBatch::try_new(Arc::clone(schema), columns).expect("columns were replaced by such of their type")
}

fn parties<'a>(
    table: &Table,
    batch: &'a Batch,
    identities: &'a Identities,
    names: &'a Names,
) -> Vec<Named<'a>> {
    let rows = &batch.rows;
    let text = |name: &str| rows[name].as_string::<i32>();
    let port = |name: &str| rows[name].as_primitive::<Int32Type>();
    let (src_ips, dst_ips, clusters, nodes) = (text("src_ip"), text("dst_ip"), text("cluster"), text("node"));
    let (src_ports, dst_ports) = (port("src_port"), port("dst_port"));
    let protocols = ["proto", "transport"].into_iter().find_map(|name| rows.column_by_name(name));
    let protocols = protocols.map(|column| column.as_string::<i32>());
    // The rows of flows have it where the join's names go.
    let asked = rows.column_by_name("dst_dns").map(|column| column.as_string::<i32>());
    let place = |ips: &StringArray, ports: &Int32Array, row: usize| -> Option<(IpAddr, u16)> {
        let ip = ips.is_valid(row).then(|| ips.value(row))?.parse::<IpAddr>().ok()?;
        let port = if ports.is_valid(row) { ports.value(row) } else { 0 };
        Some((ip.to_canonical(), u16::try_from(port).unwrap_or(0)))
    };
    let time = |name: &str| rows.column_by_name(name)?.as_primitive_opt::<TimestampNanosecondType>();
    let (own_times, ends) = (time("ts"), time("end_ts").filter(|_| table.call.is_none()));
    let mut last: Option<(Talk, Named<'a>)> = None;
    let mut named = Vec::with_capacity(rows.num_rows());
    for row in 0..rows.num_rows() {
        let (Some(src), Some(dst)) = (place(src_ips, src_ports, row), place(dst_ips, dst_ports, row)) else {
            named.push(Named::default());
            continue;
        };
        let [cluster, node] = [clusters, nodes].map(|texts| texts.is_valid(row).then(|| texts.value(row)));
        // Calls are over TCP unless their table says otherwise.
        let protocol = protocols.map_or(6, |column| protocol(column.value(row)));
        // Two sockets may ask from one port, one after the other, and no segment tells where one conversation ends: a call in
        // datagrams is of its own time.
        let is_alone = protocol == 17 && table.call.is_some();
        let own_ns = own_times.filter(|times| is_alone && times.is_valid(row)).map(|times| times.value(row));
        let talk = Talk {
            site: identities.site(cluster, node),
            protocol,
            src,
            dst,
            start_ns: own_ns.unwrap_or(batch.flow_starts_ns[row]),
            end_ns: ends.filter(|times| times.is_valid(row)).map(|times| times.value(row)),
        };
        let known = last.filter(|(before, _)| *before == talk).map(|(_, known)| known);
        let found = known.unwrap_or_else(|| Named {
            parties: identities.parties(&talk),
            dns: [names.at(dst.0, src.0, talk.start_ns), names.at(src.0, dst.0, talk.start_ns)],
            sni: None,
            asked: Some(dst),
            loopback: src.0.is_loopback() && dst.0.is_loopback(),
        });
        last = Some((talk, found));
        let sni = asked.filter(|names| names.is_valid(row)).map(|names| names.value(row));
        named.push(Named { sni, ..found });
    }
    named
}

fn protocol(name: &str) -> u8 {
    match name {
        "tcp" | "tls" | "https" => 6,
        "udp" => 17,
        _ => 0,
    }
}

fn link(batch: &Batch, named: &[Named<'_>], identities: &Identities) {
    let links = &identities.links;
    let ids = batch.rows["flow_id"].as_string::<i32>();
    for (id, Named { parties, asked, .. }) in ids.iter().zip(named) {
        let (Some(id), Some(asked)) = (id, *asked) else { continue };
        parties.sockets.into_iter().flatten().for_each(|socket| links.own(socket, id));
        if let (Some(socket), Some(backend)) = (parties.before, parties.nat) {
            links.before(socket, id, asked, backend);
        }
        parties.after.into_iter().flatten().for_each(|socket| links.after(socket, id, asked));
    }
}

fn labels(named: &[Named<'_>]) -> ArrayRef {
    let mut labels = StringBuilder::new();
    for Named { parties: Parties { src, dst, .. }, .. } in named {
        let workloads = src.workload.zip(dst.workload);
        labels.append_option(workloads.map(|(src, dst)| format!("{src} -> {dst}")));
    }
    Arc::new(labels.finish())
}

/// Labels of the pods of one end.
fn pod_labels(batch: &Batch, named: &[Named<'_>], end: usize, identities: &Identities) -> ArrayRef {
    let mut labels = TextMap::builder();
    for (Named { parties, .. }, start_ns) in named.iter().zip(&batch.flow_starts_ns) {
        let pod = [&parties.src, &parties.dst][end].pod_uid.and_then(|uid| identities.cluster.pod(uid));
        let of = pod.and_then(|pod| pod.labels_at(*start_ns)).map(map);
        TextMap::append(&mut labels, of.as_deref());
    }
    TextMap::finish(&mut labels)
}

/// Whose node it was seen on, unless the row knows better. Where both ends were on it, only the side of an address translation
/// says at which end.
fn vantages(batch: &Batch, named: &[Named<'_>]) -> ArrayRef {
    let [nodes, known] = ["node", "vantage"].map(|name| batch.rows[name].as_string::<i32>());
    let vantage = |(row, named): (usize, &Named<'_>)| {
        let node = nodes.is_valid(row).then(|| nodes.value(row));
        let (src, dst) = (named.parties.src.node, named.parties.dst.node);
        match (src.map(|src| Some(src) == node), dst.map(|dst| Some(dst) == node)) {
            _ if known.is_valid(row) => Some(known.value(row)),
            _ if named.loopback => Some("loopback"),
            _ if node.is_none() => None,
            (Some(true), Some(true)) => match (named.parties.before, named.parties.nat) {
                (Some(_), _) => Some("client"),
                (None, Some(_)) => Some("server"),
                (None, None) => None,
            },
            (Some(true), _) => Some("client"),
            (_, Some(true)) => Some("server"),
            (Some(false), Some(false)) => Some("transit"),
            _ => None,
        }
    };
    Arc::new(named.iter().enumerate().map(vantage).collect::<StringArray>())
}
