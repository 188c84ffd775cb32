//! slapd and its clients, as tshark reads them.

use super::{cells, is_installed, tshark};
use crate::recording::captures;

#[test]
fn tshark_reads_the_same_ldap() {
    if !is_installed() {
        return;
    }
    for capture in captures("ldap") {
        let ids = tshark(&capture, "ldap && tcp.dstport == 389 && ldap.messageID", &["ldap.messageID"]);
        assert_eq!(cells(&capture, "ldap", &["message_id"]), ids);
        let results = tshark(&capture, "ldap.resultCode", &["ldap.resultCode"]);
        let ours: Vec<String> =
            cells(&capture, "ldap", &["result_code"]).into_iter().filter(|code| !code.is_empty()).collect();
        assert_eq!(ours, results);
        let ops = tshark(&capture, "ldap.protocolOp == 4", &["ldap.protocolOp"]);
        let entries = ops.iter().filter(|op| *op == "4").count() as i64;
        let ours = cells(&capture, "ldap", &["entries"]);
        assert_eq!(ours.iter().filter_map(|count| count.parse::<i64>().ok()).sum::<i64>(), entries);
    }
}
