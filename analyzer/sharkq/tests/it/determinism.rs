//! One thread, two or eight: the same recording gives the same index, byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::bundled;
use crate::desk::Desk;
use crate::programs::finished;

#[test]
fn threads_do_not_show_in_the_index() {
    let desk = Desk::new();
    same_for_all_threads(&desk, &bundled::snapshot(&desk), &[2, 8, 8]);
}

pub fn same_for_all_threads(desk: &Desk, source: &Path, counts: &[u32]) {
    let one = files(desk, source, 1);
    assert!(
        ["flows", "http", "segments", "packets"]
            .iter()
            .all(|name| one.keys().any(|path| path.starts_with(name)))
    );
    for &threads in counts {
        let these = files(desk, source, threads);
        let differing: Vec<_> =
            one.keys().chain(these.keys()).filter(|path| one.get(*path) != these.get(*path)).collect();
        assert!(differing.is_empty(), "{threads} threads: {differing:?}");
    }
}

/// The files below `tables/` of an index made with so many threads.
fn files(desk: &Desk, source: &Path, threads: u32) -> BTreeMap<PathBuf, Vec<u8>> {
    let folder = desk.at("index");
    let _ = fs::remove_dir_all(&folder);
    let mut index = desk.sharkq();
    index.arg("index").arg(source).args(["--packets", "--threads", &threads.to_string(), "-o"]);
    finished(index.arg(&folder));
    let tables = folder.join("tables");
    let mut files = BTreeMap::new();
    for table in fs::read_dir(&tables).unwrap() {
        for file in fs::read_dir(table.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            files.insert(path.strip_prefix(&tables).unwrap().to_owned(), fs::read(&path).unwrap());
        }
    }
    files
}
