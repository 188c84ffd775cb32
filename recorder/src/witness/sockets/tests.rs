//! Whose sockets these are, by events as the kernel tells them: who accepted, what nobody told the end of, what was found.

use super::*;

const SECOND_NS: u64 = 1_000_000_000;
const NETNS: u32 = 7;

fn place(text: &str) -> (IpAddr, u16) {
    let (ip, port) = text.rsplit_once(':').unwrap();
    (ip.parse().unwrap(), port.parse().unwrap())
}

/// Of a process, or of whoever was interrupted.
fn event(kind: Kind, cookie: u64, pid: Option<u32>, local: &str, peer: &str, second: u64) -> Event {
    Event {
        kind,
        at_boottime_ns: second * SECOND_NS,
        cookie,
        cgroup_id: 1,
        netns: NETNS,
        pid,
        process_start_ns: 0,
        comm: format!("p{}", pid.unwrap_or(0)),
        protocol: TCP,
        state: if kind == Kind::Listening { TCP_LISTEN } else { 1 },
        local: place(local),
        peer: place(peer),
        error: 0,
        sent_bytes: 0,
        received_bytes: 0,
        retransmits: 0,
        srtt_us: 0,
    }
}

const NOBODY: &str = "0.0.0.0:0";
const PEER: &str = "10.0.0.9:5000";

fn hear(sockets: &mut Sockets, events: impl IntoIterator<Item = Event>) {
    events.into_iter().for_each(|event| sockets.hear(event, 0));
}

/// Pid and proof of an open socket.
fn owner(sockets: &Sockets, cookie: u64) -> Option<(u32, Proof)> {
    sockets.open[&cookie].owner.as_ref().map(|owner| (owner.pid, owner.proof))
}

#[test]
fn of_two_addresses_each_has_its_own_listener() {
    let mut sockets = Sockets::default();
    let listens = |cookie, pid, local| event(Kind::Listening, cookie, Some(pid), local, NOBODY, 1);
    let accepted = |cookie, local| event(Kind::Accepted, cookie, None, local, PEER, 2);
    hear(&mut sockets, [listens(1, 11, "10.0.0.1:8443"), listens(2, 12, "127.0.0.1:8443")]);
    hear(&mut sockets, [accepted(3, "10.0.0.1:8443"), accepted(4, "127.0.0.1:8443")]);
    assert_eq!(owner(&sockets, 3), Some((11, Proof::Listener)));
    assert_eq!(owner(&sockets, 4), Some((12, Proof::Listener)));
    // One of them, on an address that has none of its own, is of who listens on all.
    hear(
        &mut sockets,
        [listens(5, 13, "0.0.0.0:8443"), accepted(6, "10.0.0.2:8443"), accepted(7, "10.0.0.1:8443")],
    );
    assert_eq!(owner(&sockets, 6), Some((13, Proof::Listener)));
    assert_eq!(owner(&sockets, 7), Some((11, Proof::Listener)));
    // A socket of IPv6 may take what comes over IPv4, too.
    hear(&mut sockets, [listens(8, 14, "::1:80"), accepted(9, "10.0.0.2:80")]);
    assert_eq!(owner(&sockets, 9), None);
    hear(
        &mut sockets,
        [event(Kind::Listening, 10, Some(15), ":::80", NOBODY, 1), accepted(11, "10.0.0.2:80")],
    );
    assert_eq!(owner(&sockets, 11), Some((15, Proof::Listener)));
    // Closed, it listens no more.
    hear(
        &mut sockets,
        [event(Kind::Closed, 1, None, "10.0.0.1:8443", NOBODY, 3), accepted(12, "10.0.0.1:8443")],
    );
    assert_eq!(owner(&sockets, 12), Some((13, Proof::Listener)));
}

#[test]
fn of_several_that_may_accept_none_is_named_before_it_does() {
    let mut sockets = Sockets::default();
    let listens = |cookie, pid| event(Kind::Listening, cookie, Some(pid), "0.0.0.0:80", NOBODY, 1);
    let accepted = |cookie| event(Kind::Accepted, cookie, None, "10.0.0.1:80", PEER, 2);
    // SO_REUSEPORT: two processes listen on one port.
    hear(&mut sockets, [listens(1, 11), listens(2, 12), accepted(3)]);
    assert_eq!(owner(&sockets, 3), None);
    hear(&mut sockets, [event(Kind::Owned, 3, Some(12), "10.0.0.1:80", PEER, 2)]);
    assert_eq!(owner(&sockets, 3), Some((12, Proof::Call)));
    // One socket that two processes have: a service manager, and what it started.
    let mut sockets = Sockets::default();
    hear(&mut sockets, [listens(1, 11)]);
    let found = |pid| Event { kind: Kind::Open, state: TCP_LISTEN, ..listens(1, pid) };
    sockets.look_around(&[found(11), found(21)], 0, true, false);
    hear(&mut sockets, [accepted(4)]);
    assert_eq!(owner(&sockets, 4), None);
    assert_eq!(owner(&sockets, 1), Some((11, Proof::Call)), "who began to listen is known");
    // What several have in their files says of none of them that it uses it.
    let shared = |pid| event(Kind::Open, 5, Some(pid), "10.0.0.1:80", PEER, 3);
    sockets.look_around(&[found(11), shared(11), shared(12)], 0, true, false);
    assert_eq!(owner(&sockets, 5), None);
}

#[test]
fn who_reads_what_was_reset_had_accepted_it() {
    let mut sockets = Sockets::default();
    let at = |kind, pid| event(kind, 3, pid, "10.0.0.1:80", PEER, 2);
    hear(&mut sockets, [at(Kind::Accepted, None), at(Kind::Closed, None), at(Kind::Owned, Some(12))]);
    let [socket] = &sockets.closed[..] else { panic!("one, which is closed") };
    assert_eq!(socket.owner.as_ref().map(|owner| owner.pid), Some(12));
    assert!(sockets.open.is_empty());
}

#[test]
fn what_was_not_there_when_we_came_says_when_it_was_found() {
    let mut sockets = Sockets::default();
    let open = |cookie| event(Kind::Open, cookie, Some(11), "10.0.0.1:80", PEER, 0);
    sockets.look_around(&[open(1)], 100, true, false);
    sockets.look_around(&[open(1), open(2)], 200, true, false);
    hear(&mut sockets, [event(Kind::Connected, 3, None, "10.0.0.1:81", PEER, 3)]);
    let times = |cookie| (sockets.open[&cookie].start_ns, sockets.open[&cookie].found_ns);
    assert_eq!([1, 2].map(times), [(None, None), (None, Some(200))]);
    assert_eq!(times(3), (Some(3 * SECOND_NS as i64), None));
}

#[test]
fn what_may_have_ended_untold_is_known_no_longer_than_it_was_seen() {
    let mut sockets = Sockets::default();
    let open = |cookie| event(Kind::Open, cookie, Some(11), "10.0.0.1:80", PEER, 0);
    let closing = event(Kind::Closing, 3, Some(11), "10.0.0.1:80", PEER, 0);
    sockets.look_around(&[open(1), open(2), open(3)], 100, true, false);
    hear(&mut sockets, [closing]);
    // Nothing was lost: one that is in nobody's files may live on.
    for now in [200, 300] {
        sockets.look_around(&[open(1)], now, true, false);
    }
    assert_eq!(sockets.open.len(), 3);
    // Something was: the second may have closed without a word. The third was given up, and lives on.
    sockets.look_around(&[open(1)], 400, true, true);
    let ended: Vec<_> = sockets.closed.iter().map(|socket| (socket.cookie, socket.end_ns)).collect();
    assert_eq!(ended, [(Some(2), Some(100))]);
    assert!(sockets.open.contains_key(&1) && sockets.open.contains_key(&3));
}
