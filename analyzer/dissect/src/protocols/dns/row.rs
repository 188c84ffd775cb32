//! The row of a DNS exchange.

use std::borrow::Cow;

use shark_schema::table::Block;
use shark_schema::tables::dns::{DnsBlock, DnsRow};

use super::record::{Answer, Message, Question};
use crate::layer::{CallTimes, Resolved, Written};

const NXDOMAIN: u16 = 3;
const AAAA: u16 = 28;

/// Appends the row; at least one half is there.
pub fn write(
    request: Option<&Message>,
    response: Option<&Message>,
    times: &CallTimes,
    columns: &mut DnsBlock,
) -> Written {
    let asked = request.or(response).expect("a call has at least one half");
    let question = asked.questions.first().or(response.and_then(|response| response.questions.first()));
    let kind = question.map(|question| type_name(question.kind));
    let names: Vec<&str> = asked.questions.iter().map(|question| question.name.as_str()).collect();
    let rcode = response.map(Message::rcode);
    let rcode_text = rcode.map(rcode_name);
    let answers = response.map(|response| response.answers.as_slice());
    let data: Option<Vec<&str>> =
        answers.map(|answers| answers.iter().map(|answer| answer.data.as_str()).collect());
    let ttls: Option<Vec<i64>> =
        answers.map(|answers| answers.iter().map(|answer| answer.ttl_s.into()).collect());
    let kinds: Option<Vec<Cow<'_, str>>> =
        answers.map(|answers| answers.iter().map(|answer| type_name(answer.kind)).collect());
    let kinds: Option<Vec<&str>> = kinds.as_ref().map(|kinds| kinds.iter().map(AsRef::as_ref).collect());
    let count = |section: usize| response.map(|response| i32::from(response.header.counts[section]));
    let opcode = opcode_name(asked.header.opcode);
    let is_missing = rcode == Some(NXDOMAIN);
    let is_expansion = question.map(|question| is_search_expansion(&question.name, is_missing));
    // What a search list makes of a name need not exist. Of a name that does not exist, the question for an address of version 4,
    // which is asked beside it, says so.
    let is_expected =
        is_missing && (is_expansion == Some(true) || question.is_some_and(|question| question.kind == AAAA));
    let failure = rcode.filter(|rcode| *rcode != 0 && !is_expected);
    let row = DnsRow {
        query: question.map(|question| question.name.as_str()),
        qtype: kind.as_deref(),
        rcode: rcode_text.as_deref(),
        rcode_num: rcode.map(i32::from),
        trans_id: Some(asked.header.id.into()),
        rtt_ns: times.duration_ns,
        answers: data.as_deref(),
        ttls: ttls.as_deref(),
        authoritative: response.map(|response| response.header.authoritative),
        truncated: response.map(|response| response.header.truncated),
        recursion: response.map(|response| response.header.recursion_available),
        transport: Some(if asked.tcp { "tcp" } else { "udp" }),
        search_expansion: is_expansion,
        opcode: Some(&opcode),
        questions: (names.len() > 1).then_some(&names),
        answer_types: kinds.as_deref(),
        n_answers: count(1),
        n_authority: count(2),
        n_additional: count(3),
        ..DnsRow::default()
    };
    Written {
        bytes: columns.append(&row),
        is_error: rcode.map(|_| failure.is_some()),
        error_type: failure.map(rcode_name),
        resolved: response.and_then(|response| resolved(question?, response)),
        ..Written::default()
    }
}

/// What a positive answer says of the name asked for, aliases followed by the server (RFC 1034 section 3.6.2).
fn resolved(question: &Question, response: &Message) -> Option<Resolved> {
    let is_address = |answer: &&Answer| matches!(answer.kind, 1 | 28);
    let addresses: Vec<String> =
        response.answers.iter().filter(is_address).map(|answer| answer.data.clone()).collect();
    (!addresses.is_empty()).then(|| Resolved { name: question.name.clone(), addresses })
}

/// The resolver walked its search list (`ndots`): a cluster suffix stands behind a name that is none of the cluster's. Those are
/// `service.namespace.svc.cluster.local`, and with one label more for a pod of a service; labels with an underscore (RFC 2782) may
/// stand before them. Where a name could be both, a pod of a StatefulSet has a number at its end, and what exists is no expansion.
fn is_search_expansion(name: &str, is_missing: bool) -> bool {
    const ZONE: &str = "cluster.local";
    /// Some of the top-level domains that no namespace and no service is called like, and some of private networks.
    const TOP_LEVEL: [&str; 24] = [
        "com", "net", "org", "io", "edu", "gov", "info", "biz", "dev", "app", "cloud", "ai", "co", "eu",
        "de", "uk", "us", "internal", "arpa", "local", "corp", "lan", "intranet", "invalid",
    ];
    let in_zone = |at: usize| name[at + ZONE.len()..].starts_with('.') && name[..at].ends_with('.');
    if name.find(ZONE).is_some_and(in_zone) {
        // Behind a name of the cluster comes a suffix of the node's network.
        return true;
    }
    let Some(rest) = name.strip_suffix(ZONE).and_then(|rest| rest.strip_suffix('.')) else { return false };
    let labels: Vec<&str> = rest.split('.').skip_while(|label| label.starts_with('_')).collect();
    match labels.as_slice() {
        [before @ .., "svc"] if !before.contains(&"svc") => match before {
            [] => false,
            [_] => true,
            [_, namespace] => TOP_LEVEL.contains(namespace),
            [_, service, namespace] if [service, namespace].iter().any(|label| TOP_LEVEL.contains(label)) => {
                true
            }
            [pod, ..] if before.len() == 3 => is_missing && !is_numbered(pod),
            _ => true,
        },
        [.., "pod"] => false,
        _ => true,
    }
}

/// `name-0`
fn is_numbered(pod: &str) -> bool {
    let number = pod.rsplit_once('-').map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Names of the IANA registry "Resource Record (RR) TYPEs".
pub fn type_name(kind: u16) -> Cow<'static, str> {
    let name = match kind {
        1 => "A",
        2 => "NS",
        5 => "CNAME",
        6 => "SOA",
        10 => "NULL",
        12 => "PTR",
        13 => "HINFO",
        15 => "MX",
        16 => "TXT",
        17 => "RP",
        18 => "AFSDB",
        24 => "SIG",
        25 => "KEY",
        28 => "AAAA",
        29 => "LOC",
        33 => "SRV",
        35 => "NAPTR",
        37 => "CERT",
        39 => "DNAME",
        41 => "OPT",
        43 => "DS",
        44 => "SSHFP",
        46 => "RRSIG",
        47 => "NSEC",
        48 => "DNSKEY",
        50 => "NSEC3",
        51 => "NSEC3PARAM",
        52 => "TLSA",
        59 => "CDS",
        60 => "CDNSKEY",
        64 => "SVCB",
        65 => "HTTPS",
        99 => "SPF",
        249 => "TKEY",
        250 => "TSIG",
        251 => "IXFR",
        252 => "AXFR",
        255 => "ANY",
        256 => "URI",
        257 => "CAA",
        _ => return format!("TYPE{kind}").into(),
    };
    name.into()
}

/// Names of the IANA registry "DNS RCODEs".
fn rcode_name(rcode: u16) -> Cow<'static, str> {
    let name = match rcode {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        6 => "YXDOMAIN",
        7 => "YXRRSET",
        8 => "NXRRSET",
        9 => "NOTAUTH",
        10 => "NOTZONE",
        16 => "BADVERS",
        17 => "BADKEY",
        18 => "BADTIME",
        22 => "BADTRUNC",
        23 => "BADCOOKIE",
        _ => return format!("RCODE{rcode}").into(),
    };
    name.into()
}

fn opcode_name(opcode: u8) -> Cow<'static, str> {
    let name = match opcode {
        0 => "QUERY",
        1 => "IQUERY",
        2 => "STATUS",
        4 => "NOTIFY",
        5 => "UPDATE",
        6 => "DSO",
        _ => return format!("OPCODE{opcode}").into(),
    };
    name.into()
}

#[cfg(test)]
mod tests {
    use super::is_search_expansion;

    #[test]
    fn search_lists_are_told_from_cluster_names() {
        let expansions = [
            "api.example.com.shop.svc.cluster.local",
            "api.example.com.svc.cluster.local",
            "api.example.com.cluster.local",
            "example.com.shop.svc.cluster.local",
            "example.com.svc.cluster.local",
            "example.com.cluster.local",
            "audit.corp.svc.cluster.local",
            "cart.svc.cluster.local",
            "cart.cluster.local",
            "cart.shop.svc.cluster.local.web.svc.cluster.local",
            "cart.shop.svc.web.svc.cluster.local",
            "cart.shop.svc.svc.cluster.local",
            "cart.shop.svc.cluster.local.eu-west-1.compute.internal",
            "_http._tcp.api.example.com.shop.svc.cluster.local",
        ];
        for name in expansions {
            assert!(is_search_expansion(name, true) && is_search_expansion(name, false), "{name}");
        }
        let names = [
            "cart.shop.svc.cluster.local",
            "db-0.db.shop.svc.cluster.local",
            "_peer._tcp.kafka.shop.svc.cluster.local",
            "_peer._tcp.kafka-0.kafka.shop.svc.cluster.local",
            "10-244-1-5.shop.pod.cluster.local",
            "api.example.com",
            "printer.local",
            "notcluster.local",
            "cluster.local",
        ];
        for name in names {
            assert!(!is_search_expansion(name, true) && !is_search_expansion(name, false), "{name}");
        }
        // Either service `other` in namespace `shop` has a pod `cart`, or `cart.other` was looked for in `shop`.
        assert!(is_search_expansion("cart.other.shop.svc.cluster.local", true));
        assert!(!is_search_expansion("cart.other.shop.svc.cluster.local", false));
    }
}
