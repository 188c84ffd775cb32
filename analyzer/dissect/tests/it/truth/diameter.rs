//! Diameter messages: command, identifiers, session, and the result of answers.

use super::{Verdict, counted, told};

const EXCEPTIONS: &[(&str, &str)] = &[(
    "diameter/arkime__diameter_synthetic.pcap",
    "two of its conversations run over SCTP, which is not read",
)];

#[test]
fn diameter() {
    let captures = told("diameter", "diameter", "diameter");
    if captures.is_empty() {
        return;
    }
    let mut verdict = Verdict::default();
    for capture in &captures {
        let is_request = |flags: &str| {
            i64::from_str_radix(flags.trim_start_matches("0x"), 16).is_ok_and(|flags| flags & 0x80 != 0)
        };
        let number = |cell: &str| match cell.strip_prefix("0x") {
            Some(digits) => i64::from_str_radix(digits, 16).expect("a number").to_string(),
            None => cell.to_owned(),
        };
        let requests = counted(&capture.rows, |row| {
            let names = [
                "command_code",
                "app_id",
                "hop_by_hop",
                "end_to_end",
                "session_id",
                "origin_host",
                "dest_realm",
            ];
            (!row["request_bytes"].is_empty()).then(|| names.map(|name| row[name].as_str()).join(" "))
        });
        let theirs = counted(&capture.truth, |message| {
            let names = ["cmd", "app", "hbh", "e2e", "session", "origin_host", "dest_realm"];
            is_request(&message["flags"]).then(|| names.map(|name| number(&message[name])).join(" "))
        });
        verdict.compare(&capture.file, &requests, &theirs);
        let answers = counted(&capture.rows, |row| {
            let names = ["command_code", "hop_by_hop", "result_code", "answering_host"];
            (!row["response_bytes"].is_empty()).then(|| names.map(|name| row[name].as_str()).join(" "))
        });
        let theirs = counted(&capture.truth, |message| {
            let result =
                if message["result"].is_empty() { &message["exp_result"] } else { &message["result"] };
            let cells =
                [&message["cmd"], &message["hbh"], result, &message["origin_host"]].map(|cell| number(cell));
            (!is_request(&message["flags"])).then(|| cells.join(" "))
        });
        verdict.compare(&capture.file, &answers, &theirs);
    }
    verdict.judge(EXCEPTIONS, 10);
}
