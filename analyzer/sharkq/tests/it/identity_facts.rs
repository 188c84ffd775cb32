//! Facts of a cluster as a witness writes them: the log's own lines in a file of their own. In: objects. Out: a log file.
//! A test may as well take the log of a real witness: it is read the same way.

use std::collections::BTreeMap;
use std::path::Path;

use shark_schema::identity::{
    Container, Endpoint, EndpointSlice, Fact, LOG_VERSION, LogHeader, ObjectRef, Pod, Port, Record, Service,
    to_line,
};

/// Writes them where the log of a node or of the cluster lies, as a witness.
pub fn write(log: &Path, cluster: &str, records: &[Record]) {
    write_as(log, ["", cluster, "witness"], records);
}

/// As this writer of this node and cluster.
pub fn write_as(log: &Path, [node, cluster, writer]: [&str; 3], records: &[Record]) {
    std::fs::create_dir_all(log).expect("a folder for the log");
    let header = LogHeader {
        log: "sharkrec".into(),
        format: LOG_VERSION,
        node: node.into(),
        cluster: cluster.into(),
        writer: writer.into(),
        started_ns: records[0].ts_ns,
    };
    let lines = [to_line(&header)].into_iter().chain(records.iter().map(to_line));
    let text: Vec<u8> = lines.flatten().collect();
    let name = format!("{}-900000.facts.ndjson.zst", records[0].ts_ns);
    std::fs::write(log.join(name), zstd::encode_all(&text[..], 3).expect("it compresses"))
        .expect("it is written");
}

/// A fact at a time.
pub fn fact(ts_ns: i64, fact: Fact) -> Record {
    Record { ts_ns, after_ns: None, fact }
}

/// A running pod of a Deployment with one container.
pub fn pod(uid: &str, name: &str, workload: &str, ip: &str, container_id: &str) -> Pod {
    let owner = |kind: &str, name: String| ObjectRef { kind: kind.into(), name };
    Pod {
        uid: uid.into(),
        namespace: "shop".into(),
        name: name.into(),
        labels: BTreeMap::from([("app".to_owned(), workload.to_owned())]),
        owners: vec![owner("ReplicaSet", format!("{workload}-5d")), owner("Deployment", workload.into())],
        ips: vec![ip.into()],
        node: Some("node-1".into()),
        phase: "Running".into(),
        containers: vec![Container {
            name: format!("{workload}-app"),
            id: Some(format!("containerd://{container_id}")),
            ..Container::default()
        }],
        ..Pod::default()
    }
}

/// A service and the slice of its endpoints.
pub fn service(name: &str, ip: &str, port: u16, protocol: &str, backends: &[(&str, u16)]) -> [Fact; 2] {
    let of = |port: u16, target: Option<String>| Port {
        protocol: protocol.into(),
        port,
        target,
        ..Port::default()
    };
    let target = backends[0].1;
    let endpoint = |(ip, _): &(&str, u16)| Endpoint {
        addresses: vec![(*ip).to_owned()],
        ready: Some(true),
        ..Endpoint::default()
    };
    [
        Fact::Service(Service {
            uid: format!("service-{name}"),
            namespace: "shop".into(),
            name: name.into(),
            kind: "ClusterIP".into(),
            cluster_ips: vec![ip.into()],
            ports: vec![of(port, Some(target.to_string()))],
            ..Service::default()
        }),
        Fact::EndpointSlice(EndpointSlice {
            uid: format!("slice-{name}"),
            namespace: "shop".into(),
            name: format!("{name}-x"),
            service: Some(name.into()),
            ports: vec![of(target, None)],
            endpoints: backends.iter().map(endpoint).collect(),
            ..EndpointSlice::default()
        }),
    ]
}
