//! An object as the API server sends it, read by paths: what is absent, null or of another type reads as absent.
//! In: JSON. Out: strings, numbers, lists, times. Servers and operators send what they like; nothing here fails.

use std::collections::BTreeMap;

use kube::core::metadata::PartialObjectMeta;
use kube::core::{DynamicObject, ObjectMeta};
use serde_json::Value;

pub struct Object {
    pub metadata: ObjectMeta,
    pub data: Value,
}

impl From<DynamicObject> for Object {
    fn from(object: DynamicObject) -> Object {
        Object { metadata: object.metadata, data: object.data }
    }
}

impl From<PartialObjectMeta<DynamicObject>> for Object {
    fn from(object: PartialObjectMeta<DynamicObject>) -> Object {
        Object { metadata: object.metadata, data: Value::Null }
    }
}

impl Object {
    pub fn uid(&self) -> Option<String> {
        self.metadata.uid.clone().filter(|uid| !uid.is_empty())
    }

    pub fn name(&self) -> String {
        self.metadata.name.clone().unwrap_or_default()
    }

    pub fn namespace(&self) -> String {
        self.metadata.namespace.clone().unwrap_or_default()
    }

    pub fn labels(&self) -> BTreeMap<String, String> {
        self.metadata.labels.clone().unwrap_or_default()
    }

    pub fn label(&self, name: &str) -> Option<String> {
        self.metadata.labels.as_ref()?.get(name).cloned()
    }

    /// By when it is to be gone, once somebody asked for its deletion.
    pub fn deletion_ns(&self) -> Option<i64> {
        i64::try_from(self.metadata.deletion_timestamp.as_ref()?.0.as_nanosecond()).ok()
    }

    /// How long it was given to end.
    pub fn grace_ns(&self) -> Option<i64> {
        self.metadata.deletion_grace_period_seconds?.checked_mul(1_000_000_000)
    }

    /// Grows with every change; servers promise that numbers compare (and only older ones say that it is opaque).
    pub fn revision(&self) -> Option<u64> {
        self.metadata.resource_version.as_ref()?.parse().ok()
    }
}

/// `/spec/nodeName`
pub fn text(of: &Value, path: &str) -> Option<String> {
    of.pointer(path)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

pub fn flag(of: &Value, path: &str) -> Option<bool> {
    of.pointer(path)?.as_bool()
}

pub fn number(of: &Value, path: &str) -> Option<u64> {
    of.pointer(path)?.as_u64()
}

pub fn list<'a>(of: &'a Value, path: &str) -> &'a [Value] {
    of.pointer(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The strings of a list.
pub fn texts(of: &Value, path: &str) -> Vec<String> {
    list(of, path).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

pub fn map(of: &Value, path: &str) -> BTreeMap<String, String> {
    let entries = of.pointer(path).and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

/// RFC 3339, as nanoseconds since 1970.
pub fn time_ns(of: &Value, path: &str) -> Option<i64> {
    let time: jiff::Timestamp = of.pointer(path)?.as_str()?.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_wrong_and_absent_read_as_absent() {
        let of = serde_json::json!({ "a": null, "b": 7, "c": ["x", 1, null], "d": { "k": "v", "n": 1 } });
        assert_eq!((text(&of, "/a"), text(&of, "/b"), text(&of, "/z/y")), (None, None, None));
        assert!(list(&of, "/a").is_empty() && list(&of, "/b").is_empty());
        assert_eq!(texts(&of, "/c"), ["x"]);
        assert_eq!(map(&of, "/d").into_iter().collect::<Vec<_>>(), [("k".to_owned(), "v".to_owned())]);
        assert_eq!(
            time_ns(&serde_json::json!({ "t": "1970-01-01T00:00:01.000000002Z" }), "/t"),
            Some(1_000_000_002)
        );
        assert_eq!(time_ns(&serde_json::json!({ "t": "9999-12-31T00:00:00Z" }), "/t"), None);
    }
}
