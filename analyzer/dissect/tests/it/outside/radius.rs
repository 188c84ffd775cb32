//! FreeRADIUS and radclient, as tshark reads them.

use super::{cells, is_installed, tshark};
use crate::recording::captures;

#[test]
fn tshark_reads_the_same_radius() {
    if !is_installed() {
        return;
    }
    for capture in captures("radius") {
        let asked = ["code_num", "identifier", "username", "calling_station", "authenticator"];
        let fields = [
            "radius.code",
            "radius.id",
            "radius.User_Name",
            "radius.Calling_Station_Id",
            "radius.authenticator",
        ];
        let requests = "radius.code in {1, 4, 12}";
        assert_eq!(cells(&capture, "radius", &asked), tshark(&capture, requests, &fields));
        let answered = cells(&capture, "radius", &["identifier", "reply_msg"]);
        assert_eq!(
            answered,
            tshark(&capture, "radius.code in {2, 3, 5}", &["radius.id", "radius.Reply_Message"])
        );
    }
}
