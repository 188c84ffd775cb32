//! The log: facts beside the packets, one JSON object a line, a version line first.
//! In: what a recorder or a witness saw, with the time it saw it. Out: lines, and facts read back from lines.
//! Facts are never changed or merged here; joining them with packets is the analyzer's work.

pub mod arrows;
mod kube;

pub use kube::{
    Container, Endpoint, EndpointSlice, Event, Namespace, NetworkPolicy, NodeObject, ObjectRef, Pod, Port,
    Service,
};

use serde::{Deserialize, Serialize};

use crate::segment::Counters;

/// Version of the log files; a reader accepts every version up to its own.
pub const LOG_VERSION: u32 = 1;

/// Folder of the log in a ring, in a node's part of a snapshot, and in the cluster's.
pub const LOG_FOLDER: &str = "log";

/// First line of every log file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHeader {
    /// Always "sharkrec".
    pub log: String,
    pub format: u32,
    pub node: String,
    pub cluster: String,
    pub writer: String,
    pub started_ns: i64,
}

/// One line of a log file: when it was seen, and what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub ts_ns: i64,
    /// Of a change that nobody watched: it happened after this time, and at `ts_ns` at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_ns: Option<i64>,
    #[serde(flatten)]
    pub fact: Fact,
}

/// Everything a log can say. A reader passes over facts it does not know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    Start(Start),
    Stop(Stop),
    Progress(Progress),
    Stalled(Stalled),
    Interface(InterfaceFact),
    Evicted(Evicted),
    Clock(Clock),
    Counters(CountersFact),
    Feature(Feature),
    Disk(Disk),
    Recovered(Recovered),
    EventsLost(EventsLost),
    LogRemoved(LogRemoved),
    Pod(Pod),
    Service(Service),
    EndpointSlice(EndpointSlice),
    Node(NodeObject),
    Namespace(Namespace),
    NetworkPolicy(NetworkPolicy),
    Event(Event),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    pub recorder_version: String,
    pub kernel: String,
    pub config_sha256: String,
    pub pid: u32,
    pub boot_id: Option<String>,
    pub ring_bytes: u64,
    pub filter: Option<String>,
    pub snaplen: u32,
    /// The capture file that is replayed: its packets are of another time than this log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<String>,
    /// By worker, the highest number of a segment of the recorders before. Logs of earlier versions do not have it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<(u16, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    pub reason: String,
    pub totals: Counters,
    /// Everything that reached the sockets until then is written or counted as lost. Logs of earlier versions do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_until_ns: Option<i64>,
}

/// How far a worker has come: everything that reached its sockets until then is in a file or counted as lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub worker: u16,
    pub recorded_until_ns: i64,
    /// The number of its newest segment.
    pub seq: u64,
}

/// A thread of the recorder stopped making progress, or makes progress again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stalled {
    /// "capture-0", "writer-1", "keeper", "devices".
    pub thread: String,
    /// When it was last seen to make progress.
    pub since_ns: i64,
    /// It makes progress again.
    pub over: bool,
    /// For people.
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceFact {
    pub name: String,
    pub ifindex: Option<u32>,
    pub state: Targeting,
    /// Why, in words: "named by --iface", "went down", "not named".
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Targeting {
    Targeted,
    NotTargeted,
}

/// A segment was removed to keep the ring within its budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evicted {
    pub segment: String,
    pub worker: u16,
    pub seq: u64,
    pub packets: u64,
    pub bytes_stored: u64,
    pub min_ns: Option<i64>,
    pub max_ns: Option<i64>,
    pub interfaces: Vec<String>,
    /// Hash of its sidecar: the chain can be checked across the hole.
    pub sidecar_sha256: Option<String>,
    pub why: String,
}

/// The offset between the clock of the packets and the clock that never steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// CLOCK_REALTIME minus CLOCK_BOOTTIME.
    pub realtime_minus_boottime_ns: i64,
    /// Change since the last reading, where it was more than slewing explains.
    pub step_ns: Option<i64>,
    /// Half the width of the reading: the offset is known to plus or minus this.
    pub uncertainty_ns: i64,
}

/// Counters of one interface of one worker, differences since the fact before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountersFact {
    pub interface: String,
    pub worker: u16,
    /// Start of the 10 s of UTC they belong to.
    pub bucket_ns: i64,
    #[serde(flatten)]
    pub counters: Counters,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feature {
    pub name: String,
    pub on: bool,
    /// Of one that is off, where programs tell such apart; logs of earlier versions do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<OffCause>,
    /// For people.
    pub why: String,
}

/// Why a feature is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OffCause {
    /// Nobody asked for it.
    NotTargeted,
    /// The kernel does not permit it, or does not have it.
    Refused,
    /// Plaintext of programs that run this file cannot be read.
    Unreadable,
    /// No process runs this file any more.
    Unused,
    /// The part of the recorder that does it ended before it should have.
    Failed,
    /// One that a later version knows.
    #[serde(other)]
    Unknown,
}

/// The disk refused, or takes again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    pub writing: bool,
    pub why: String,
}

/// What an earlier recorder left behind was made whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    pub segment: String,
    pub packets: u64,
    /// Bytes behind the last whole packet, which were given up.
    pub torn_bytes: u64,
    /// The name under which the file is kept, since nothing in it can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aside: Option<String>,
}

/// Events that nobody saw. Of sockets and processes: rows may be missing, or lack an end. Of tls: plaintext is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsLost {
    /// "sockets", "processes" or "tls".
    pub feature: String,
    /// Since the fact before.
    pub events: u64,
    /// Logs of earlier versions do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<LossCause>,
    /// Whose they are, where that is known: its number and its name, such as `4711 (node)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// For people.
    pub why: String,
}

/// Why events were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossCause {
    /// The ring of the kernel's events was full. Of tls, the counters of its segments have these, too.
    RingFull,
    /// There are more than fit into memory.
    TooMany,
    /// Of tls: a call had more bytes than are copied.
    Cut,
    /// Of tls: no socket was used by the call or before it, so it is of no known connection.
    Unplaced,
    /// Of tls: a process ran a library before it was watched. Events are processes then, since their calls are not known.
    Late,
    /// The kernel did not run a BPF program, since it was running on that CPU already.
    Skipped,
    /// One that a later version knows.
    #[serde(other)]
    Unknown,
}

/// A log file was removed though there are packets of its time: they lack what it told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRemoved {
    /// "sockets" or "processes".
    pub series: String,
    pub bytes: u64,
    /// The time that no other file tells of.
    pub from_ns: i64,
    pub to_ns: i64,
    pub why: String,
}

/// One line with its newline.
pub fn to_line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("facts are structs of strings and numbers");
    line.push(b'\n');
    line
}

/// Reads the first line of a log file.
pub fn read_header(line: &str) -> Result<LogHeader, LogError> {
    let header: LogHeader =
        serde_json::from_str(line).map_err(|e| LogError::Line { line: 1, why: e.to_string() })?;
    match header.format {
        1..=LOG_VERSION if header.log == "sharkrec" => Ok(header),
        _ if header.log != "sharkrec" => Err(LogError::Stranger),
        newer => Err(LogError::Newer(newer)),
    }
}

/// Reads one line after the first; `Ok(None)` is a fact that only a later version knows.
pub fn read_line(number: u64, line: &str) -> Result<Option<Record>, LogError> {
    if let Ok(record) = serde_json::from_str(line) {
        return Ok(Some(record));
    }
    #[derive(Deserialize)]
    struct Tag {
        fact: String,
    }
    let bad = |e: serde_json::Error| LogError::Line { line: number, why: e.to_string() };
    let tag: Tag = serde_json::from_str(line).map_err(bad)?;
    match KNOWN.contains(&tag.fact.as_str()) {
        true => Err(bad(serde_json::from_str::<Record>(line).expect_err("it failed above"))),
        false => Ok(None),
    }
}

const KNOWN: [&str; 20] = [
    "start",
    "stop",
    "progress",
    "stalled",
    "interface",
    "evicted",
    "clock",
    "counters",
    "feature",
    "disk",
    "recovered",
    "events_lost",
    "log_removed",
    "pod",
    "service",
    "endpoint_slice",
    "node",
    "namespace",
    "network_policy",
    "event",
];

/// Why a log could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    #[error("line {line} is not a fact: {why}")]
    Line { line: u64, why: String },
    #[error("the first line does not say that this is a log of sharkrec")]
    Stranger,
    #[error("log has format {0}, this program reads up to {LOG_VERSION}; use a newer one")]
    Newer(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_survive_a_round_trip() {
        let counters = Counters { offered: 7, written: 5, user_dropped: 2, ..Default::default() };
        let fact = CountersFact { interface: "eth0".into(), worker: 1, bucket_ns: 10, counters };
        let record = Record { ts_ns: 17, after_ns: None, fact: Fact::Counters(fact) };
        let line = String::from_utf8(to_line(&record)).unwrap();
        assert!(line.starts_with(r#"{"ts_ns":17,"fact":"counters","interface":"eth0""#), "{line}");
        assert_eq!(read_line(2, &line).unwrap(), Some(record));
    }

    #[test]
    fn the_future_is_passed_over_and_damage_is_not() {
        assert_eq!(read_line(2, r#"{"ts_ns":1,"fact":"telepathy","x":1}"#), Ok(None));
        assert!(matches!(read_line(9, r#"{"ts_ns":1,"fact":"stop"}"#), Err(LogError::Line { line: 9, .. })));
        assert!(matches!(read_line(3, "{"), Err(LogError::Line { line: 3, .. })));
        let header = r#"{"log":"sharkrec","format":99,"node":"n","cluster":"","writer":"w","started_ns":1}"#;
        assert_eq!(read_header(header), Err(LogError::Newer(99)));
    }

    #[test]
    fn facts_of_other_versions_are_read() {
        let fact = |line: &str| read_line(2, line).unwrap().unwrap().fact;
        let earlier = r#"{"ts_ns":1,"fact":"events_lost","feature":"tls","events":7,"why":"w"}"#;
        let lost =
            EventsLost { feature: "tls".into(), events: 7, cause: None, process: None, why: "w".into() };
        assert_eq!(fact(earlier), Fact::EventsLost(lost.clone()));
        let now = Record { ts_ns: 1, after_ns: None, fact: Fact::EventsLost(lost) };
        assert_eq!(String::from_utf8(to_line(&now)).unwrap().trim_end(), earlier);
        let later =
            r#"{"ts_ns":1,"fact":"feature","name":"n","on":false,"cause":"eclipse","until":3,"why":""}"#;
        let Fact::Feature(feature) = fact(later) else { panic!("a feature") };
        assert_eq!(feature.cause, Some(OffCause::Unknown));
        let full = later.replace("eclipse", "not_targeted");
        let Fact::Feature(feature) = fact(&full) else { panic!("a feature") };
        assert_eq!(feature.cause, Some(OffCause::NotTargeted));
    }

    #[test]
    fn every_fact_is_known() {
        // Serialising the one variant whose name matters most here keeps the list and the enum together.
        let feature = Fact::Feature(Feature { name: "x".into(), on: true, cause: None, why: String::new() });
        let text = serde_json::to_value(&feature).unwrap();
        assert!(KNOWN.contains(&text["fact"].as_str().unwrap()));
    }
}
