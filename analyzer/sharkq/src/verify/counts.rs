//! What manifests say of counts, times and losses, against what they are the sums of.
//! In: manifests and sidecars that were read. Out: a problem for each number that is not what the others say.

use std::collections::BTreeMap;

use shark_schema::manifest::{NodeEntry, NodeManifest, ObjectKind, Window};
use shark_schema::segment::{Counters, Name, Series, Sidecar};

use super::{Report, below};
use crate::place::{Folder, PlaceError};

/// The line of the top manifest about a node, against the manifest of the node.
pub fn entry(report: &mut Report, entry: &NodeEntry, node: &NodeManifest) {
    let segments = node.objects.iter().filter(|object| object.kind == ObjectKind::Segment);
    let bytes_stored = segments.clone().map(|object| object.size).sum::<u64>();
    let differs = [
        ("wanted", entry.wanted != node.wanted),
        ("real", entry.real != node.real),
        ("segments", entry.segments != segments.count() as u64),
        ("packets", entry.packets != node.packets),
        ("bytes_stored", entry.bytes_stored != bytes_stored),
        ("loss", entry.loss != node.loss),
    ];
    for (what, _) in differs.into_iter().filter(|(_, differs)| *differs) {
        let detail = format!("its {what} of node {} are not those of the node's manifest", entry.node);
        report.problem("manifest.json", "altered", detail);
    }
}

/// The sidecars of packets below the folder of a node.
pub fn read_sidecars(
    folder: &Folder,
    base: &str,
    files: &BTreeMap<String, u64>,
) -> Result<Vec<Sidecar>, PlaceError> {
    let mut sidecars = Vec::new();
    let of_packets = format!("{base}{}", below(Series::Packets));
    for path in files.keys().filter(|path| path.starts_with(&of_packets) && path.ends_with(".json")) {
        let bytes = folder.join(path).read()?;
        sidecars.extend(bytes.and_then(|bytes| Sidecar::from_bytes(&bytes).ok()));
    }
    Ok(sidecars)
}

/// The manifest of a node, and each segment's name, against the sidecars.
pub fn sidecars(report: &mut Report, path: &str, node: &NodeManifest, sidecars: &[Sidecar]) {
    let mut loss = Counters::default();
    sidecars.iter().for_each(|sidecar| loss += &sidecar.totals);
    let from_ns = sidecars.iter().filter_map(|sidecar| sidecar.min_ns).min();
    let to_ns = sidecars.iter().filter_map(|sidecar| sidecar.max_ns).max();
    let real = from_ns.zip(to_ns).map(|(from_ns, to_ns)| Window { from_ns, to_ns });
    let packets = sidecars.iter().map(|sidecar| sidecar.packets).sum::<u64>();
    let listed = node.objects.iter().filter(|object| object.kind == ObjectKind::Sidecar);
    let listed = listed.filter(|object| object.path.starts_with(&below(Series::Packets))).count();
    // One that is missing is told by its own name.
    if listed == sidecars.len() {
        let differs =
            [("packets", node.packets != packets), ("loss", node.loss != loss), ("real", node.real != real)];
        for (what, _) in differs.into_iter().filter(|(_, differs)| *differs) {
            report.problem(path, "altered", format!("its {what} are not the sum of the sidecars"));
        }
    }
    for sidecar in sidecars {
        let is_named = sidecar.segment.parse::<Name>().is_ok_and(|name| {
            (name.worker, name.seq) == (sidecar.worker, sidecar.seq) && sidecar.node == node.node
        });
        let mut sum = Counters::default();
        sidecar.buckets.iter().for_each(|bucket| sum += &bucket.counters);
        let is_sum = sum == sidecar.totals && sidecar.packets == sum.written;
        if !is_named || !is_sum {
            let detail = "its numbers do not agree with each other, or with its name";
            report.problem(&format!("{}.json", sidecar.segment), "altered", detail);
        }
    }
}
