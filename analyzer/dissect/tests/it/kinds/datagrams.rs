//! Datagrams: what is sent again is one call, answers belong to their question, groups need not answer.

use super::dns;
use super::made::{MS, S, Sent, answer, datagram, question, rows};

const DNS: [&str; 4] = ["query", "answers", "pairing", "is_error"];
const GROUP: ([u8; 4], u16) = ([224, 0, 0, 251], 5353);

#[test]
fn a_question_that_is_sent_again_is_one_call() {
    let (asked, told) = (dns(7, "a.example", 1, None), dns(7, "a.example", 1, Some([192, 0, 2, 1])));
    let again = [question(S, 53, &asked), question(6 * S, 53, &asked), answer(6 * S + MS, 53, &told)];
    assert_eq!(rows(&again, "dns", &DNS), ["a.example,[192.0.2.1],complete,false"]);
    // The server answers both.
    let late = Sent { ts_ns: 6 * S + 2 * MS, ..again[2].clone() };
    assert_eq!(rows(&[&again[..], &[late]].concat(), "dns", &DNS), ["a.example,[192.0.2.1],complete,false"]);
    // Nobody answers: that is one failure.
    assert_eq!(rows(&again[..2], "dns", &DNS), ["a.example,,request_only,true"]);
}

#[test]
fn an_access_request_that_is_sent_again_is_one_call() {
    let packet =
        |code: u8, authenticator: u8| [&[code, 9, 0, 25][..], &[authenticator; 16], b"\x01\x05bob"].concat();
    let frames = [
        question(S, 1812, &packet(1, 1)),
        question(4 * S, 1812, &packet(1, 1)),
        answer(4 * S + MS, 1812, &packet(2, 5)),
        // The same identifier, but another request.
        question(5 * S, 1812, &packet(1, 2)),
        answer(5 * S + MS, 1812, &packet(3, 6)),
    ];
    let seen = rows(&frames, "radius", &["code", "result", "pairing"]);
    assert_eq!(seen, ["Access-Request,success,complete", "Access-Request,failed,complete"]);
}

#[test]
fn answers_belong_to_their_question() {
    let frames = [
        question(S, 53, &dns(7, "a.example", 1, None)),
        question(S + MS, 53, &dns(7, "b.example", 1, None)),
        question(S + 2 * MS, 53, &dns(7, "a.example", 28, None)),
        answer(S + 3 * MS, 53, &dns(7, "B.example", 1, Some([192, 0, 2, 2]))),
        answer(S + 4 * MS, 53, &dns(7, "a.example", 28, Some([192, 0, 2, 3]))),
        answer(S + 5 * MS, 53, &dns(7, "a.example", 1, Some([192, 0, 2, 1]))),
    ];
    let seen = rows(&frames, "dns", &DNS);
    assert_eq!(
        seen,
        [
            "a.example,[192.0.2.1],complete,false",
            "b.example,[192.0.2.2],complete,false",
            "a.example,[192.0.2.3],complete,false"
        ]
    );
}

/// A server that refuses may leave the question out.
#[test]
fn an_answer_without_a_question_belongs_to_its_id() {
    let refused = b"\0\x08\x81\x05\0\0\0\0\0\0\0\0";
    let frames = [
        question(S, 53, &dns(7, "a.example", 1, None)),
        question(S + MS, 53, &dns(8, "b.example", 1, None)),
        answer(S + 2 * MS, 53, refused),
        answer(S + 3 * MS, 53, &dns(7, "a.example", 1, Some([192, 0, 2, 1]))),
    ];
    let seen = rows(&frames, "dns", &["query", "rcode", "pairing"]);
    assert_eq!(seen, ["a.example,NOERROR,complete", "b.example,REFUSED,complete"]);
}

/// Groups are asked, and answered to, from many addresses.
#[test]
fn a_group_that_is_asked_fails_nobody() {
    let (one, other) = (([10, 0, 0, 1], 5353), ([10, 0, 0, 2], 5353));
    let frames = [
        datagram(S, one, GROUP, &dns(0, "printer.local", 1, None)),
        datagram(S + MS, other, GROUP, &dns(0, "printer.local", 1, Some([10, 0, 0, 2]))),
        datagram(S + 2 * MS, other, GROUP, &dns(0, "scanner.local", 1, None)),
        datagram(S + 3 * MS, ([10, 0, 0, 3], 40000), ([224, 0, 0, 252], 5355), &dns(5, "nas", 1, None)),
    ];
    let seen = rows(&frames, "dns", &["query", "pairing", "is_error"]);
    assert_eq!(
        seen,
        [
            "printer.local,request_only,",
            "printer.local,response_only,false",
            "scanner.local,request_only,",
            "nas,request_only,"
        ]
    );
}

/// Who sends an answer is the one that answers, though it asked before.
#[test]
fn who_answers_is_the_server_of_the_answer() {
    let owner = ([10, 0, 0, 2], 5353);
    let asks = datagram(S, owner, GROUP, &dns(0, "scanner.local", 1, None));
    let tells = datagram(S + MS, owner, GROUP, &dns(0, "printer.local", 1, Some([10, 0, 0, 2])));
    let columns = ["query", "src_ip", "dst_ip"];
    let both = rows(&[asks, tells.clone()], "dns", &columns);
    assert_eq!(both, ["scanner.local,10.0.0.2,224.0.0.251", "printer.local,224.0.0.251,10.0.0.2"]);
    assert_eq!(rows(&[tells], "dns", &columns), ["printer.local,224.0.0.251,10.0.0.2"]);
}

#[test]
fn what_a_search_list_makes_of_a_name_need_not_exist() {
    let missing = |id: u16, name: &str, kind: u16| {
        let mut bytes = dns(id, name, kind, None);
        (bytes[2], bytes[3]) = (0x81, 0x83);
        bytes
    };
    let names = [
        ("api.example.com.shop.svc.cluster.local", 1, "true,false"),
        ("cart.other.shop.svc.cluster.local", 1, "true,false"),
        ("cart.svc.cluster.local", 28, "true,false"),
        ("gone.shop.svc.cluster.local", 1, "false,true"),
        ("db-7.db.shop.svc.cluster.local", 1, "false,true"),
        ("api.example.com", 1, "false,true"),
        ("api.example.com", 28, "false,false"),
    ];
    let mut frames = Vec::new();
    for ((name, kind, _), at) in names.iter().zip(1..) {
        frames.push(question(at * S, 53, &dns(at as u16, name, *kind, None)));
        frames.push(answer(at * S + MS, 53, &missing(at as u16, name, *kind)));
    }
    let right: Vec<String> = names.iter().map(|(.., right)| format!("NXDOMAIN,{right}")).collect();
    assert_eq!(rows(&frames, "dns", &["rcode", "search_expansion", "is_error"]), right);
}
