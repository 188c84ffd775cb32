//! RADIUS packets: code, identifier and the attributes of a row.

use super::{Line, Verdict, counted, told};

const EXCEPTIONS: &[(&str, &str)] =
    &[("radius/zeek__radius_localhost.pcap", "a request that is sent again twice is one call")];

#[test]
fn radius() {
    let captures = told("radius", "radius", "radius");
    if captures.is_empty() {
        return;
    }
    let mut verdict = Verdict::default();
    for capture in &captures {
        let requests = |row: &Line| {
            let text = ["code_num", "identifier", "username", "nas_ip", "calling_station"]
                .map(|name| row[name].as_str());
            (!row["request_bytes"].is_empty()).then(|| text.join(" "))
        };
        let is_request = |code: &str| ["1", "4", "12", "40", "43"].contains(&code);
        let theirs = counted(&capture.truth, |packet| {
            let text =
                [&packet["code"], &packet["id"], &packet["user_name"], &packet["nas_ip"], &packet["calling"]]
                    .map(String::as_str);
            is_request(&packet["code"]).then(|| text.join(" "))
        });
        verdict.compare(&capture.file, &counted(&capture.rows, requests), &theirs);
        let answers = counted(&capture.rows, |row| {
            (!row["response_code"].is_empty()).then(|| row["response_code"].clone())
        });
        let theirs = counted(&capture.truth, |packet| {
            let name = packet["code_name"].trim_start_matches("Code: ").split(" (").next();
            name.filter(|_| !is_request(&packet["code"])).map(str::to_owned)
        });
        verdict.compare(&capture.file, &answers, &theirs);
    }
    verdict.judge(EXCEPTIONS, 15);
}
