//! A static identity file: owners of addresses as a person wrote them down. In: JSON. Out: the owner of an address at a time.
//! It never takes a file in which an address has two owners at once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use serde::Deserialize;

/// Owners of addresses, each for its interval.
#[derive(Default)]
pub struct Fixed {
    by_ip: HashMap<IpAddr, Vec<Owner>>,
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

impl Fixed {
    /// Reads an identity file.
    pub fn read(path: &Path) -> Result<Fixed, IdentityError> {
        let shown = path.display().to_string();
        let unreadable = |why: String| IdentityError::Unreadable { path: shown.clone(), why };
        let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
        let owners: Vec<Owner> = serde_json::from_slice(&bytes)
            .map_err(|error| unreadable(format!("not an identity file (a JSON array of owners): {error}")))?;
        Fixed::new(owners).map_err(|owners| IdentityError::Conflict {
            path: shown,
            ip: owners.0.ip.clone(),
            first: owners.0.name(),
            second: owners.1.name(),
        })
    }

    fn new(owners: Vec<Owner>) -> Result<Fixed, Box<(Owner, Owner)>> {
        let mut by_ip: HashMap<IpAddr, Vec<Owner>> = HashMap::new();
        for owner in owners {
            // What is no address is never asked for.
            let Ok(ip) = owner.ip.parse::<IpAddr>() else { continue };
            let known = by_ip.entry(ip.to_canonical()).or_default();
            if let Some(other) = known.iter().find(|other| other.overlaps(&owner)) {
                return Err(Box::new((other.clone(), owner)));
            }
            known.push(owner);
        }
        Ok(Fixed { by_ip })
    }

    /// Nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.by_ip.is_empty()
    }

    /// The owner of an address at a time.
    pub fn at(&self, ip: IpAddr, ts_ns: i64) -> Option<&Owner> {
        self.by_ip.get(&ip)?.iter().find(|owner| owner.owns_at(ts_ns))
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

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn owner(pod: &str, from: Option<i64>, to: Option<i64>) -> Owner {
        let (ip, pod) = ("10.0.0.1".into(), Some(pod.into()));
        Owner { ip, pod, valid_from_ns: from, valid_to_ns: to, ..Owner::default() }
    }

    #[test]
    fn an_address_belongs_to_whoever_had_it_then() {
        let owners = vec![owner("old", None, Some(100)), owner("new", Some(100), None)];
        let fixed = Fixed::new(owners).expect("they do not overlap");
        let pod = |ts_ns| fixed.at(ip("10.0.0.1"), ts_ns).and_then(|owner| owner.pod.as_deref());
        assert_eq!((pod(99), pod(100)), (Some("old"), Some("new")));
        assert_eq!(fixed.at(ip("10.0.0.2"), 0), None);
    }

    #[test]
    fn two_owners_at_once_are_refused() {
        assert!(Fixed::new(vec![owner("a", None, Some(101)), owner("b", Some(100), None)]).is_err());
    }
}
