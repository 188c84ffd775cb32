//! How much memory a fact takes. In: a fact. Out: bytes, without what the allocator adds. A short compressed line of
//! a hostile log may hold a large fact.

use std::collections::BTreeMap;

use serde_json::Value;
use shark_schema::identity::{Container, Endpoint, Fact, LogHeader, ObjectRef, Port, Record};

/// A fact with the head of its log.
pub fn of(header: &LogHeader, record: &Record) -> usize {
    let head = text(&header.node) + text(&header.cluster) + text(&header.writer) + text(&header.log);
    size_of::<(LogHeader, Record)>() + head + fact(&record.fact)
}

fn fact(fact: &Fact) -> usize {
    match fact {
        Fact::Pod(of) => {
            texts([&of.uid, &of.namespace, &of.name, &of.phase])
                + map(&of.labels)
                + list(&of.owners, |ObjectRef { kind, name }| texts([kind, name]))
                + list(&of.ips, text)
                + list(&of.containers, container)
                + [&of.node, &of.service_account, &of.qos_class].into_iter().map(some).sum::<usize>()
        }
        Fact::Service(of) => {
            texts([&of.uid, &of.namespace, &of.name, &of.kind])
                + list(&of.cluster_ips, text)
                + list(&of.external_ips, text)
                + list(&of.ports, port)
                + map(&of.selector)
                + map(&of.labels)
        }
        Fact::EndpointSlice(of) => {
            texts([&of.uid, &of.namespace, &of.name])
                + some(&of.service)
                + list(&of.ports, port)
                + list(&of.endpoints, endpoint)
        }
        Fact::Node(of) => {
            texts([&of.uid, &of.name])
                + list(&of.ips, text)
                + list(&of.pod_cidrs, text)
                + map(&of.labels)
                + [&of.zone, &of.region, &of.kubelet_version, &of.kernel, &of.instance_type]
                    .into_iter()
                    .map(some)
                    .sum::<usize>()
        }
        Fact::Namespace(of) => texts([&of.uid, &of.name]) + map(&of.labels),
        Fact::NetworkPolicy(of) => texts([&of.uid, &of.namespace, &of.name]) + value(&of.spec),
        Fact::Event(of) => {
            texts([&of.uid, &of.namespace, &of.kind, &of.reason, &of.message])
                + of.about.iter().map(|ObjectRef { kind, name }| texts([kind, name])).sum::<usize>()
                + some(&of.about_uid)
                + some(&of.component)
        }
        Fact::Evicted(of) => {
            texts([&of.segment, &of.why]) + list(&of.interfaces, text) + some(&of.sidecar_sha256)
        }
        Fact::Start(of) => {
            texts([&of.recorder_version, &of.kernel, &of.config_sha256])
                + some(&of.filter)
                + some(&of.replay)
                + size_of_val(of.after.as_slice())
        }
        Fact::Stop(of) => text(&of.reason),
        Fact::Stalled(of) => texts([&of.thread, &of.why]),
        Fact::Interface(of) => texts([&of.name, &of.why]),
        Fact::Counters(of) => text(&of.interface),
        Fact::Feature(of) => texts([&of.name, &of.why]),
        Fact::Disk(of) => text(&of.why),
        Fact::Recovered(of) => text(&of.segment) + some(&of.aside),
        Fact::EventsLost(of) => texts([&of.feature, &of.why]) + some(&of.process),
        Fact::LogRemoved(of) => texts([&of.series, &of.why]),
        Fact::Progress(_) | Fact::Clock(_) => 0,
    }
}

fn container(of: &Container) -> usize {
    text(&of.name) + some(&of.id) + some(&of.image) + some(&of.image_id) + list(&of.ports, port)
}

fn port(of: &Port) -> usize {
    text(&of.protocol) + some(&of.name) + some(&of.target)
}

fn endpoint(of: &Endpoint) -> usize {
    list(&of.addresses, text) + some(&of.pod) + some(&of.node) + some(&of.zone)
}

/// An allocation has a head, and is rounded up.
fn allocated(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes + 8).next_multiple_of(16).max(32) }
}

fn text(of: &String) -> usize {
    allocated(of.capacity())
}

fn texts<const N: usize>(of: [&String; N]) -> usize {
    of.into_iter().map(text).sum()
}

fn some(of: &Option<String>) -> usize {
    of.as_ref().map_or(0, text)
}

fn list<T>(of: &Vec<T>, each: impl Fn(&T) -> usize) -> usize {
    allocated(of.capacity() * size_of::<T>()) + of.iter().map(each).sum::<usize>()
}

fn map(of: &BTreeMap<String, String>) -> usize {
    nodes::<(String, String)>(of.len()) + of.iter().map(|(key, value)| text(key) + text(value)).sum::<usize>()
}

/// The nodes of a tree have room for eleven entries, and are at least half full but for the first.
fn nodes<T>(entries: usize) -> usize {
    entries.div_ceil(6) * allocated(11 * size_of::<T>() + 16)
}

fn value(of: &Value) -> usize {
    match of {
        Value::String(of) => text(of),
        Value::Array(of) => list(of, value),
        Value::Object(of) => {
            nodes::<(String, Value)>(of.len())
                + of.iter().map(|(key, of)| text(key) + value(of)).sum::<usize>()
        }
        _ => 0,
    }
}
