//! A client and a server of the real world in two namespaces on one wire, recorded live at the server's end.
//! In: their shell commands, which find $BIN and $DESK. Out: a ring and a snapshot. Nothing of it runs on afterwards.

use std::path::PathBuf;

use crate::desk::Desk;
use crate::programs::{READY, built, finished, folder, within};

pub struct Pair<'a> {
    pub server: &'a str,
    pub client: &'a str,
    /// The client starts when something listens here.
    pub port: Option<u16>,
    /// Of the recorder.
    pub options: &'a str,
}

impl Pair<'_> {
    /// Runs both while `sharkrec` records; gives the snapshot.
    pub fn record(&self, desk: &Desk) -> PathBuf {
        built("sharkrec");
        let record = format!(
            "\"$BIN/sharkrec\" record --ring \"$DESK/ring\" --ring-size 1GiB --iface $SHOP_IFACES {}",
            self.options
        );
        let then = "\"$BIN/sharkrec\" snapshot --since 10m --ring \"$DESK/ring\" --to \"$DESK/snapshots\" >\"$DESK/url\"";
        let mut pair = within(120, built("shark-shop"));
        pair.arg("pair").args(self.port.map(|port| format!("--port={port}")));
        pair.args(["--server", self.server, "--client", self.client])
            .args(["--record", &record, "--ready", READY, "--then", then])
            .env("BIN", folder())
            .env("DESK", desk.folder())
            .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
        finished(&mut pair);
        let url = std::fs::read_to_string(desk.at("url")).expect("the snapshot's address");
        PathBuf::from(url.trim().trim_start_matches("file://"))
    }
}
