//! N6: a pod is asked to end and goes on for a while, and its heir has its address before anybody tells
//! that the pod is gone. Neither has a socket: who they are is known by their address alone, as of pods of
//! another node.

use std::path::Path;

use serde_json::Value;
use shark_schema::identity::Fact;

use super::{Ledger, SOME, fact, ip, now_ns, wait};
use crate::names_agents::{Agent, text};
use crate::names_verdicts::SECOND_NS;

/// The last octet of the address that both have, one after the other.
const OCTET: u8 = 30;
/// How long the pod is given to end.
const GRACE_NS: i64 = 8 * SECOND_NS;

impl Ledger<'_> {
    pub(super) fn terminating(&mut self, a: &mut Agent) {
        self.pod("dying", OCTET, &["app"]);
        let mut dying = self.agent("dying", "dying", "app", OCTET);
        self.meets(a, &mut dying, "N6");
        let asked_ns = now_ns();
        self.retell("dying", |pod| {
            pod.deletion_ns = Some(asked_ns + GRACE_NS);
            pod.grace_ns = Some(GRACE_NS);
        });
        self.meets(a, &mut dying, "N6-asked");
        self.accept_heir();
        self.meets(a, &mut dying, "N6-dying");
        drop(dying);
        self.net.script(&["gone", "dying"]);
        self.net.script(&["pod", "heiress", &OCTET.to_string()]);
        let mut heir = self.agent("heiress", "heiress", "app", OCTET);
        self.meets(a, &mut heir, "N6-heir");
        self.retell("heiress", |pod| pod.ips = vec![ip(OCTET)]);
        self.meets(a, &mut heir, "N6-heir");
        self.retell("dying", |pod| pod.deleted = true);
        self.meets(a, &mut heir, "N6-heir");
        // The pod may have had its address for as long as it was given.
        let left_ns = (asked_ns + GRACE_NS - now_ns()).max(0);
        wait(left_ns as u64 / 1_000_000 + 500);
        self.meets(a, &mut heir, "N6");
    }

    /// The kubelet has accepted the heir, which has no address yet.
    fn accept_heir(&mut self) {
        self.tell("heiress", None, &["app"]);
        let told = self.pods.last_mut().expect("it was just told");
        told.pod.host_network = false;
        told.pod.started_ns = Some(now_ns());
        told.records = vec![fact(now_ns(), Fact::Pod(told.pod.clone()))];
    }

    /// Connections and packets between the client and a pod that has no socket.
    fn meets(&mut self, a: &mut Agent, other: &mut Agent, case: &str) {
        let to = other.pod.clone();
        self.flows(a, &format!("refused {case} {} 7000 {SOME}", ip(OCTET)), (&to, None));
        self.flows(a, &format!("asks {case} {} 7001 1 0 connected", ip(OCTET)), (&to, None));
        // No two of them share a port: one flow has one name.
        let source = 20_000 + self.flows.len() % 40_000;
        self.flows(other, &format!("frames {case} {} 9 {SOME} {source}", ip(2)), ("client", None));
    }

    /// While the address may have been of two pods it is of neither, and a row says so.
    pub(super) fn conflicts(&self, ring: &Path) {
        let sql = format!(
            "SELECT CAST(valid_from AS BIGINT) AS f, CAST(valid_to AS BIGINT) AS t, array_to_string(array_sort(claims), ' ') \
             AS claims FROM identity_conflicts WHERE ip = '{}'",
            ip(OCTET)
        );
        let rows = self.desk.rows(ring, &sql);
        for flow in &self.flows {
            let is_in =
                |row: &&Value| row["f"].as_i64() <= Some(flow.ns) && row["t"].as_i64() > Some(flow.ns);
            let claims = rows.iter().find(is_in).map(|row| text(row, "claims"));
            match flow.case.as_str() {
                "N6-dying" | "N6-heir" => {
                    assert_eq!(claims, Some("shop/dying shop/heiress"), "{flow:?} {rows:#?}");
                }
                "N6" | "N6-asked" => assert_eq!(claims, None, "{flow:?} {rows:#?}"),
                _ => {}
            }
        }
    }
}
