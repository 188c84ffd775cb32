//! Functions that the fields and operators of KFL need and the engine lacks; SQL has them too: `cidr_contains(cidr, ip)`,
//! `query_map(text)`, `cookie_map(text)`, `set_cookie_map(text)`. Texts come from the wire: what cannot be read is NULL or
//! left out, never an error.

use std::net::IpAddr;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanBuilder, MapBuilder, MapFieldNames, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use shark_schema::cell::{Cell, TextMap};

/// All of them.
pub fn all() -> [ScalarUDF; 4] {
    let pairs = |name, how| ScalarUDF::new_from_impl(Pairs { name, how, signature: texts(1) });
    [
        cidr_contains(),
        pairs("query_map", How::Query),
        pairs("cookie_map", How::Cookie),
        pairs("set_cookie_map", How::SetCookie),
    ]
}

/// `cidr_contains(cidr, ip)`
pub fn cidr_contains() -> ScalarUDF {
    ScalarUDF::new_from_impl(CidrContains { signature: texts(2) })
}

fn texts(count: usize) -> Signature {
    Signature::exact(vec![DataType::Utf8; count], Volatility::Immutable)
}

/// A network: its first address and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// `10.0.0.0/8`, `fd00::/8`, or one address.
    pub fn parse(text: &str) -> Option<Network> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(ip, bits)| (ip, Some(bits)));
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Some(most), |bits| bits.parse().ok())?;
        (prefix <= most).then_some(Network { address, prefix })
    }

    /// Whether an address is in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let same = |ours: u128, theirs: u128, bits: u8| {
            let cut = bits - self.prefix;
            cut == 128 || ours >> cut == theirs >> cut
        };
        match (self.address, ip) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                same(u32::from(ours).into(), u32::from(theirs).into(), 32)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => same(ours.into(), theirs.into(), 128),
            _ => false,
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CidrContains {
    signature: Signature,
}

impl ScalarUDFImpl for CidrContains {
    fn name(&self) -> &str {
        "cidr_contains"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = columns(&args)?;
        let (networks, ips) = (columns[0].as_string::<i32>(), columns[1].as_string::<i32>());
        let mut out = BooleanBuilder::with_capacity(args.number_rows);
        let mut last: Option<(&str, Option<Network>)> = None;
        for (network, ip) in networks.iter().zip(ips) {
            let contains = network.zip(ip).and_then(|(text, ip)| {
                // Nearly always the same literal in every row.
                let network = match last {
                    Some((seen, network)) if seen == text => network,
                    _ => last.insert((text, Network::parse(text))).1,
                };
                Some(network?.contains(ip.parse().ok()?))
            });
            out.append_option(contains);
        }
        Ok(ColumnarValue::Array(Arc::new(out.finish())))
    }
}

fn columns(args: &ScalarFunctionArgs) -> Result<Vec<ArrayRef>> {
    let arrays = ColumnarValue::values_to_arrays(&args.args)?;
    let texts = arrays.iter().map(|array| {
        let is_scalar_only = array.len() == 1 && args.number_rows != 1;
        let array = if is_scalar_only { stretched(array, args.number_rows)? } else { Arc::clone(array) };
        Ok(cast(&array, &DataType::Utf8)?)
    });
    texts.collect()
}

/// A single value, once for each row.
fn stretched(array: &ArrayRef, rows: usize) -> Result<ArrayRef> {
    datafusion::common::ScalarValue::try_from_array(array, 0)?.to_array_of_size(rows)
}

/// How names and values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum How {
    /// `a=1&b=2`, percent-encoded (WHATWG URL, application/x-www-form-urlencoded).
    Query,
    /// `a=1; b=2` (RFC 6265 section 4.2).
    Cookie,
    /// One cookie a line, its attributes left out (RFC 6265 section 4.1).
    SetCookie,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Pairs {
    name: &'static str,
    how: How,
    signature: Signature,
}

impl ScalarUDFImpl for Pairs {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(TextMap::data_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = columns(&args)?;
        let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
        let mut out = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
        for text in columns[0].as_string::<i32>() {
            let pairs = text.map(|text| pairs(text, self.how)).unwrap_or_default();
            for (name, value) in &pairs {
                out.keys().append_value(name);
                out.values().append_value(value);
            }
            out.append(text.is_some())?;
        }
        Ok(ColumnarValue::Array(Arc::new(out.finish())))
    }
}

/// Names and values, each name once: the first counts.
fn pairs(text: &str, how: How) -> Vec<(String, String)> {
    let separator = match how {
        How::Query => '&',
        How::Cookie => ';',
        How::SetCookie => '\n',
    };
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for part in text.split(separator).map(str::trim).filter(|part| !part.is_empty()) {
        let part = if how == How::SetCookie { part.split(';').next().unwrap_or(part) } else { part };
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let decode = |text: &str| if how == How::Query { decoded(text) } else { text.trim().to_string() };
        let name = decode(name);
        if seen.insert(name.clone()) {
            pairs.push((name, decode(value)));
        }
    }
    pairs
}

/// Percent-decoding that leaves alone what is not encoded well.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        let byte = pair.filter(|_| bytes[at] == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok());
        out.push(byte.unwrap_or(if bytes[at] == b'+' { b' ' } else { bytes[at] }));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let contains =
            |network: &str, ip: &str| Network::parse(network).map(|n| n.contains(ip.parse().unwrap()));
        assert_eq!(contains("10.0.0.0/8", "10.255.0.1"), Some(true));
        assert_eq!(contains("10.0.0.0/8", "11.0.0.1"), Some(false));
        assert_eq!(contains("10.0.0.0/8", "fd00::1"), Some(false));
        assert_eq!(contains("0.0.0.0/0", "1.2.3.4"), Some(true));
        assert_eq!(contains("::/0", "fd00::1"), Some(true));
        assert_eq!(contains("fd00::/8", "fe00::1"), Some(false));
        assert_eq!(contains("10.1.2.3", "10.1.2.3"), Some(true));
        for bad in ["", "/", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/-1", "10.0.0.0/8/8"] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_and_values() {
        let written = |text: &str, how| {
            pairs(text, how)
                .iter()
                .map(|(name, value)| format!("{name}:{value}"))
                .collect::<Vec<_>>()
                .join(",")
        };
        assert_eq!(written("a=1&b=x%20y+z&&c&a=2&d=%zz%4", How::Query), "a:1,b:x y z,c:,d:%zz%4");
        assert_eq!(written("%ff=\u{e9}", How::Query), "\u{fffd}:\u{e9}");
        assert_eq!(written("sid=abc; theme=a=b;;x", How::Cookie), "sid:abc,theme:a=b,x:");
        assert_eq!(written("sid=1; Path=/; Secure\nt=2", How::SetCookie), "sid:1,t:2");
    }
}
