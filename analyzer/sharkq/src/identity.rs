//! Who owned an address at a time. In: a static identity file. Out: names and how they were proven; never today's owner of
//! an address for yesterday's packet.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

/// Owners of addresses, each for its interval.
#[derive(Default)]
pub struct Identities {
    by_ip: HashMap<String, Vec<Owner>>,
}

/// One owner of an address, as the identity file has it: a JSON array of these.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// Address.
    pub ip: String,
    /// Namespace.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Owning workload.
    #[serde(default)]
    pub workload: Option<String>,
    /// Deployment, StatefulSet, ...
    #[serde(default)]
    pub workload_kind: Option<String>,
    /// Pod.
    #[serde(default)]
    pub pod: Option<String>,
    /// Service.
    #[serde(default)]
    pub service: Option<String>,
    /// From when; absent for always.
    #[serde(default)]
    pub valid_from_ns: Option<i64>,
    /// Until when, exclusive; absent for always.
    #[serde(default)]
    pub valid_to_ns: Option<i64>,
}

/// Why an identity file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Cannot be read.
    #[error("{path}: {why}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// Two owners at once: nothing could say which one is meant.
    #[error(
        "{path}: {ip} has two owners at the same time, {first} and {second}; give each its valid_from_ns and valid_to_ns"
    )]
    Conflict {
        /// The file.
        path: String,
        /// The address.
        ip: String,
        /// An owner.
        first: String,
        /// Another.
        second: String,
    },
}

impl Identities {
    /// Reads an identity file.
    pub fn read(path: &Path) -> Result<Identities, IdentityError> {
        let shown = path.display().to_string();
        let unreadable = |why: String| IdentityError::Unreadable { path: shown.clone(), why };
        let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
        let owners: Vec<Owner> = serde_json::from_slice(&bytes)
            .map_err(|error| unreadable(format!("not an identity file (a JSON array of owners): {error}")))?;
        Identities::new(owners).map_err(|owners| IdentityError::Conflict {
            path: shown,
            ip: owners.0.ip.clone(),
            first: owners.0.name(),
            second: owners.1.name(),
        })
    }

    fn new(owners: Vec<Owner>) -> Result<Identities, Box<(Owner, Owner)>> {
        let mut by_ip: HashMap<String, Vec<Owner>> = HashMap::new();
        for mut owner in owners {
            if let Ok(ip) = owner.ip.parse::<std::net::IpAddr>() {
                owner.ip = ip.to_canonical().to_string();
            }
            let known = by_ip.entry(owner.ip.clone()).or_default();
            if let Some(other) = known.iter().find(|other| other.overlaps(&owner)) {
                return Err(Box::new((other.clone(), owner)));
            }
            known.push(owner);
        }
        Ok(Identities { by_ip })
    }

    /// The owner of an address at a time.
    pub fn at(&self, ip: &str, ts_ns: i64) -> Option<&Owner> {
        self.by_ip.get(ip)?.iter().find(|owner| owner.owns_at(ts_ns))
    }
}

impl Owner {
    fn owns_at(&self, ts_ns: i64) -> bool {
        self.valid_from_ns.is_none_or(|from| from <= ts_ns) && self.valid_to_ns.is_none_or(|to| ts_ns < to)
    }

    fn overlaps(&self, other: &Owner) -> bool {
        let starts_before_end = |a: &Owner, b: &Owner| match (a.valid_from_ns, b.valid_to_ns) {
            (Some(from), Some(to)) => from < to,
            _ => true,
        };
        starts_before_end(self, other) && starts_before_end(other, self)
    }

    fn name(&self) -> String {
        self.pod
            .clone()
            .or(self.service.clone())
            .or(self.workload.clone())
            .unwrap_or_else(|| "an unnamed owner".into())
    }

    /// pod, service or external.
    pub fn kind(&self) -> &'static str {
        match (&self.pod, &self.service) {
            (Some(_), _) => "pod",
            (None, Some(_)) => "service",
            _ => "external",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(pod: &str, from: Option<i64>, to: Option<i64>) -> Owner {
        let (ip, pod) = ("10.0.0.1".into(), Some(pod.into()));
        Owner { ip, pod, valid_from_ns: from, valid_to_ns: to, ..Owner::default() }
    }

    #[test]
    fn an_address_belongs_to_whoever_had_it_then() {
        let owners = vec![owner("old", None, Some(100)), owner("new", Some(100), None)];
        let identities = Identities::new(owners).expect("they do not overlap");
        let pod = |ts_ns| identities.at("10.0.0.1", ts_ns).and_then(|owner| owner.pod.as_deref());
        assert_eq!((pod(99), pod(100)), (Some("old"), Some("new")));
        assert_eq!(identities.at("10.0.0.2", 0), None);
    }

    #[test]
    fn two_owners_at_once_are_refused() {
        assert!(Identities::new(vec![owner("a", None, Some(101)), owner("b", Some(100), None)]).is_err());
    }
}
