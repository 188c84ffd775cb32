//! Handshakes of nginx with curl and OpenSSL, as tshark reads them and as the clients were told to make them.

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int32Type;

use super::{is_installed, sorted, tshark};
use crate::recording::{analysed, captures, read};

#[test]
fn tshark_reads_the_same_tls() {
    if !is_installed() {
        return;
    }
    for capture in captures("tls") {
        let rows = analysed(&read(&capture)).remove("tls").expect("the table");
        let text = |name: &'static str| {
            sorted(&rows, move |batch, row| {
                let cells = batch[name].as_string::<i32>();
                if cells.is_valid(row) { cells.value(row).to_owned() } else { String::new() }
            })
        };
        // A ClientHello that a HelloRetryRequest asked for is the second of its conversation.
        let hello = "tls.handshake.type == 1 && tcp.seq == 1";
        let of = |field| tshark(&capture, hello, &[field]);
        assert_eq!(text("ja3"), of("tls.handshake.ja3"));
        assert_eq!(text("sni"), of("tls.handshake.extensions_server_name"));
        let agreed = tshark(
            &capture,
            "tls.handshake.type == 2 && !(tls.record.content_type == 22 && frame.len < 190)",
            &["tls.handshake.ciphersuite"],
        );
        let agreed: Vec<i64> =
            agreed.iter().map(|cell| i64::from_str_radix(&cell[2..], 16).expect("a number")).collect();
        let ours = sorted(&rows, |batch, row| {
            let cells = batch["cipher_num"].as_primitive::<Int32Type>();
            if cells.is_valid(row) { format!("{:05}", cells.value(row)) } else { String::new() }
        });
        let ours: Vec<i64> = ours.iter().filter_map(|cell| cell.parse().ok()).collect();
        assert_eq!(ours, agreed);
        let alerts: Vec<String> = text("alert").into_iter().filter(|name| !name.is_empty()).collect();
        assert_eq!(alerts, ["handshake_failure", "unknown_ca", "unknown_ca"]);
        assert_eq!(
            tshark(&capture, "tls.alert_message.level == 2", &["tls.alert_message.desc"]),
            ["40", "48", "48"]
        );
    }
}
