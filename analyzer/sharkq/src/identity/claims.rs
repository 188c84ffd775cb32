//! When whom an address belonged to, object by object. In: the versions of a pod, a service or a node. Out: claims on addresses. A
//! claim never reaches into a time of which nobody knows, unless the object was the same before and after.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use shark_schema::identity::{Endpoint, EndpointSlice, Fact, Service};

use super::cluster::Number;
use super::history::{History, Object, Version};
use super::timeline::{Claim, OPEN};

/// A witness hears of a change a moment after it happened.
const LAG_NS: i64 = 1_000_000_000;

/// The first version of what was there before anybody looked is taken to hold before, too, where nobody else claims the address.
pub fn claim(number: Number, object: &Object, version: &Version) -> Claim<Number> {
    let is_first = object.versions.first().is_some_and(|first| std::ptr::eq(first, version));
    let early_ns = match is_first && object.was_there {
        true => i64::MIN,
        false => version.after_ns.unwrap_or(version.from_ns.saturating_sub(LAG_NS)),
    };
    Claim::new(number, early_ns, version.from_ns, end(object, version))
}

/// Until when a version is known to have held; what comes after it may well be the same in all that matters here.
fn end(object: &Object, version: &Version) -> i64 {
    let is_last = object.versions.last().is_some_and(|last| std::ptr::eq(last, version));
    version.unsure_ns.filter(|_| is_last).unwrap_or(version.to_ns)
}

/// When a pod owned its addresses: from when it was given one, at the earliest from its start, until it was deleted or had ended. Once
/// its deletion was asked for it may give them back at any time, and may have them for as long as it was given to end.
pub fn claims_of_pod(number: Number, object: &Object) -> Vec<(IpAddr, Claim<Number>)> {
    let mut claims: Vec<(IpAddr, Claim<Number>)> = Vec::new();
    for version in &object.versions {
        let Fact::Pod(pod) = &version.fact else { continue };
        if pod.host_network {
            continue;
        }
        let over = matches!(pod.phase.as_str(), "Succeeded" | "Failed");
        // The end is known to the second: it may be as late as the next one.
        let ended_ns = pod.ended_ns.map(|ns| ns.saturating_add(1_000_000_000)).filter(|_| over);
        for ip in addresses(&pod.ips) {
            let before =
                claims.iter_mut().rev().find(|(of, claim)| *of == ip && claim.to_ns >= version.from_ns);
            match (before, over) {
                (Some((_, claim)), false) => claim.to_ns = end(object, version),
                (Some((_, claim)), true) => {
                    let told_ns = version.after_ns.unwrap_or(version.from_ns);
                    claim.to_ns = ended_ns.map_or(told_ns, |ended_ns| ended_ns.min(version.from_ns));
                }
                (None, false) => {
                    let from_ns = version.from_ns;
                    let early_ns = pod.started_ns.or(version.after_ns).unwrap_or(from_ns).min(from_ns);
                    let to_ns = end(object, version);
                    claims.push((ip, Claim::new(number, early_ns, from_ns, to_ns)));
                }
                // It had ended before anybody looked: what it says of itself holds where nobody else claims the address.
                (None, true) => {
                    if let (Some(early_ns), Some(to_ns)) = (pod.started_ns, ended_ns) {
                        claims.push((ip, Claim::new(number, early_ns, to_ns, to_ns)));
                    }
                }
            }
        }
        if let Some(due_ns) = pod.deletion_ns {
            let asked_ns = due_ns.saturating_sub(pod.grace_ns.unwrap_or(0)).min(version.from_ns);
            for (_, claim) in &mut claims {
                if claim.to_ns >= version.from_ns {
                    claim.fading_ns = claim.fading_ns.min(asked_ns);
                    claim.ghost_ns = due_ns;
                }
                // What has ended, and says so, has given them back.
                if over {
                    claim.ghost_ns = i64::MIN;
                }
            }
        }
        let gone = claims.iter_mut().filter(|(ip, claim)| {
            claim.to_ns == version.from_ns && !addresses(&pod.ips).any(|own| own == *ip)
        });
        // An address it has no more: since when exactly was not watched.
        gone.for_each(|(_, claim)| claim.to_ns = version.after_ns.unwrap_or(claim.to_ns));
    }
    claims
}

/// Backends of a service over time, from its endpoint slices. What went away unwatched is no backend from
/// when nobody watched; what came unwatched is one from then, but not before its pod was. `room` is how
/// many of them may still be remembered, of all services.
pub fn endpoints_of(
    slices: &Slices<'_>,
    begun: &Begun<'_>,
    cluster: &str,
    service: &Service,
    room: &mut usize,
) -> Vec<(i64, Vec<Backend>)> {
    let mut spans: Vec<(i64, i64, Backend)> = Vec::new();
    let key = (cluster, service.namespace.as_str(), service.name.as_str());
    for object in slices.get(&key).into_iter().flatten() {
        let backends = |version: &Version| match &version.fact {
            Fact::EndpointSlice(slice) if is_of(slice, service) => backends_of(slice).collect(),
            _ => Vec::new(),
        };
        for (at, version) in object.versions.iter().enumerate() {
            let next = object.versions.get(at + 1).map(backends).unwrap_or_default();
            let Fact::EndpointSlice(slice) = &version.fact else { continue };
            let early_ns = claim(0, object, version).early_ns;
            for endpoint in ready(slice).filter(|_| is_of(slice, service)) {
                let pod = endpoint.pod.as_deref().filter(|_| version.after_ns.is_some());
                let began_ns = pod.and_then(|pod| begun.get(&(cluster, slice.namespace.as_str(), pod)));
                let from_ns = began_ns.copied().unwrap_or(early_ns).min(version.from_ns).max(early_ns);
                for backend in places(slice, endpoint) {
                    let gone_ns = version.unsure_ns.filter(|_| !next.contains(&backend));
                    spans.push((from_ns, gone_ns.unwrap_or(version.to_ns), backend));
                }
            }
        }
    }
    at_moments(spans, room)
}

/// Who is there from each moment on at which somebody comes or goes. Where there is no room for more,
/// nobody is known to be there.
fn at_moments(spans: Vec<(i64, i64, Backend)>, room: &mut usize) -> Vec<(i64, Vec<Backend>)> {
    let begins_and_ends = spans.into_iter().filter(|(from_ns, to_ns, _)| from_ns < to_ns);
    let mut changes: Vec<(i64, i32, Backend)> = begins_and_ends
        .flat_map(|(from_ns, to_ns, backend)| [(from_ns, 1, backend), (to_ns, -1, backend)])
        .collect();
    changes.sort_unstable();
    let mut there: BTreeMap<Backend, i32> = BTreeMap::new();
    let mut backends = Vec::new();
    for moment in changes.chunk_by(|a, b| a.0 == b.0).filter(|moment| moment[0].0 != OPEN) {
        for (_, change, backend) in moment {
            *there.entry(*backend).or_default() += change;
        }
        there.retain(|_, count| *count != 0);
        *room = room.saturating_sub(there.len() + 1);
        if *room == 0 {
            backends.push((moment[0].0, Vec::new()));
            break;
        }
        backends.push((moment[0].0, there.keys().copied().collect()));
    }
    backends
}

/// An address and a port.
type Backend = (IpAddr, u16);

/// Slices of endpoints that were ever of a service, by its cluster, namespace and name.
pub type Slices<'a> = HashMap<(&'a str, &'a str, &'a str), Vec<&'a Object>>;

/// Of all services.
pub fn slices(history: &History) -> Slices<'_> {
    let mut slices = Slices::new();
    for (cluster, object) in history.of("endpoint_slice") {
        for version in &object.versions {
            let Fact::EndpointSlice(EndpointSlice { namespace, service: Some(service), .. }) = &version.fact
            else {
                continue;
            };
            let of = slices.entry((cluster, namespace, service)).or_default();
            if of.last().is_none_or(|last| !std::ptr::eq(*last, object)) {
                of.push(object);
            }
        }
    }
    slices
}

fn is_of(slice: &EndpointSlice, service: &Service) -> bool {
    slice.namespace == service.namespace && slice.service.as_deref() == Some(&service.name)
}

fn backends_of(slice: &EndpointSlice) -> impl Iterator<Item = (IpAddr, u16)> {
    ready(slice).flat_map(|endpoint| places(slice, endpoint))
}

/// Endpoints that are not ready get no new connections; one whose state nobody knows counts as ready (the API says so).
fn ready(slice: &EndpointSlice) -> impl Iterator<Item = &Endpoint> {
    slice.endpoints.iter().filter(|endpoint| endpoint.ready != Some(false))
}

fn places<'a>(slice: &'a EndpointSlice, endpoint: &'a Endpoint) -> impl Iterator<Item = (IpAddr, u16)> + 'a {
    addresses(&endpoint.addresses).flat_map(|ip| slice.ports.iter().map(move |port| (ip, port.port)))
}

/// When pods began, by their own word; of several of one cluster, namespace and name the last.
pub type Begun<'a> = HashMap<(&'a str, &'a str, &'a str), i64>;

/// Of all pods.
pub fn begun(history: &History) -> Begun<'_> {
    let mut begun = Begun::new();
    for (cluster, object) in history.of("pod") {
        let Some(Fact::Pod(pod)) = object.versions.last().map(|last| &last.fact) else { continue };
        let Some(started_ns) = pod.started_ns else { continue };
        let last_ns = begun.entry((cluster, &pod.namespace, &pod.name)).or_insert(started_ns);
        *last_ns = started_ns.max(*last_ns);
    }
    begun
}

/// Those of the texts that are addresses: a service may say `None`.
pub fn addresses(texts: &[String]) -> impl Iterator<Item = IpAddr> + '_ {
    texts.iter().filter_map(|text| text.parse::<IpAddr>().ok()).map(|ip| ip.to_canonical())
}
