//! Network policies resolved to workloads. In: policies, namespaces and pods over time. Out: a row per subject, rule, peer and port
//! (networking.k8s.io/v1, NetworkPolicySpec). A selector that nothing fits gives a row without workload, never one that fits all.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use serde_json::Value;
use shark_schema::identity::{Fact, NetworkPolicy, Pod};
use shark_schema::tables::network_policies::{self, PolicyBlock, PolicyRow};

use super::history::{History, Version};
use super::tables::{Batches, open_end};

type Labels = BTreeMap<String, String>;

/// A peer of a rule.
#[derive(Default)]
struct Peer {
    namespace: Option<String>,
    workload: Option<String>,
    cidr: Option<String>,
    except: Vec<String>,
    /// Selected by labels that no pod had.
    nobody: bool,
}

/// The table, and whether it lacks rows because there are too many: subjects, peers and ports multiply.
pub fn rows(history: &History) -> (Vec<RecordBatch>, bool) {
    let mut rows = Bounded { batches: Some(Batches::new(&network_policies::TABLE)), room: MOST_ROWS };
    append_all(history, &mut rows);
    (rows.batches.map(Batches::finish).unwrap_or_default(), rows.room == 0)
}

/// Whether the table would lack rows; none of them is made.
pub fn are_too_many(history: &History) -> bool {
    let mut rows = Bounded { batches: None, room: MOST_ROWS };
    append_all(history, &mut rows);
    rows.room == 0
}

fn append_all(history: &History, rows: &mut Bounded) {
    let mut resolver: Option<(&str, Resolver<'_>)> = None;
    for (cluster, object) in history.of("network_policy") {
        let resolver = match resolver.take() {
            Some((of, known)) if of == cluster => resolver.insert((of, known)),
            _ => resolver.insert((cluster, Resolver::new(history, cluster))),
        };
        for version in &object.versions {
            if let Fact::NetworkPolicy(policy) = &version.fact {
                resolver.1.append(policy, version, rows);
            }
        }
    }
}

const MOST_ROWS: usize = 1_000_000;

/// Rows, no more than there is room for; without batches they are only counted.
struct Bounded {
    batches: Option<Batches<PolicyBlock>>,
    room: usize,
}

impl Bounded {
    /// False where there is no room.
    fn append(&mut self, row: &PolicyRow<'_>) -> bool {
        if self.room > 0 {
            self.room -= 1;
            if let Some(batches) = &mut self.batches {
                batches.append(row);
            }
        }
        self.room > 0
    }
}

/// Pods and namespaces of one cluster.
struct Resolver<'a> {
    /// By namespace.
    pods: BTreeMap<&'a str, Vec<(&'a Version, &'a Pod)>>,
    namespaces: Vec<(&'a str, &'a Labels)>,
}

impl<'a> Resolver<'a> {
    fn new(history: &'a History, cluster: &str) -> Resolver<'a> {
        let pods = history.of("pod").filter(|(of, _)| *of == cluster).flat_map(|(_, pod)| &pod.versions);
        let mut by_namespace: BTreeMap<&str, Vec<(&Version, &Pod)>> = BTreeMap::new();
        for version in pods {
            if let Fact::Pod(pod) = &version.fact {
                by_namespace.entry(&pod.namespace).or_default().push((version, pod));
            }
        }
        let namespaces = history.of("namespace").filter(|(of, _)| *of == cluster);
        let namespaces = namespaces.filter_map(|(_, object)| match &object.versions.last()?.fact {
            Fact::Namespace(namespace) => Some((namespace.name.as_str(), &namespace.labels)),
            _ => None,
        });
        Resolver { pods: by_namespace, namespaces: namespaces.collect() }
    }

    fn append(&self, policy: &NetworkPolicy, version: &Version, rows: &mut Bounded) {
        let spec = &policy.spec;
        let subjects = self.workloads(&spec["podSelector"], [policy.namespace.as_str()], version);
        let subjects: Vec<Option<&str>> = match subjects.is_empty() {
            true => vec![None],
            false => subjects.iter().map(|(_, workload)| Some(workload.as_str())).collect(),
        };
        let types: Vec<&str> =
            spec["policyTypes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (direction, rules, peers) in [("ingress", "ingress", "from"), ("egress", "egress", "to")] {
            // Without policyTypes a policy is one of ingress, and of egress where it has such rules.
            let meant = match types.is_empty() {
                true => direction == "ingress" || spec["egress"].is_array(),
                false => types.iter().any(|kind| kind.eq_ignore_ascii_case(direction)),
            };
            if !meant {
                continue;
            }
            let rules: Vec<&Value> = spec[rules].as_array().into_iter().flatten().collect();
            for subject in &subjects {
                let row = PolicyRow {
                    name: Some(&policy.name),
                    namespace: Some(&policy.namespace),
                    kind: Some("NetworkPolicy"),
                    direction: Some(direction),
                    subject_workload: *subject,
                    valid_from: Some(version.from_ns),
                    valid_to: open_end(version.to_ns),
                    ..PolicyRow::default()
                };
                if rules.is_empty() {
                    rows.append(&PolicyRow { allows: Some(false), ..row });
                }
                for rule in &rules {
                    self.append_rule(rule, &rule[peers], policy, version, &row, rows);
                }
            }
        }
    }

    fn append_rule(
        &self,
        rule: &Value,
        peers: &Value,
        policy: &NetworkPolicy,
        version: &Version,
        row: &PolicyRow<'_>,
        rows: &mut Bounded,
    ) {
        let listed: Vec<&Value> = peers.as_array().into_iter().flatten().collect();
        let peers: Vec<Peer> = match listed.is_empty() {
            true => vec![Peer::default()],
            false => listed.iter().flat_map(|peer| self.peers(peer, policy, version)).collect(),
        };
        let ports: Vec<&Value> = rule["ports"].as_array().into_iter().flatten().collect();
        let ports = if ports.is_empty() { vec![&Value::Null] } else { ports };
        for peer in &peers {
            let except: Vec<&str> = peer.except.iter().map(String::as_str).collect();
            for port in &ports {
                // A port with a name is a number in each pod; one that cannot be told must not look like any.
                let number = port["port"].as_i64().and_then(|port| i32::try_from(port).ok());
                let named = port["port"].is_string().then(|| port["port"].as_str()).flatten();
                let number = number.or_else(|| self.port_named(named?, policy, version)).or(named.map(|_| 0));
                let proto =
                    (!port.is_null()).then(|| port["protocol"].as_str().unwrap_or("TCP").to_lowercase());
                let has_room = rows.append(&PolicyRow {
                    peer_namespace: peer.namespace.as_deref(),
                    peer_workload: peer.workload.as_deref(),
                    peer_cidr: peer.cidr.as_deref(),
                    except_cidrs: (!except.is_empty()).then_some(&except),
                    port: number,
                    end_port: port["endPort"].as_i64().and_then(|port| i32::try_from(port).ok()),
                    proto: proto.as_deref(),
                    allows: Some(!peer.nobody),
                    ..*row
                });
                if !has_room {
                    return;
                }
            }
        }
    }

    fn peers(&self, peer: &Value, policy: &NetworkPolicy, version: &Version) -> Vec<Peer> {
        if let Some(cidr) = peer["ipBlock"]["cidr"].as_str() {
            let except = peer["ipBlock"]["except"].as_array().into_iter().flatten();
            let except = except.filter_map(Value::as_str).map(str::to_owned).collect();
            return vec![Peer { cidr: Some(cidr.to_owned()), except, ..Peer::default() }];
        }
        let by_namespace = &peer["namespaceSelector"];
        let namespaces: BTreeSet<&str> = match by_namespace.is_null() {
            true => BTreeSet::from([policy.namespace.as_str()]),
            false => {
                let fits = self.namespaces.iter().filter(|(_, labels)| fits(by_namespace, labels));
                fits.map(|(name, _)| *name).collect()
            }
        };
        let nobody = Peer { nobody: true, ..Peer::default() };
        if peer["podSelector"].is_null() {
            // Whole namespaces; where all are meant, any.
            if is_empty(by_namespace) && !by_namespace.is_null() {
                return vec![Peer::default()];
            }
            let of = |name: &&str| Peer { namespace: Some((*name).to_owned()), ..Peer::default() };
            let peers: Vec<Peer> = namespaces.iter().map(of).collect();
            return if peers.is_empty() { vec![nobody] } else { peers };
        }
        let found = self.workloads(&peer["podSelector"], namespaces, version);
        let peers = found.into_iter().map(|(namespace, workload)| Peer {
            namespace: Some(namespace),
            workload: Some(workload),
            ..Peer::default()
        });
        let peers: Vec<Peer> = peers.collect();
        if peers.is_empty() { vec![nobody] } else { peers }
    }

    /// Workloads with a pod that a selector fitted while the policy was as it was.
    fn workloads<'n>(
        &self,
        selector: &Value,
        namespaces: impl IntoIterator<Item = &'n str>,
        version: &Version,
    ) -> BTreeSet<(String, String)> {
        let there = namespaces.into_iter().flat_map(|namespace| self.pods_then(namespace, version));
        let fitting = there.filter(|pod| fits(selector, &pod.labels));
        fitting
            .map(|pod| {
                let workload = pod.owners.last().map_or(&pod.name, |owner| &owner.name);
                (pod.namespace.clone(), workload.clone())
            })
            .collect()
    }

    /// Pods that a namespace had while a policy was as it was.
    fn pods_then(&self, namespace: &str, version: &Version) -> impl Iterator<Item = &'a Pod> {
        let pods = self.pods.get(namespace).into_iter().flatten();
        let then = pods.filter(|(pod, _)| pod.from_ns < version.to_ns && version.from_ns < pod.to_ns);
        then.map(|(_, pod)| *pod)
    }

    fn port_named(&self, name: &str, policy: &NetworkPolicy, version: &Version) -> Option<i32> {
        let pods = self.pods_then(&policy.namespace, version);
        let mut ports = pods.flat_map(|pod| &pod.containers).flat_map(|container| &container.ports);
        ports.find(|port| port.name.as_deref() == Some(name)).map(|port| port.port.into())
    }
}

fn is_empty(selector: &Value) -> bool {
    let none = |key: &str| selector[key].as_object().is_none_or(|map| map.is_empty());
    none("matchLabels") && selector["matchExpressions"].as_array().is_none_or(|list| list.is_empty())
}

/// A label selector (meta/v1, LabelSelector); an empty one fits everything.
fn fits(selector: &Value, labels: &Labels) -> bool {
    let by_label = selector["matchLabels"].as_object().into_iter().flatten();
    let mut by_label = by_label.map(|(key, value)| labels.get(key).map(String::as_str) == value.as_str());
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    let mut expressions = expressions.map(|expression| {
        let label = expression["key"].as_str().and_then(|key| labels.get(key));
        let values = || expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let is_in = || label.is_some_and(|label| values().any(|value| value == label));
        match expression["operator"].as_str() {
            Some("In") => is_in(),
            Some("NotIn") => !is_in(),
            Some("Exists") => label.is_some(),
            Some("DoesNotExist") => label.is_none(),
            _ => false,
        }
    });
    by_label.all(|fits| fits) && expressions.all(|fits| fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_fit_as_the_api_says() {
        let labels = Labels::from([("app".into(), "cart".into()), ("tier".into(), "back".into())]);
        let fit = |text: &str| fits(&serde_json::from_str(text).expect("JSON"), &labels);
        assert!(fit("{}") && fit(r#"{"matchLabels":{"app":"cart"}}"#));
        assert!(!fit(r#"{"matchLabels":{"app":"cart","tier":"front"}}"#));
        assert!(fit(r#"{"matchExpressions":[{"key":"app","operator":"In","values":["pay","cart"]}]}"#));
        assert!(!fit(r#"{"matchExpressions":[{"key":"app","operator":"NotIn","values":["cart"]}]}"#));
        assert!(fit(r#"{"matchExpressions":[{"key":"zone","operator":"NotIn","values":["a"]}]}"#));
        assert!(fit(r#"{"matchExpressions":[{"key":"tier","operator":"Exists"}]}"#));
        assert!(!fit(r#"{"matchExpressions":[{"key":"app","operator":"Like","values":["c"]}]}"#));
    }
}
