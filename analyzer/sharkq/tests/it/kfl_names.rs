//! What the list of KFL shows is what KFL filters by: each name in it, with and without its namespace,
//! selects the entries that are shown with it, and no others. And who chooses by names or labels that
//! nobody recorded is told so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use arrow::array::AsArray;
use shark_schema::identity::{Fact, Feature, OffCause};
use sharkq::kfl;
use sharkq::session::Session;

use crate::bundled;
use crate::desk::Desk;
use crate::identity_facts as facts;
use crate::programs::{FIXTURES, printed};

fn shop() -> String {
    format!("{FIXTURES}/shop/shop.pcapng.zst")
}

fn identity() -> String {
    format!("{FIXTURES}/shop/identity.json")
}

/// An index of the shop, asked in this process.
struct Listed {
    _desk: Desk,
    runtime: tokio::runtime::Runtime,
    session: Session,
}

impl Listed {
    fn new(more: &[&str]) -> Listed {
        let desk = Desk::new();
        printed(desk.sharkq().args(["index", &shop(), "-o", "index"]).args(more));
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let index = desk.at("index");
        let session = Session::open(&index, 2, Default::default()).expect("it opens");
        Listed { _desk: desk, runtime, session }
    }

    /// How often each pair of source and destination stands in the list, the destination without its port.
    fn pairs(&self, text: &str) -> BTreeMap<[String; 2], usize> {
        let program = kfl::compile(text, 0).unwrap_or_else(|error| panic!("{error}"));
        let columns = [("src", kfl::fields::SHOWN[0]), ("dst", kfl::fields::SHOWN[1])];
        let answer =
            self.runtime.block_on(self.session.entries(&program, &columns, None)).expect("an answer");
        let mut pairs = BTreeMap::new();
        for batch in answer.batches {
            let [src, dst] = [0, 1].map(|column| batch.column(column).as_string::<i32>().clone());
            for (src, dst) in src.iter().zip(&dst) {
                let dst = dst.and_then(|dst| dst.rsplit_once(':')).expect("a port").0;
                *pairs.entry([src.expect("a name").to_owned(), dst.to_owned()]).or_default() += 1;
            }
        }
        pairs
    }
}

#[test]
fn each_name_that_is_listed_selects_what_is_listed_with_it() {
    for more in [&["--identity", &identity()][..], &[]] {
        let listed = Listed::new(more);
        let all = listed.pairs("");
        assert!(all.len() > 5, "{all:?}");
        assert_eq!(all.keys().flatten().any(|name| name.contains('/')), !more.is_empty(), "{all:?}");
        for (at, end) in ["src", "dst"].into_iter().enumerate() {
            let names: BTreeSet<&str> = all.keys().map(|pair| pair[at].as_str()).collect();
            for (number, name) in names.into_iter().enumerate() {
                let with = |is_meant: &dyn Fn(&str) -> bool| -> BTreeMap<[String; 2], usize> {
                    all.clone().into_iter().filter(|(pair, _)| is_meant(&pair[at])).collect()
                };
                let text = format!("{end}.name == \"{name}\"");
                assert_eq!(listed.pairs(&text), with(&|known| known == name), "{text}");
                // A question takes a second in a build without optimisation.
                if number > 0 {
                    continue;
                }
                let text = format!("{end}.name != \"{name}\"");
                assert_eq!(listed.pairs(&text), with(&|known| known != name), "{text}");
                let text = format!("{end}.name.startsWith(\"{name}\")");
                assert_eq!(listed.pairs(&text), with(&|known| known.starts_with(name)), "{text}");
                let plain = name.rsplit('/').next().expect("a name");
                let text = format!("{end}.name in [\"{plain}\", \"nobody\"]");
                let is_meant = |known: &str| known.rsplit('/').next() == Some(plain);
                assert_eq!(listed.pairs(&text), with(&is_meant), "{text}");
            }
        }
    }
}

/// The list itself is what the test above takes it for.
#[test]
fn the_list_shows_names_with_their_namespace() {
    let desk = Desk::new();
    let identity = identity();
    let words = [
        "kfl",
        &shop(),
        "http && dst.name == \"shop/payment\"",
        "--format",
        "markdown",
        "-q",
        "--identity",
        &identity,
    ];
    let table = printed(desk.sharkq().args(words));
    assert!(table.lines().count() > 3, "{table}");
    assert!(table.lines().skip(2).all(|line| line.contains(" | shop/payment:")), "{table}");
}

#[test]
fn a_name_with_its_port_is_explained() {
    let desk = Desk::new();
    for text in ["dst.name == \"shop/payment:8080\"", "dst.name in [\"shop/payment:8080\"]"] {
        let output = desk.sharkq().args(["kfl", &shop(), text, "-q"]).output().expect("it starts");
        let error = String::from_utf8(output.stderr).expect("text");
        let hint = "write dst.name == \"shop/payment\" && dst.port == 8080";
        assert!(error.contains(hint), "{error}");
    }
    let output =
        desk.sharkq().args(["kfl", &shop(), "dst.name == \"fd00::1\"", "-q"]).output().expect("it starts");
    assert_eq!(String::from_utf8(output.stderr).expect("text"), "");
}

/// Exit code and what stands under the answer.
fn footer(desk: &Desk, source: &Path, words: &[&str]) -> (Option<i32>, String) {
    let mut command = desk.sharkq();
    let output =
        command.arg(words[0]).arg(source).args(&words[1..]).arg("--strict").output().expect("it starts");
    (output.status.code(), String::from_utf8(output.stderr).expect("text"))
}

const BY_LABEL: [&[&str]; 4] = [
    &["kfl", "src.labels[\"app\"] == \"checkout\""],
    &["kfl", "http && map_get(dst.labels, \"app\", \"\") != \"\""],
    &["kfl", "\"tier\" in local_labels"],
    &["sql", "-c", "SELECT count(*) FROM flows WHERE src_labels['app'] = 'checkout'"],
];

const BY_NAME: [&[&str]; 5] = [
    &["kfl", "src.pod.name == \"checkout-1\""],
    &["kfl", "http && dst.name == \"shop/checkout\""],
    &["kfl", "dst.namespace == \"shop\" || src.workload == \"x\""],
    &["sql", "-c", "SELECT path FROM http WHERE dst_service = 'checkout'"],
    &["sql", "-c", "SELECT count(*) FROM api_calls WHERE dst_workload = 'checkout'"],
];

const BY_OTHERS: [&[&str]; 4] = [
    &["kfl", "http && status_code >= 500"],
    &["kfl", "dst.ip == \"10.0.0.1\" || src.port == 80"],
    &["sql", "-c", "SELECT src_pod, count(*) FROM flows GROUP BY 1"],
    &["sql", "-c", "SELECT count(*) FROM flows WHERE proto = 'tcp'"],
];

#[test]
fn who_chooses_by_names_of_a_capture_file_is_told_that_nobody_recorded_them() {
    let desk = Desk::new();
    let source = shop();
    let source = Path::new(&source);
    let untold = "names, kube_pods not targeted 20";
    for words in BY_LABEL.into_iter().chain(BY_NAME) {
        let (code, error) = footer(&desk, source, words);
        assert_eq!(code, Some(4), "{words:?}: {error}");
        assert!(
            error.starts_with("coverage: INCOMPLETE, 20") && error.contains(untold),
            "{words:?}: {error}"
        );
        assert!(error.contains("neither a recorder nor a witness read the pods of a cluster"), "{error}");
    }
    for words in BY_OTHERS {
        let (code, error) = footer(&desk, source, words);
        assert_eq!((code, error.contains("names")), (Some(0), false), "{words:?}: {error}");
    }
    // An identity file has names and no labels.
    let identity = identity();
    let with_file = |words: &[&str]| footer(&desk, source, &[words, &["--identity", &identity]].concat());
    for words in BY_NAME.into_iter().chain(BY_OTHERS) {
        let (code, error) = with_file(words);
        assert_eq!((code, error.contains("names, ")), (Some(0), false), "{words:?}: {error}");
    }
    for words in BY_LABEL {
        let (code, error) = with_file(words);
        assert_eq!(code, Some(4), "{words:?}: {error}");
        assert!(error.contains("names, labels not targeted 20"), "{words:?}: {error}");
    }
    // Nobody asked for names at all.
    let lines = printed(desk.sharkq().arg("coverage").arg(source));
    assert!(!lines.contains("kube_pods"), "{lines}");
}

#[test]
fn who_chooses_by_names_of_a_recording_without_a_witness_is_told_so_and_with_one_is_not() {
    let desk = Desk::new();
    let bare = bundled::snapshot(&desk);
    for words in BY_LABEL.into_iter().chain(BY_NAME) {
        let (code, error) = footer(&desk, &bare, words);
        assert_eq!(code, Some(4), "{words:?}: {error}");
        assert!(error.contains("names, kube_pods not targeted 20"), "{words:?}: {error}");
    }
    for words in BY_OTHERS {
        let (_, error) = footer(&desk, &bare, words);
        assert!(!error.contains("kube_pods"), "{words:?}: {error}");
    }
    let first_ns = desk.value(&bare, "SELECT CAST(min(ts) AS BIGINT) FROM flows").as_i64().expect("a time");
    let feature = |on, cause| {
        let why = if on { "the cluster's API answers" } else { "nobody asked for it" };
        let of = Feature { name: "kube_pods".into(), on, cause, why: why.into() };
        facts::fact(first_ns - 1, Fact::Feature(of))
    };
    let log = bare.join("cluster/log");
    facts::write(&log, "", &[feature(false, Some(OffCause::NotTargeted))]);
    let (code, error) = footer(&desk, &bare, BY_LABEL[0]);
    assert_eq!(code, Some(4), "{error}");
    assert!(
        error.contains("names, kube_pods not targeted 20") && error.contains(": nobody asked for it"),
        "{error}"
    );
    std::fs::remove_dir_all(&log).expect("it was written");
    let pod = facts::pod("u1", "checkout-1", "checkout", "10.244.0.99", "c1");
    facts::write(&log, "", &[facts::fact(first_ns - 1, Fact::Pod(pod)), feature(true, None)]);
    for words in BY_LABEL.into_iter().chain(BY_NAME) {
        let (_, error) = footer(&desk, &bare, words);
        assert!(!error.contains("kube_pods"), "{words:?}: {error}");
    }
}
