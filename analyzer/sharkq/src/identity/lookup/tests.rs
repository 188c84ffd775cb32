//! Whose sockets are meant, by rows as recorders write them: each fault that names had, with others of its kind.

use shark_schema::table::Block;
use shark_schema::tables::processes::{self, ProcessBlock, ProcessRow};
use shark_schema::tables::sockets::{self, SocketBlock, SocketRow};

use super::super::rows::Rows;
use super::super::tables::batch;
use super::*;

const MS: i64 = 1_000_000;
const SECOND: i64 = 1_000 * MS;

/// Namespaces of two pods and of the node itself.
const ONE: i64 = 11;
const TWO: i64 = 12;

#[derive(Default)]
struct Told {
    sockets: SocketBlock,
    processes: ProcessBlock,
    count: u32,
}

/// A socket of a process, open from one second to another.
#[derive(Clone, Copy)]
struct Row<'a> {
    op: &'a str,
    proto: &'a str,
    local: (&'a str, u16),
    peer: Option<(&'a str, u16)>,
    pod: &'a str,
    pid: Option<i32>,
    netns: i64,
    open: (Option<i64>, Option<i64>),
    born: Option<i64>,
    proof: &'a str,
}

impl Default for Row<'_> {
    fn default() -> Self {
        Row {
            op: "connect",
            proto: "tcp",
            local: ("10.0.0.1", 40_000),
            peer: None,
            pod: "one",
            pid: Some(1),
            netns: ONE,
            open: (Some(0), None),
            born: None,
            proof: "call",
        }
    }
}

impl Told {
    fn socket(mut self, row: Row<'_>) -> Self {
        self.count += 1;
        self.sockets.append(&SocketRow {
            sock_id: Some(&format!("n-{}", self.count)),
            node: Some("n"),
            start_ts: row.open.0,
            end_ts: row.open.1,
            op: Some(row.op),
            pid: row.pid,
            comm: row.pid.map(|_| row.pod),
            pod_uid: Some(row.pod),
            proto: Some(row.proto),
            local_ip: Some(row.local.0),
            local_port: Some(row.local.1.into()),
            peer_ip: row.peer.map(|peer| peer.0),
            peer_port: row.peer.map(|peer| peer.1.into()),
            netns: Some(row.netns),
            proc_start_ts: row.born,
            pid_proof: row.pid.map(|_| row.proof),
            ..SocketRow::default()
        });
        self
    }

    fn process(mut self, pod: &str, netns: i64, (from, to): (i64, Option<i64>)) -> Self {
        self.count += 1;
        self.processes.append(&ProcessRow {
            proc_id: Some(&format!("p-{}", self.count)),
            node: Some("n"),
            start_ts: Some(from),
            exit_ts: to,
            comm: Some(pod),
            pod_uid: Some(pod),
            netns: Some(netns),
            ..ProcessRow::default()
        });
        self
    }

    fn all(self) -> Sockets {
        let sockets = Rows::unbounded(&sockets::TABLE, vec![batch(&sockets::TABLE, self.sockets)]);
        let processes = Rows::unbounded(&processes::TABLE, vec![batch(&processes::TABLE, self.processes)]);
        Sockets::new(&sockets, &processes, |_| 0)
    }
}

fn place((ip, port): (&str, u16)) -> Place {
    (ip.parse().expect("an address"), port)
}

fn end(protocol: u8, local: (&str, u16), peer: (&str, u16)) -> Endpoint {
    Endpoint { protocol, local: place(local), peer: place(peer) }
}

fn site(all: &Sockets) -> Site {
    Site { cluster: 0, node: all.node(Some("n")) }
}

/// Pod, and process where that is known.
fn who(all: &Sockets, end: &Endpoint, ts_ns: i64, claimed: Claimed<'_>) -> Option<(String, Option<String>)> {
    let found = all.behind(site(all), end, ts_ns, claimed)?;
    Some((found.owner.pod_uid?.to_owned(), found.owner.process.map(str::to_owned)))
}

fn pod(all: &Sockets, end: &Endpoint, ts_ns: i64) -> Option<String> {
    who(all, end, ts_ns, Claimed::default()).map(|(pod, _)| pod)
}

fn resident(all: &Sockets, ip: &str, ts_ns: i64, claimed: Claimed<'_>) -> Option<String> {
    let ip = ip.parse().expect("an address");
    all.resident(site(all), ip, ts_ns, claimed)?.pod_uid.map(str::to_owned)
}

const CLIENT: (&str, u16) = ("10.0.0.9", 50_000);

#[test]
fn the_connection_that_began_last_is_meant() {
    let mine = Row { op: "accept", local: ("10.0.0.1", 80), peer: Some(CLIENT), ..Row::default() };
    // The end of the first was never told.
    let all = Told::default()
        .socket(Row { open: (Some(SECOND), None), ..mine })
        .socket(Row { open: (Some(5 * SECOND), None), pod: "two", ..mine })
        .all();
    let end = end(6, ("10.0.0.1", 80), CLIENT);
    assert_eq!(pod(&all, &end, 2 * SECOND).as_deref(), Some("one"));
    assert_eq!(
        [5, 9].map(|second| pod(&all, &end, second * SECOND)),
        ["two", "two"].map(|pod| Some(pod.into()))
    );
    // In two namespaces both may be open.
    let all = Told::default()
        .socket(Row { open: (Some(SECOND), None), ..mine })
        .socket(Row { open: (Some(5 * SECOND), None), pod: "two", netns: TWO, ..mine })
        .all();
    assert_eq!([2, 6].map(|second| pod(&all, &end, second * SECOND)), [Some("one".into()), None]);
}

#[test]
fn an_address_that_moved_is_its_later_pods() {
    // An old connection of the first pod stays, its process is gone; the address is in another namespace since.
    let told = || {
        let old = Row { peer: Some(("10.0.0.8", 80)), open: (Some(SECOND), None), ..Row::default() };
        Told::default().process("one", ONE, (0, Some(10 * SECOND))).socket(old)
    };
    let all = told().all();
    let nobody = Claimed::default();
    assert_eq!(resident(&all, "10.0.0.1", 2 * SECOND, nobody).as_deref(), Some("one"));
    assert_eq!(resident(&all, "10.0.0.1", 11 * SECOND, nobody), None, "nobody lives there any more");
    // A second pod has it by the word of the cluster only.
    let heir = Claimed { pod_uid: Some("two"), is_known: true };
    assert_eq!(resident(&all, "10.0.0.1", 5 * SECOND, heir), None, "the later claim counts more");
    // And by its sockets.
    let all = told()
        .process("two", TWO, (12 * SECOND, None))
        .socket(Row {
            pod: "two",
            netns: TWO,
            open: (Some(13 * SECOND), Some(14 * SECOND)),
            ..Row::default()
        })
        .all();
    let at = |second: i64| resident(&all, "10.0.0.1", second * SECOND, nobody);
    assert_eq!(at(12), None, "between the two");
    assert_eq!(at(13).as_deref(), Some("two"));
    // Two pods swap addresses, and both live on.
    let all = Told::default()
        .process("one", ONE, (0, None))
        .process("two", TWO, (0, None))
        .socket(Row { open: (Some(SECOND), None), ..Row::default() })
        .socket(Row { pod: "two", netns: TWO, open: (Some(20 * SECOND), None), ..Row::default() })
        .all();
    let at = |second: i64| resident(&all, "10.0.0.1", second * SECOND, nobody);
    assert_eq!([at(1).as_deref(), at(10).as_deref(), at(21).as_deref()], [Some("one"), None, Some("two")]);
}

#[test]
fn a_namespace_number_that_is_used_again_is_of_who_lives_there_now() {
    let all = Told::default()
        .process("one", ONE, (0, Some(10 * SECOND)))
        .process("two", ONE, (20 * SECOND, None))
        .socket(Row { open: (Some(SECOND), Some(2 * SECOND)), ..Row::default() })
        .socket(Row { pod: "two", open: (Some(30 * SECOND), None), ..Row::default() })
        .all();
    let at = |second: i64| resident(&all, "10.0.0.1", second * SECOND, Claimed::default());
    assert_eq!([at(5).as_deref(), at(15).as_deref(), at(25).as_deref()], [Some("one"), None, Some("two")]);
}

#[test]
fn two_sockets_of_one_port_are_told_apart_by_time() {
    const NAMES: (&str, u16) = ("10.96.0.10", 53);
    let asks = Row { op: "bind", proto: "udp", local: ("0.0.0.0", 40_000), ..Row::default() };
    let at_home = Row { open: (Some(0), Some(90 * SECOND)), local: ("10.0.0.1", 9), ..Row::default() };
    let told = || {
        let home = Told::default().socket(at_home).socket(Row { open: (Some(90 * SECOND), None), ..at_home });
        home.socket(Row { open: (Some(SECOND), Some(SECOND + 300 * MS)), ..asks }).socket(Row {
            pod: "two",
            pid: Some(2),
            open: (Some(SECOND + 700 * MS), Some(3 * SECOND)),
            ..asks
        })
    };
    let all = told().all();
    let asking = end(17, ("10.0.0.1", 40_000), NAMES);
    let at = |ms: i64| pod(&all, &asking, SECOND + ms * MS);
    assert_eq!(
        [at(100).as_deref(), at(500).as_deref(), at(800).as_deref()],
        [Some("one"), None, Some("two")]
    );
    let found = all.behind(site(&all), &asking, SECOND, Claimed::default()).expect("a socket");
    let throughout =
        |to: i64| all.throughout(found, &asking, [SECOND, SECOND + to * MS]).map(|of| of.owner.pid);
    assert_eq!(throughout(200), Some(Some(Some(1)).flatten()));
    assert_eq!(throughout(800), None, "both asked in the course of it");
    // One after the other within moments: each had the port while its packet was sent.
    let at_once = |from: i64, to: i64| (Some(SECOND + from * MS / 10), Some(SECOND + to * MS / 10));
    let all = Told::default()
        .socket(at_home)
        .socket(Row { open: (Some(90 * SECOND), None), ..at_home })
        .socket(Row { open: at_once(0, 9), ..asks })
        .socket(Row { pod: "two", pid: Some(2), open: at_once(11, 20), ..asks })
        .all();
    let at = |tenths: i64| pod(&all, &asking, SECOND + tenths * MS / 10);
    assert_eq!([at(3).as_deref(), at(10).as_deref(), at(12).as_deref()], [Some("one"), None, Some("two")]);
    // The same process, on and on.
    let same = Row { open: (Some(SECOND + 400 * MS), Some(SECOND + 600 * MS)), ..asks };
    let all =
        Told::default().socket(at_home).socket(Row { open: (Some(SECOND), Some(SECOND + 300 * MS)), ..asks });
    let all = all.socket(Row { open: (Some(90 * SECOND), None), ..at_home }).socket(same).all();
    let found = all.behind(site(&all), &asking, SECOND, Claimed::default()).expect("a socket");
    let kept = all.throughout(found, &asking, [SECOND, 2 * SECOND]);
    assert_eq!(kept.and_then(|of| of.owner.pid), Some(1));
}

#[test]
fn one_port_on_two_addresses_is_of_two() {
    let listens = Row { op: "listen", open: (Some(0), None), ..Row::default() };
    let all = Told::default()
        .socket(Row { local: ("10.0.0.1", 8443), ..listens })
        .socket(Row { local: ("127.0.0.1", 8443), pod: "two", pid: Some(2), ..listens })
        .all();
    let found = |ip| all.behind(site(&all), &end(6, (ip, 8443), CLIENT), SECOND, Claimed::default());
    for (ip, pid) in [("10.0.0.1", 1), ("127.0.0.1", 2)] {
        let found = found(ip).expect("who listens");
        assert_eq!(found.owner.pid, Some(pid));
        assert!(found.socket.is_by_listener(), "that is weaker, and says so");
    }
}

#[test]
fn only_who_was_there_answered() {
    const SERVER: (&str, u16) = ("10.0.0.1", 80);
    let server =
        Row { local: SERVER, born: Some(3 * SECOND), open: (Some(4 * SECOND), None), ..Row::default() };
    let refused = end(6, SERVER, CLIENT);
    // It listens later, and is asked again from the same port.
    let later = Told::default().socket(Row { op: "listen", ..server }).socket(Row {
        op: "accept",
        peer: Some(CLIENT),
        open: (Some(5 * SECOND), None),
        ..server
    });
    let all = later.all();
    assert_eq!(pod(&all, &refused, 2 * SECOND), None);
    assert_eq!(pod(&all, &refused, 5 * SECOND).as_deref(), Some("one"));
    // A first segment that is sent again until there is room is answered by who listened all the time.
    let all = Told::default()
        .socket(Row { op: "listen", open: (Some(0), None), born: None, ..server })
        .socket(Row { op: "accept", peer: Some(CLIENT), open: (Some(5 * SECOND), None), ..server })
        .all();
    let accepted = all.behind(site(&all), &refused, 2 * SECOND, Claimed::default()).expect("a socket");
    assert_eq!(accepted.socket.op, Op::Accept);
    // Datagrams to a port that is bound later, and one that was found bound, by a process that began later.
    let datagrams = end(17, SERVER, CLIENT);
    for open in [(Some(4 * SECOND), None), (None, None)] {
        let all = Told::default().socket(Row { op: "bind", proto: "udp", open, ..server }).all();
        assert_eq!(pod(&all, &datagrams, 2 * SECOND), None);
        assert_eq!(pod(&all, &datagrams, 6 * SECOND).as_deref(), Some("one"));
    }
}

#[test]
fn who_accepted_just_this_peer_counts_more_than_who_listens() {
    let app = Row { op: "listen", local: ("0.0.0.0", 8080), open: (Some(0), None), ..Row::default() };
    let sidecar = Row { pid: Some(2), pod: "one", ..Row::default() };
    let home = Row { local: ("10.0.0.1", 9), open: (Some(0), None), ..Row::default() };
    let accepted = Row {
        op: "accept",
        local: ("10.0.0.1", 15_006),
        peer: Some(CLIENT),
        open: (Some(2 * SECOND), Some(3 * SECOND)),
        ..sidecar
    };
    let told =
        || Told::default().socket(app).socket(home).socket(Row { open: (Some(60 * SECOND), None), ..home });
    let all = told().socket(accepted).all();
    let pid = |all: &Sockets, second: i64| {
        let end = end(6, ("10.0.0.1", 8080), CLIENT);
        all.behind(site(all), &end, second * SECOND, Claimed::default())?.owner.pid
    };
    assert_eq!([pid(&all, 1), pid(&all, 2), pid(&all, 5)], [Some(1), Some(2), Some(1)]);
    // Where the application listens on its own address it is not otherwise.
    let all = told().socket(Row { local: ("10.0.0.1", 8080), ..app }).socket(accepted).all();
    assert_eq!(pid(&all, 2), Some(2));
    // What the peer dialled itself says nothing of what it dialled beside it.
    let direct =
        Row { local: CLIENT, peer: Some(("10.0.0.1", 15_006)), netns: TWO, pod: "two", ..Row::default() };
    let all = told().socket(accepted).socket(direct).all();
    assert_eq!(pid(&all, 2), Some(1));
}

#[test]
fn datagrams_without_a_connection_are_of_the_only_socket_of_the_port() {
    let serves =
        Row { op: "bind", proto: "udp", local: ("0.0.0.0", 53), open: (Some(0), None), ..Row::default() };
    let asked = end(17, ("10.0.0.1", 53), CLIENT);
    let claimed = Claimed { pod_uid: Some("one"), is_known: true };
    let of = |all: &Sockets, claimed| who(all, &asked, SECOND, claimed);
    // Nothing but the word of the cluster leads from the address to the pod.
    let other = Row { pod: "two", netns: TWO, pid: Some(2), ..serves };
    let all = Told::default().socket(serves).socket(other).all();
    assert_eq!(of(&all, claimed), Some(("one".into(), Some("one".into()))));
    assert_eq!(of(&all, Claimed::default()), None, "it may be anybody's");
    // Two of the pod share the port: which of them answers is not known.
    let all = Told::default().socket(serves).socket(Row { pid: Some(3), ..serves }).all();
    assert_eq!(of(&all, claimed), Some(("one".into(), None)));
    // A client that is gone when the port is another's.
    let asks = Row { local: ("0.0.0.0", 40_000), ..serves };
    let all = Told::default().socket(Row { open: (Some(0), Some(SECOND)), ..asks }).all();
    let asking = end(17, ("10.0.0.1", 40_000), ("10.96.0.10", 53));
    let at = |ms: i64| who(&all, &asking, ms * MS, claimed).map(|(pod, _)| pod);
    assert_eq!([at(500).as_deref(), at(1_500).as_deref()], [Some("one"), None]);
}
