//! The row of a DNS exchange.

use std::borrow::Cow;

use shark_schema::table::Block;
use shark_schema::tables::dns::{DnsBlock, DnsRow};

use super::record::{Answer, Message, Question};
use crate::dissector::{CallTimes, Resolved, Written};

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
        search_expansion: question.map(|question| is_search_expansion(&question.name)),
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
        is_error: rcode.map(|rcode| rcode != 0),
        error_type: rcode.filter(|rcode| *rcode != 0).map(rcode_name),
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

/// A cluster suffix behind a name that had dots before it: the resolver walked its search list (`ndots`).
/// The names that belong there are `service.namespace.svc.cluster.local` and, for pods of a service, one label more.
fn is_search_expansion(name: &str) -> bool {
    const SUFFIXES: [(&str, usize); 3] =
        [(".svc.cluster.local", 2), (".cluster.local", 0), (".local", usize::MAX)];
    SUFFIXES
        .iter()
        .find_map(|(suffix, labels)| name.strip_suffix(suffix).map(|rest| (rest, *labels)))
        .is_some_and(|(rest, labels)| {
            let dots = rest.bytes().filter(|byte| *byte == b'.').count();
            match labels {
                2 => dots > 2,
                0 => !rest.ends_with(".svc") && !rest.ends_with(".pod"),
                _ => false,
            }
        })
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
        assert!(is_search_expansion("api.example.com.shop.svc.cluster.local"));
        assert!(is_search_expansion("api.example.com.cluster.local"));
        assert!(!is_search_expansion("cart.shop.svc.cluster.local"));
        assert!(!is_search_expansion("db-0.db.shop.svc.cluster.local"));
        assert!(!is_search_expansion("api.example.com"));
    }
}
