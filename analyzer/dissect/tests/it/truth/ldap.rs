//! LDAP messages: operation, object and scope of requests, the result of answers, and the entries before them.

use super::{Line, Verdict, counted, told};

const EXCEPTIONS: &[(&str, &str)] = &[(
    "ldap/zeek__aduser1-ntlm.pcap",
    "binds in Microsoft's own way, which RFC 4511 does not have: only their heads are read",
)];

#[test]
fn ldap() {
    let captures = told("ldap", "ldap", "ldap");
    if captures.is_empty() {
        return;
    }
    let mut verdict = Verdict::default();
    for capture in &captures {
        let requests = counted(&capture.rows, |row| {
            let names = ["message_id", "operation", "base_dn", "scope"];
            (!row["request_bytes"].is_empty()).then(|| names.map(|name| row[name].as_str()).join(" "))
        });
        let theirs = counted(&capture.truth, |message| {
            let op = operation(&message["op"])?;
            let scope = ["base", "one", "sub", ""][message["scope"].parse().unwrap_or(3)];
            Some(format!("{} {op} {} {scope}", message["message_id"], object(message)))
        });
        verdict.compare(&capture.file, &requests, &theirs);
        let answers = counted(&capture.rows, |row| {
            let names = ["message_id", "result_code", "diagnostic"];
            (!row["result_code"].is_empty()).then(|| names.map(|name| row[name].as_str()).join(" "))
        });
        let theirs = counted(&capture.truth, |message| {
            let text = ["message_id", "result_code", "error"].map(|name| message[name].as_str());
            (!message["result_code"].is_empty()).then(|| text.join(" "))
        });
        verdict.compare(&capture.file, &answers, &theirs);
        let entries: i64 = capture.rows.iter().filter_map(|row| row["entries"].parse::<i64>().ok()).sum();
        let theirs = capture.truth.iter().filter(|message| message["op"] == "4").count();
        let one = |count: i64| [("entries".to_owned(), count as usize)].into();
        verdict.compare(&capture.file, &one(entries), &one(theirs as i64));
    }
    verdict.judge(EXCEPTIONS, 20);
}

/// Of a request.
fn operation(op: &str) -> Option<&'static str> {
    Some(match op {
        "0" => "bind",
        "2" => "unbind",
        "3" => "search",
        "6" => "modify",
        "8" => "add",
        "10" => "delete",
        "12" => "modify_dn",
        "14" => "compare",
        "16" => "abandon",
        "23" => "extended",
        _ => return None,
    })
}

fn object(message: &Line) -> &str {
    let names = ["base", "bind_name", "object", "entry"];
    names.iter().map(|name| message[*name].as_str()).find(|name| !name.is_empty()).unwrap_or_default()
}
