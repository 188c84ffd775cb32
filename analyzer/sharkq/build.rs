//! Gives the cache a key that changes with the code that made an index.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

fn main() {
    let mut hash = DefaultHasher::new();
    for folder in ["src", "../dissect/src", "../../schema/src"] {
        println!("cargo::rerun-if-changed={folder}");
        add(Path::new(folder), &mut hash);
    }
    println!("cargo::rustc-env=SHARKQ_BUILD={:016x}", hash.finish());
}

fn add(path: &Path, hash: &mut DefaultHasher) {
    if path.is_dir() {
        let mut entries: Vec<_> = std::fs::read_dir(path).expect("a source folder").flatten().collect();
        entries.sort_by_key(|entry| entry.file_name());
        entries.iter().for_each(|entry| add(&entry.path(), hash));
    } else {
        std::fs::read(path).expect("a source file").hash(hash);
    }
}
