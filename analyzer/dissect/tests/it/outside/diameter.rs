//! freeDiameter and a client, as tshark reads them.

use super::{cells, is_installed, tshark};
use crate::recording::captures;

#[test]
fn tshark_reads_the_same_diameter() {
    if !is_installed() {
        return;
    }
    for capture in captures("diameter") {
        let asked = ["command_code", "app_id", "session_id", "origin_host", "dest_realm"];
        let fields = [
            "diameter.cmd.code",
            "diameter.applicationId",
            "diameter.Session-Id",
            "diameter.Origin-Host",
            "diameter.Destination-Realm",
        ];
        assert_eq!(
            cells(&capture, "diameter", &asked),
            tshark(&capture, "diameter.flags.request == 1", &fields)
        );
        let answered = ["command_code", "result_code", "answering_host"];
        let fields = ["diameter.cmd.code", "diameter.Result-Code", "diameter.Origin-Host"];
        assert_eq!(
            cells(&capture, "diameter", &answered),
            tshark(&capture, "diameter.flags.request == 0", &fields)
        );
    }
}
