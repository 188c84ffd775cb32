//! The post-mortem notebook, executed as a reader would over the bundled run of the shop. In: the data of its figures. Out:
//! nothing where all of it is what the shop's ledger tells; counts are compared exactly, times must lie between those of caller and callee.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::bundled;
use crate::captures;
use crate::desk::Desk;
use crate::programs::{built, printed, python_with, within};
use crate::same::assert_same;

mod told;

use told::{Call, Told, shop, word};

const NOTEBOOK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../notebooks/post-mortem.ipynb");

const FIGURES: [&str; 8] = ["coverage", "dns", "errors", "evidence", "latency", "map", "resets", "timeline"];

/// Prints the outputs of all cells, in the order of the page.
const SCRIPT: &str = "
import json, nbclient, nbformat, sys
notebook = nbformat.read(sys.argv[1], 4)
nbformat.validate(notebook)
nbclient.NotebookClient(notebook, timeout=240, kernel_name='python3').execute()
print(json.dumps([output for cell in notebook.cells for output in cell.get('outputs', [])]))
";

#[test]
fn figures_are_the_ledgers() {
    let Some(python) = python_with("nbclient, ipykernel") else { return };
    let desk = Desk::new();
    let snapshot = bundled::snapshot(&desk);
    let page = execute(&desk, &python, &snapshot, "figures");
    let told = Told::read();
    let figure = |name: &str| figure(&desk, "figures", name);
    timeline(&figure("timeline"), &told);
    map(&figure("map"), &told);
    errors(&figure("errors"), &told);
    latency(&figure("latency"), &told);
    dns(&figure("dns"), &told);
    resets(&figure("resets"), &told);
    coverage(&figure("coverage"), &told);
    evidence(&figure("evidence"), &snapshot);
    assert_eq!((page.matches("<svg ").count(), page.matches("INTACT: ").count()), (6, 1), "{page}");
    // The same snapshot gives the same page and the same data.
    assert_eq!(page, execute(&desk, &python, &snapshot, "again"));
    for name in FIGURES {
        let [first, second] =
            ["figures", "again"].map(|folder| fs::read(desk.at(folder).join(format!("{name}.json"))));
        assert_eq!(first.expect("a figure's data"), second.expect("a figure's data"), "{name}");
    }
}

#[test]
fn a_damaged_recording_is_not_called_intact() {
    let Some(python) = python_with("nbclient, ipykernel") else { return };
    let desk = Desk::new();
    let snapshot = bundled::snapshot(&desk);
    let segment = files(&snapshot).into_iter().find(|path| path.ends_with(".pcapng.zst")).expect("a segment");
    let mut bytes = fs::read(snapshot.join(&segment)).expect("the segment");
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0xff);
    fs::write(snapshot.join(&segment), bytes).expect("the segment");
    let page = execute(&desk, &python, &snapshot, "figures");
    let problems = &figure(&desk, "figures", "evidence")["verify"][0]["problems"];
    assert_eq!((&problems[0]["object"], &problems[0]["kind"]), (&segment.into(), &"altered".into()));
    assert!(
        !page.contains("INTACT") && page.contains("is damaged at byte") && page.matches("<svg ").count() == 6,
        "{page}"
    );
}

#[test]
fn it_is_committed_without_outputs() {
    let notebook: Value = serde_json::from_slice(&fs::read(NOTEBOOK).expect("it is there")).expect("JSON");
    let cells = notebook["cells"].as_array().expect("cells");
    let code: Vec<&Value> = cells.iter().filter(|cell| cell["cell_type"] == "code").collect();
    assert!(code.len() > FIGURES.len(), "{} cells", code.len());
    for cell in code {
        assert!(
            cell["outputs"] == Value::Array(vec![]) && cell["execution_count"].is_null(),
            "{}",
            cell["id"]
        );
    }
}

fn execute(desk: &Desk, python: &str, snapshot: &Path, figures: &str) -> String {
    let mut command = within(300, python);
    command.args(["-c", SCRIPT, NOTEBOOK]).current_dir(desk.folder());
    command.env("SHARK_SNAPSHOT", snapshot).env("SHARKQ", built("sharkq"));
    command.env("SHARKQ_IDENTITY", shop("identity.json")).env("SHARKQ_CACHE", desk.at("cache"));
    command.env("SHARK_NOTEBOOK_OUT", desk.at(figures));
    for place in ["JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"] {
        command.env(place, desk.at(place));
    }
    printed(&mut command)
}

fn figure(desk: &Desk, folder: &str, name: &str) -> Value {
    let text = fs::read(desk.at(folder).join(format!("{name}.json"))).expect("a figure's data");
    serde_json::from_slice(&text).expect("JSON")
}

/// How many of each, as lines that end in the number.
fn counted(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    lines.for_each(|line| *counts.entry(line).or_default() += 1);
    counts.into_iter().map(|(line, count)| format!("{line}: {count}")).collect()
}

/// The same lines from a figure's rows.
fn shown(rows: &Value, words: &[&str], count: &str) -> Vec<String> {
    let line = |row: &Value| {
        let words: Vec<String> = words.iter().map(|key| word(&row[key])).collect();
        format!("{}: {}", words.join(" "), row[count])
    };
    rows.as_array().expect("rows").iter().filter(|row| row[count] != 0).map(line).collect()
}

/// Up to each second, a pair of services has had at least as many calls as had reached the callees by their own word, and at
/// most as many as the callers had begun.
fn timeline(figure: &Value, told: &Told) {
    assert_eq!(figure["step_ns"], 1_000_000_000, "the run takes seconds");
    let buckets = figure["buckets"].as_array().expect("buckets");
    let pairs: BTreeSet<String> = told.calls.iter().map(Call::pair).collect();
    let pair =
        |row: &Value| format!("{} {} {}", word(&row["protocol"]), word(&row["src"]), word(&row["dst"]));
    assert_eq!(pairs, buckets.iter().map(&pair).collect());
    let seconds: BTreeSet<i64> =
        buckets.iter().map(|row| number(&row["bucket_ns"]) / 1_000_000_000).collect();
    assert!(seconds.len() >= 3 && pairs.len() >= 5, "{seconds:?} {pairs:?}");
    for (wanted, second) in pairs.iter().flat_map(|pair| seconds.iter().map(move |second| (pair, *second))) {
        let end_ns = (second + 1) * 1_000_000_000;
        let until = |of: fn(&Call) -> i64| {
            told.calls.iter().filter(|call| call.pair() == *wanted && of(call) < end_ns).count() as i64
        };
        let rows = buckets.iter().filter(|row| pair(row) == *wanted && number(&row["bucket_ns"]) < end_ns);
        let seen: i64 = rows.map(|row| number(&row["calls"])).sum();
        let (least, most) = (until(|call| call.server_ns[0]), until(|call| call.client_ns[0]));
        assert!((least..=most).contains(&seen), "{wanted} until {end_ns}: {seen}, told {least} to {most}");
    }
    let sum = |key: &str| buckets.iter().map(|row| number(&row[key]) as usize).sum::<usize>();
    let failed = told.calls.iter().filter(|call| call.error.is_some()).count();
    assert_eq!((sum("calls"), sum("errors")), (told.calls.len(), failed));
    let slow_ns = 500_000_000;
    let notable = told.calls.iter().filter_map(|call| match &call.error {
        Some(error) => Some(format!("{} {error}", call.protocol)),
        None => (call.client_lasted_ns() > slow_ns).then(|| "slow call".into()),
    });
    let firsts = shown(&figure["firsts"], &["event"], "times");
    assert!(firsts.len() >= 5, "{firsts:?}");
    assert_same("events", &counted(notable), &firsts);
    for first in figure["firsts"].as_array().expect("rows") {
        let is_proven = first["segment"].is_string() && number(&first["frame"]) > 0;
        let is_told = told.calls.iter().any(|call| {
            let begun = call.client_ns[0]..=call.server_ns[0];
            begun.contains(&number(&first["start_ns"]))
                && first["src"] == call.src
                && first["dst"] == call.dst
        });
        assert!(is_proven && is_told, "{first}");
    }
}

fn map(figure: &Value, told: &Told) {
    let pair = ["protocol", "src", "dst"];
    assert_same("calls", &counted(told.calls.iter().map(Call::pair)), &shown(figure, &pair, "calls"));
    let failed = told.calls.iter().filter(|call| call.error.is_some()).map(Call::pair);
    assert_same("failed calls", &counted(failed), &shown(figure, &pair, "errors"));
}

fn errors(figure: &Value, told: &Told) {
    let words = ["dst", "operation", "resource", "error_type"];
    let (endpoints, endpoint) = (&figure["endpoints"], &words[..3]);
    let calls = counted(told.http().map(|call| call.endpoint.clone()));
    assert_same("endpoints", &calls, &shown(endpoints, endpoint, "calls"));
    let failed = || told.http().filter(|call| call.error.is_some());
    assert!(failed().count() > 50, "the incident was not played");
    let errors = counted(failed().map(|call| call.endpoint.clone()));
    assert_same("failures", &errors, &shown(endpoints, endpoint, "errors"));
    let cause = |call: &Call| Some(format!("{} {}", call.endpoint, call.error.as_ref()?));
    assert_same(
        "causes",
        &counted(told.http().filter_map(cause)),
        &shown(&figure["causes"], &words, "errors"),
    );
}

/// A percentile by nearest rank is bounded by those of the bounds of each call. The callee's clock stops when its thread runs
/// again, some time after the response left: so much may a call have been shorter than it says.
fn latency(figure: &Value, told: &Told) {
    const LATE_NS: i64 = 5_000_000;
    let slow: Vec<&Call> = told.http().filter(|call| call.client_lasted_ns() > 500_000_000).collect();
    let first = slow.iter().min_by_key(|call| call.client_ns[0]).expect("the incident was played");
    let last = slow.iter().max_by_key(|call| call.client_ns[1]).expect("the incident was played");
    let shown_slow = &figure["slow"];
    assert_eq!(number(&shown_slow["calls"]), slow.len() as i64);
    assert!(
        (first.client_ns[0]..=first.server_ns[0]).contains(&number(&shown_slow["from_ns"])),
        "{shown_slow}"
    );
    let end = number(&shown_slow["to_ns"]);
    assert!((last.server_ns[1] - LATE_NS..=last.client_ns[1]).contains(&end), "{shown_slow}");
    let mut groups: BTreeMap<String, Vec<&Call>> = BTreeMap::new();
    for call in told.http().filter(|call| call.error.as_deref() != Some("reset")) {
        let phase = match call.client_ns[0] {
            at if at < first.client_ns[0] => "before",
            at if at <= last.client_ns[1] => "during",
            _ => "after",
        };
        groups.entry(format!("{} {phase}", call.endpoint)).or_default().push(call);
    }
    let words = ["dst", "operation", "resource", "phase"];
    let sizes = groups.iter().map(|(group, calls)| format!("{group}: {}", calls.len()));
    assert_same("phases", &sizes.collect::<Vec<_>>(), &shown(&figure["phases"], &words, "calls"));
    for row in figure["phases"].as_array().expect("rows") {
        let calls = &groups[&words.map(|key| word(&row[key])).join(" ")];
        let sorted = |lasted: fn(&Call) -> i64| {
            let mut all: Vec<i64> = calls.iter().map(|call| lasted(call)).collect();
            all.sort_unstable();
            all
        };
        let (most, least) =
            (sorted(Call::client_lasted_ns), sorted(|call| call.server_ns[1] - call.server_ns[0]));
        for (key, percent) in [("p50_ns", 50), ("p90_ns", 90), ("max_ns", 100)] {
            let at = (calls.len() * percent).div_ceil(100) - 1;
            let bounds = least[at] - LATE_NS..=most[at];
            assert!(bounds.contains(&number(&row[key])), "{key} not in {bounds:?}: {row}");
        }
    }
}

fn dns(figure: &Value, told: &Told) {
    let answer = |event: &Value| {
        let words = ["rcode", "transport"].map(|key| word(&event[key])).join(" ");
        format!("{} {words}", told.pod(&event["src_ip"]))
    };
    let words = ["pod", "answer", "transport"];
    assert_same(
        "answers",
        &counted(told.of("dns").map(answer)),
        &shown(&figure["answers"], &words, "queries"),
    );
    let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    told.of("dns").for_each(|event| {
        names.entry(answer(event)).or_default().insert(word(&event["query"]));
    });
    let names = names.iter().map(|(answer, names)| format!("{answer}: {}", names.len()));
    assert_same("names", &names.collect::<Vec<_>>(), &shown(&figure["answers"], &words, "names"));
    let absent = told.of("dns").filter(|event| event["rcode"] == "NXDOMAIN");
    let absent =
        counted(absent.map(|event| format!("{} {}", told.pod(&event["src_ip"]), word(&event["query"]))));
    assert!(absent.len() > 20, "the storm was not played: {absent:?}");
    assert_same("absent names", &absent, &shown(&figure["absent"], &["pod", "query"], "queries"));
}

fn resets(figure: &Value, told: &Told) {
    let states = [("reset", "RSTR"), ("refused", "REJ")];
    let lines = states.into_iter().flat_map(|(outcome, state)| {
        told.connections(Some(outcome)).into_iter().map(move |[src, _, dst, port]| {
            let [src, dst] = [src, dst].map(|ip| told.pod(&ip.into()));
            format!("{src} {dst} {port} {state}")
        })
    });
    let lines = counted(lines);
    assert_eq!(lines.len(), states.len(), "the incident was not played: {lines:?}");
    assert_same("resets", &lines, &shown(figure, &["src", "dst", "dst_port", "conn_state"], "connections"));
}

fn coverage(figure: &Value, told: &Told) {
    let packets = captures::read(&shop("shop.pcapng.zst")).len() as i64;
    let node = &figure["nodes"][0];
    assert_eq!([&node["captured"], &node["dropped"], &node["blind_seconds"]].map(number), [packets, 0, 0]);
    let interfaces = figure["interfaces"].as_array().expect("rows");
    let sum = |key: &str| interfaces.iter().map(|row| number(&row[key])).sum::<i64>();
    assert_eq!(["received", "captured", "dropped"].map(sum), [packets, packets, 0]);
    let pods = told.events.iter().filter(|event| event["event"] == "pod" && event["role"] != "external");
    let pods: Vec<String> = pods.map(|pod| format!("{} ok", word(&pod["iface"]))).collect();
    let seen = interfaces.iter().map(|row| format!("{} {}", word(&row["iface"]), word(&row["state"])));
    assert_same("interfaces", &pods, &seen.collect::<Vec<_>>());
    // Each at the address dialled and, where that is a service's, at the pod's behind it.
    let sights =
        told.connections(None).into_iter().map(|[.., dst, _]| 1 + usize::from(told.pods.contains_key(&dst)));
    let whole = format!("complete: {}", sights.sum::<usize>());
    assert_same("conversations", &[whole], &shown(&figure["conversations"], &["capture_state"], "flows"));
}

/// Held against the files of the snapshot, hashed here.
fn evidence(figure: &Value, snapshot: &Path) {
    let hash = |path: &str| {
        let digest = Sha256::digest(fs::read(snapshot.join(path)).expect("a file"));
        digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let files = files(snapshot);
    let segments = files.iter().filter(|path| path.ends_with(".pcapng.zst"));
    let segments: Vec<String> = segments.map(|path| format!("{path}: \"{}\"", hash(path))).collect();
    assert_same("segments", &segments, &shown(&figure["segments"], &["path"], "sha256"));
    assert_eq!(figure["snapshots"][0]["manifest_sha256"], hash("manifest.json"));
    let below: Vec<&String> = files.iter().filter(|path| *path != "manifest.json").collect();
    let bytes =
        below.iter().map(|path| fs::metadata(snapshot.join(path)).expect("a file").len()).sum::<u64>();
    let verdict = &figure["verify"][0];
    assert_eq!((number(&verdict["objects"]), number(&verdict["bytes"])), (below.len() as i64, bytes as i64));
    assert_eq!(verdict["problems"], Value::Array(vec![]));
}

/// Paths of all files, relative to the snapshot.
fn files(snapshot: &Path) -> Vec<String> {
    let found = printed(within(10, "find").arg(snapshot).args(["-type", "f", "-printf", "%P\\n"]));
    found.lines().map(str::to_owned).collect()
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("{value} is no number"))
}
