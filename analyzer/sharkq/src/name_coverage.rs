//! Where what proves names is missing. In: the times that logs of sockets and processes tell of, the
//! packets there are, and facts of recorders and witnesses. Out: the table `name_coverage`. Packets are
//! told of elsewhere: these may be whole without a name. A capture that no recorder wrote has no log: of it
//! only says that nobody told of pods.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use shark_schema::identity::{Fact, Feature, LogHeader, OffCause, Record};
use shark_schema::table::Block;
use shark_schema::tables::name_coverage::{self, NameCoverageBlock, NameCoverageRow};

use crate::identity::Identities;
use crate::identity::tables::{batch, open_end};
use crate::provenance::{signed, snapshot_of};
use crate::rounds::{BUCKET_NS, FileStats};
use crate::source::Sources;

/// Cluster and node.
type SiteName = (String, String);
/// From when to when.
type Span = (i64, i64);

/// Features by which owners are known, and whose absence is told of.
const FEATURES: [&str; 6] =
    ["sockets", "datagram_sockets", "processes", "kube_pods", "kube_services", "kube_endpointslices"];
const PODS: &str = "kube_pods";
/// Shorter than this nothing is missed: files follow one another, and clocks are read one after the other.
const LEAST_NS: i64 = 1_000_000;

/// The rows of the table.
pub fn rows(identities: &Identities, sources: &Sources, stats: &[FileStats]) -> RecordBatch {
    let mut rows = NameCoverageBlock::default();
    for (site, packets) in recorded(sources, stats) {
        let of = Of { sources, node: &site.1, packets };
        let facts = facts_of(sources, &site);
        of.logs(identities, &site, &facts, &mut rows);
        of.features(&facts, &mut rows);
        of.losses(&facts, &mut rows);
        let told = facts.iter().any(|(_, record)| tells_of_pods(&record.fact));
        of.pods(identities, told, &mut rows);
        of.cut(&site, &mut rows);
    }
    let told = sources.facts.iter().any(|(_, record)| tells_of_pods(&record.fact));
    for (node, packets) in without_recorder(sources, stats) {
        Of { sources, node, packets }.pods(identities, told, &mut rows);
    }
    batch(&name_coverage::TABLE, rows)
}

/// Times of which there are packets, by the recorder that wrote them. A capture that no recorder wrote has nobody to tell of names.
fn recorded(sources: &Sources, stats: &[FileStats]) -> BTreeMap<SiteName, Vec<Span>> {
    let recorders: BTreeSet<(&str, &str)> = sources
        .facts
        .iter()
        .filter(|(header, _)| header.writer == "recorder")
        .map(|(header, _)| (header.cluster.as_str(), header.node.as_str()))
        .collect();
    let mut sites: BTreeMap<SiteName, Vec<Span>> = BTreeMap::new();
    for (file, stats) in sources.files.iter().zip(stats).filter(|(file, _)| !file.is_plaintext()) {
        // An open segment does not say whose it is yet: it is of the only recorder there is.
        let site = match (file.info.node.as_deref(), recorders.first()) {
            (Some(node), _) => Some((file.info.cluster.as_deref().unwrap_or(""), node)),
            (None, only) if recorders.len() == 1 => only.copied(),
            _ => None,
        };
        let site = site.filter(|site| recorders.contains(site));
        if let (Some((cluster, node)), Some(window)) = (site, stats.window) {
            sites.entry((cluster.to_owned(), node.to_owned())).or_default().push(window);
        }
    }
    sites.into_iter().map(|(site, windows)| (site, joined(windows))).collect()
}

/// Times of which there are packets that no recorder wrote, by what coverage calls their node.
fn without_recorder<'a>(sources: &'a Sources, stats: &[FileStats]) -> BTreeMap<&'a str, Vec<Span>> {
    let mut nodes: BTreeMap<&str, Vec<Span>> = BTreeMap::new();
    if sources.facts.iter().any(|(header, _)| header.writer == "recorder") {
        return nodes;
    }
    for (file, stats) in sources.files.iter().zip(stats) {
        let node = file.info.node.as_deref().unwrap_or(&file.info.name);
        nodes.entry(node).or_default().extend(stats.window);
    }
    nodes
}

/// Pods are told of, or somebody says why they are not.
fn tells_of_pods(fact: &Fact) -> bool {
    match fact {
        Fact::Pod(_) => true,
        Fact::Feature(of) => of.name == PODS,
        _ => false,
    }
}

/// Facts of a node, and those of its cluster's witness, in their order.
fn facts_of<'a>(sources: &'a Sources, site: &SiteName) -> Vec<(&'a LogHeader, &'a Record)> {
    let mut facts: Vec<_> = sources
        .facts
        .iter()
        .filter(|(header, _)| is_about(header, site))
        .map(|(header, record)| (header, record))
        .collect();
    facts.sort_by_key(|(_, record)| record.ts_ns);
    facts
}

/// The recorder of a node wrote it, or the witness of its cluster.
fn is_about(header: &LogHeader, (cluster, node): &SiteName) -> bool {
    match header.writer.as_str() {
        "recorder" => (&header.cluster, &header.node) == (cluster, node),
        _ => header.cluster == *cluster || header.cluster.is_empty(),
    }
}

/// A node, and the times of which it has packets.
struct Of<'a> {
    sources: &'a Sources,
    node: &'a str,
    packets: Vec<Span>,
}

impl Of<'_> {
    fn row(&self, rows: &mut NameCoverageBlock, (from_ns, to_ns): Span, row: NameCoverageRow<'_>) {
        rows.append(&NameCoverageRow {
            snapshot_id: snapshot_of(self.sources, self.node),
            node: Some(self.node),
            from_ts: Some(from_ns),
            to_ts: open_end(to_ns),
            ..row
        });
    }

    /// Parts of a time of which there are packets.
    fn of_packets(&self, (from_ns, to_ns): Span) -> impl Iterator<Item = Span> {
        let parts = self.packets.iter().map(move |(first, last)| (from_ns.max(*first), to_ns.min(*last)));
        parts.filter(|(from_ns, to_ns)| from_ns < to_ns)
    }

    /// What the logs of sockets and processes tell of, and what none of them does.
    fn logs(
        &self,
        identities: &Identities,
        site: &SiteName,
        facts: &[(&LogHeader, &Record)],
        rows: &mut NameCoverageBlock,
    ) {
        for of in identities.rows() {
            let feature = of.table.name;
            let row = |state, why| NameCoverageRow {
                feature: Some(feature),
                state: Some(state),
                why,
                ..NameCoverageRow::default()
            };
            let is_wanted = |fact: &Fact| matches!(fact, Fact::Feature(of) if of.name == feature);
            if !facts.iter().any(|(_, record)| is_wanted(&record.fact)) {
                self.packets.iter().for_each(|span| self.row(rows, *span, row("not_targeted", None)));
                continue;
            }
            let removed: Vec<(Span, &str)> = facts
                .iter()
                .filter_map(|(_, record)| match &record.fact {
                    Fact::LogRemoved(of) if of.series == feature => {
                        Some(((of.from_ns, of.to_ns), of.why.as_str()))
                    }
                    _ => None,
                })
                .collect();
            let told = of.told.iter().filter(|told| told.site == *site);
            let told = joined(told.map(|told| (told.from_ns, told.to_ns)).collect());
            // The file behind one that was removed looks like the first of its recorder, which tells of its
            // beginning, too.
            let gone = joined(removed.iter().map(|(span, _)| *span).collect());
            let told: Vec<Span> = told.into_iter().flat_map(|span| gaps(span, &gone)).collect();
            for span in told.iter().flat_map(|span| self.of_packets(*span)) {
                self.row(rows, span, row("ok", None));
            }
            for gap in self.packets.iter().flat_map(|span| gaps(*span, &told)) {
                let by = removed.iter().find(|((from_ns, to_ns), _)| *from_ns < gap.1 && gap.0 < *to_ns);
                let missing = row("missing", Some("no whole log of that time is there"));
                self.row(rows, gap, by.map_or(missing, |(_, why)| row("rotated_out", Some(*why))));
            }
        }
    }

    /// What the kernel, or the server of the cluster, refused to tell.
    fn features(&self, facts: &[(&LogHeader, &Record)], rows: &mut NameCoverageBlock) {
        for (at, (header, record)) in facts.iter().enumerate() {
            let Fact::Feature(feature) = &record.fact else { continue };
            let Some(name) = FEATURES.into_iter().find(|name| *name == feature.name && !feature.on) else {
                continue;
            };
            let later =
                facts[at + 1..].iter().find(|(of, later)| of.writer == header.writer && ends(later, feature));
            let span =
                (record.after_ns.unwrap_or(record.ts_ns), later.map_or(i64::MAX, |(_, later)| later.ts_ns));
            let state = if feature.cause == Some(OffCause::NotTargeted) { "not_targeted" } else { "off" };
            for span in self.of_packets(span) {
                let why = Some(feature.why.as_str());
                self.row(
                    rows,
                    span,
                    NameCoverageRow { feature: Some(name), state: Some(state), why, ..Default::default() },
                );
            }
        }
    }

    /// What is known of pods where nobody told of them: without an identity file nothing, with one
    /// everything but their labels.
    fn pods(&self, identities: &Identities, told: bool, rows: &mut NameCoverageBlock) {
        let (feature, why) = match identities.has_fixed() {
            _ if told => return,
            true => ("labels", "an identity file has no labels, and nobody read the pods of a cluster"),
            false => (PODS, "neither a recorder nor a witness read the pods of a cluster"),
        };
        for span in &self.packets {
            let (state, why) = (Some("not_targeted"), Some(why));
            self.row(
                rows,
                *span,
                NameCoverageRow { feature: Some(feature), state, why, ..Default::default() },
            );
        }
    }

    /// Missing names of a log that was not read to its end: the rest may concern any feature.
    fn cut(&self, site: &SiteName, rows: &mut NameCoverageBlock) {
        for file in self.sources.fact_files.iter().filter(|file| file.is_cut && is_about(&file.header, site))
        {
            for span in self.of_packets((file.last_ns, i64::MAX)) {
                let (state, why) = (Some("missing"), Some("a log says more than can be read"));
                self.row(
                    rows,
                    span,
                    NameCoverageRow { feature: Some(PODS), state, why, ..Default::default() },
                );
            }
        }
    }

    /// Events that nobody could take: reported every 10 s, or at the end.
    fn losses(&self, facts: &[(&LogHeader, &Record)], rows: &mut NameCoverageBlock) {
        for (_, record) in facts {
            let Fact::EventsLost(lost) = &record.fact else { continue };
            let Some(name) = FEATURES.into_iter().find(|name| *name == lost.feature) else { continue };
            let span = (record.ts_ns - BUCKET_NS, record.ts_ns);
            if self.of_packets(span).next().is_some() {
                let row = NameCoverageRow {
                    feature: Some(name),
                    state: Some("lossy"),
                    events: signed(lost.events),
                    why: Some(&lost.why),
                    ..NameCoverageRow::default()
                };
                self.row(rows, span, row);
            }
        }
    }
}

/// What a feature was holds until something else is said of it, or its writer begins again.
fn ends(later: &Record, feature: &Feature) -> bool {
    match &later.fact {
        Fact::Start(_) => true,
        Fact::Feature(other) => other.name == feature.name,
        _ => false,
    }
}

/// Spans in their order, those that touch as one.
fn joined(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut joined: Vec<Span> = Vec::new();
    for (from_ns, to_ns) in spans {
        match joined.last_mut() {
            Some(last) if from_ns <= last.1.saturating_add(LEAST_NS) => last.1 = last.1.max(to_ns),
            _ => joined.push((from_ns, to_ns)),
        }
    }
    joined
}

/// What of a span lies in none of these.
fn gaps((from_ns, to_ns): Span, told: &[Span]) -> Vec<Span> {
    let mut gaps = Vec::new();
    let mut at_ns = from_ns;
    for (begin_ns, end_ns) in told {
        gaps.push((at_ns, to_ns.min(*begin_ns)));
        at_ns = at_ns.max(*end_ns);
    }
    gaps.push((at_ns, to_ns));
    gaps.retain(|(from_ns, to_ns)| to_ns.saturating_sub(*from_ns) >= LEAST_NS);
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds.
    const MS: i64 = 1_000_000;

    fn ms(spans: &[Span]) -> Vec<Span> {
        spans.iter().map(|(from, to)| (from * MS, to * MS)).collect()
    }

    #[test]
    fn what_no_file_tells_of_is_a_gap() {
        let told = ms(&[(10, 20), (30, 40)]);
        assert_eq!(gaps((0, 50 * MS), &told), ms(&[(0, 10), (20, 30), (40, 50)]));
        assert_eq!(gaps((12 * MS, 18 * MS), &told), ms(&[]));
        assert_eq!(gaps((15 * MS, 35 * MS), &told), ms(&[(20, 30)]));
        assert_eq!(gaps((50 * MS, 60 * MS), &told), ms(&[(50, 60)]));
        assert_eq!(gaps((50 * MS, 60 * MS), &[]), ms(&[(50, 60)]));
    }

    #[test]
    fn what_touches_is_one() {
        assert_eq!(joined(ms(&[(30, 40), (10, 20), (20, 25), (24, 26)])), ms(&[(10, 26), (30, 40)]));
    }
}
