//! Gives flows the names of their endpoints. In: endpoints and times of flows. Out: identity columns with one value a flow.
//! Names are looked up once a flow and never for a row.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int32Array, StringArray, StringBuilder};
use shark_dissect::rows::{Catalog, INSIDE};
use shark_dissect::shared::{Shared, endpoint_values, flow_values};
use shark_schema::cell::{Cell, TextMap};
use shark_schema::table::{Endpoint, EndpointColumn, FlowColumn};

use super::names::Names;
use super::parties::{Parties, Talk};
use super::tables::map;
use super::{Identities, Identity};

/// The flows of a run, named.
pub struct NamedFlows<'a> {
    flows: &'a [Shared],
    named: Vec<Named<'a>>,
    catalog: &'a Catalog,
    identities: &'a Identities,
}

/// The names of a flow's endpoints.
#[derive(Clone, Copy)]
struct Named<'a> {
    parties: Parties<'a>,
    dns: [Option<&'a str>; 2],
    /// The server that the client asked for when it began TLS.
    sni: Option<&'a str>,
}

impl<'a> Named<'a> {
    fn of(&self, endpoint: Endpoint) -> &Identity<'a> {
        match endpoint {
            Endpoint::Src => &self.parties.src,
            Endpoint::Dst => &self.parties.dst,
        }
    }

    /// A name of an end, and where it is from.
    fn by_name(&self, endpoint: Endpoint) -> Option<(&'a str, &'static str)> {
        let dns = self.dns[endpoint as usize].map(|name| (name, "dns"));
        let sni = self.sni.filter(|_| endpoint == Endpoint::Dst).map(|name| (name, "sni"));
        dns.or(sni)
    }
}

impl<'a> NamedFlows<'a> {
    /// Looks up the names of flows.
    pub fn new(
        flows: &'a [Shared],
        catalog: &'a Catalog,
        identities: &'a Identities,
        names: &'a Names,
    ) -> NamedFlows<'a> {
        let sites: Vec<_> = catalog
            .segments
            .iter()
            .map(|segment| identities.site(segment.cluster.as_deref(), segment.node.as_deref()))
            .collect();
        let mut last: Option<(Talk, Named<'_>)> = None;
        let named = flows.iter().map(|flow| {
            let [src, dst] = [&flow.src, &flow.dst].map(|end| {
                let port = if shark_dissect::flow::has_ports(flow.protocol) { end.port } else { 0 };
                (end.addr(), port)
            });
            let talk = Talk {
                site: sites[flow.segment as usize],
                protocol: flow.protocol,
                src,
                dst,
                start_ns: flow.named_at_ns,
                end_ns: flow.end_ns,
            };
            let known = last.filter(|(before, _)| *before == talk).map(|(_, known)| known);
            let found = known.unwrap_or_else(|| Named {
                parties: identities.parties(&talk),
                dns: [names.at(dst.0, src.0, talk.start_ns), names.at(src.0, dst.0, talk.start_ns)],
                sni: None,
            });
            last = Some((talk, found));
            Named { sni: flow.server_name.as_deref(), ..found }
        });
        NamedFlows { flows, named: named.collect(), catalog, identities }
    }

    /// Notes by which sockets both sides of an address translation are one conversation.
    pub fn link(&self) {
        let links = &self.identities.links;
        for (flow, Named { parties, .. }) in self.flows.iter().zip(&self.named) {
            let id = flow.id.as_str();
            let asked = (flow.dst.addr(), flow.dst.port);
            parties.sockets.into_iter().flatten().for_each(|socket| links.own(socket, id));
            if let (Some(socket), Some(backend)) = (parties.before, parties.nat) {
                links.before(socket, id, asked, backend);
            }
            parties.after.into_iter().flatten().for_each(|socket| links.after(socket, id, asked));
        }
    }

    /// Namespace and workload of the server of each flow, by which rows are in order.
    pub fn places(&self) -> impl Iterator<Item = (Option<&'a str>, Option<&'a str>)> {
        self.named.iter().map(|named| (named.parties.dst.namespace, named.parties.dst.workload))
    }

    /// The values of a column for each flow.
    pub fn flow_column(&self, column: FlowColumn) -> ArrayRef {
        let named = &self.named;
        match column {
            FlowColumn::Vantage => Arc::new(self.vantages()),
            FlowColumn::DstNatIp => Arc::new(
                named
                    .iter()
                    .map(|named| named.parties.nat.map(|(ip, _)| ip.to_string()))
                    .collect::<StringArray>(),
            ),
            FlowColumn::IsCrossZone => Arc::new(self.differ(|who| who.zone)),
            FlowColumn::IsCrossNamespace => Arc::new(self.differ(|who| who.namespace)),
            FlowColumn::CommunityPair => Arc::new(self.pairs()),
            FlowColumn::FlowId | FlowColumn::SnapshotId | FlowColumn::Cluster | FlowColumn::Node => {
                flow_values(column, self.flows, self.catalog).expect("the flow itself tells")
            }
        }
    }

    /// The values of a column of one endpoint for each flow.
    pub fn endpoint_column(&self, endpoint: Endpoint, column: EndpointColumn) -> ArrayRef {
        let named = &self.named;
        let text = |of: for<'b> fn(&Identity<'b>) -> Option<&'b str>| -> ArrayRef {
            Arc::new(named.iter().map(|named| of(named.of(endpoint))).collect::<StringArray>())
        };
        match column {
            EndpointColumn::Ip | EndpointColumn::Port => {
                endpoint_values(endpoint, column, self.flows).expect("the flow itself tells")
            }
            EndpointColumn::Namespace => text(|who| who.namespace),
            EndpointColumn::Workload => text(|who| who.workload),
            EndpointColumn::Pod => text(|who| who.pod),
            EndpointColumn::Service => text(|who| who.service),
            EndpointColumn::Kind => text(|who| who.kind.or(Some("unknown"))),
            EndpointColumn::WorkloadKind => text(|who| who.workload_kind),
            EndpointColumn::PodUid => text(|who| who.pod_uid),
            EndpointColumn::Container => text(|who| who.container),
            EndpointColumn::Zone => text(|who| who.zone),
            EndpointColumn::Process => text(|who| who.process),
            EndpointColumn::Comm => text(|who| who.comm),
            EndpointColumn::Labels => self.labels(endpoint),
            EndpointColumn::Dns => {
                let names = named.iter().map(|named| named.by_name(endpoint).map(|(name, _)| name));
                Arc::new(names.collect::<StringArray>())
            }
            EndpointColumn::Pid => {
                Arc::new(named.iter().map(|named| named.of(endpoint).pid).collect::<Int32Array>())
            }
            EndpointColumn::Identity => {
                let proof = |named: &Named<'_>| {
                    let by_name = || named.by_name(endpoint).map(|(_, proof)| proof);
                    named.of(endpoint).proof.or_else(by_name).or(Some("none"))
                };
                Arc::new(named.iter().map(proof).collect::<StringArray>())
            }
        }
    }

    fn differ(&self, of: for<'b> fn(&Identity<'b>) -> Option<&'b str>) -> BooleanArray {
        let both = |named: &Named<'_>| Some(of(&named.parties.src)? != of(&named.parties.dst)?);
        self.named.iter().map(both).collect()
    }

    fn pairs(&self) -> StringArray {
        let mut pairs = StringBuilder::new();
        for Named { parties: Parties { src, dst, .. }, .. } in &self.named {
            let workloads = src.workload.zip(dst.workload);
            pairs.append_option(workloads.map(|(src, dst)| format!("{src} -> {dst}")));
        }
        pairs.finish()
    }

    /// Labels of the pods of one end.
    fn labels(&self, endpoint: Endpoint) -> ArrayRef {
        let mut labels = TextMap::builder();
        for (named, flow) in self.named.iter().zip(self.flows) {
            let pod = named.of(endpoint).pod_uid.and_then(|uid| self.identities.cluster.pod(uid));
            let of = pod.and_then(|pod| pod.labels_at(flow.named_at_ns)).map(map);
            TextMap::append(&mut labels, of.as_deref());
        }
        TextMap::finish(&mut labels)
    }

    /// Where each flow was captured: on the node of its client, of its server, of neither, or inside of TLS. Where both ran on
    /// the capturing node, the side of an address translation decides, and without one the vantage is not known.
    fn vantages(&self) -> StringArray {
        let vantage = |(flow, named): (&Shared, &Named<'_>)| {
            let node = self.catalog.segments[flow.segment as usize].node.as_deref();
            let (src, dst) = (named.parties.src.node, named.parties.dst.node);
            match (src.map(|src| Some(src) == node), dst.map(|dst| Some(dst) == node)) {
                _ if flow.is_inside => Some(INSIDE),
                _ if [flow.src, flow.dst].iter().all(|end| end.addr().is_loopback()) => Some("loopback"),
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
        self.flows.iter().zip(&self.named).map(vantage).collect()
    }
}
