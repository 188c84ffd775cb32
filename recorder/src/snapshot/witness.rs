//! The log of the cluster's witness, for a snapshot.
//! In: the witness's URL or its directory, and the start of the window. Out: files below `cluster/log/`, with sizes and hashes.
//! A witness that does not answer costs seconds, never the snapshot.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use http::{StatusCode, Uri};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use shark_schema::manifest::{Object, ObjectKind};
use tokio::time::timeout;

use super::Item;
use super::gather::{logs_from, measure, take_logs};
use super::upload::marked;
use crate::api;
use crate::config::is_path_part;
use crate::log::copy_whole;
use crate::ring::Ring;

/// What a witness has: `GET /log`. Each file is at `/log/<name>`; one that is open ends in the middle of its frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileList {
    pub cluster: String,
    pub files: Vec<String>,
}

const BELOW: &str = "cluster/log/";
/// Of an answer to begin, and of each of its pieces.
const TIMEOUT: Duration = Duration::from_secs(10);
const MOST_LIST_BYTES: usize = 4 << 20;
/// A log file rotates long before this.
const MOST_FILE_BYTES: u64 = 1 << 30;

/// Gives the name of its cluster too: names are joined within one only.
pub async fn fetch(place: &str, from_ns: i64, dir: &Path) -> anyhow::Result<(String, Vec<Item>)> {
    if let Some(host) = place.strip_prefix("http://") {
        let base = format!("http://{}", host.trim_end_matches('/'));
        return download(&base, from_ns, dir).await.with_context(|| place.to_owned());
    }
    ensure!(!place.contains("://"), "--witness: '{place}' is neither http://HOST:PORT nor a directory");
    let ring = Ring::open(&PathBuf::from(place))?;
    if api::ask_seal(&ring).is_none() {
        tracing::warn!("{place}: no answer from a witness within 1 s: its open file is read as it is");
    }
    Ok((ring.file.cluster.clone(), take_logs(&ring, from_ns, dir, BELOW)?))
}

async fn download(base: &str, from_ns: i64, dir: &Path) -> anyhow::Result<(String, Vec<Item>)> {
    let list = get_list(base).await?;
    let mut items = Vec::new();
    for name in logs_from(&list.files, from_ns) {
        ensure!(
            is_path_part(name) && name.contains(".ndjson.zst"),
            "its list names '{name}', which is no log"
        );
        let (got, closed) = (dir.join(name), name.trim_end_matches(".open"));
        get(&format!("{base}/log/{name}"), &got).await.with_context(|| name.clone())?;
        let file = dir.join(closed);
        if file != got {
            copy_whole(&got, &file).with_context(|| file.display().to_string())?;
        }
        let (size, sha256) = measure(&file).with_context(|| file.display().to_string())?;
        let object = Object { path: format!("{BELOW}{closed}"), kind: ObjectKind::Log, size, sha256 };
        items.push(Item { object, file });
    }
    Ok((list.cluster, items))
}

async fn get_list(base: &str) -> anyhow::Result<FileList> {
    let mut text = Vec::new();
    read(&format!("{base}/log"), |bytes| {
        text.extend_from_slice(bytes);
        ensure!(text.len() <= MOST_LIST_BYTES, "its list has no end");
        Ok(())
    })
    .await?;
    serde_json::from_slice(&text).context("what answers there is no witness")
}

async fn get(url: &str, to: &Path) -> anyhow::Result<()> {
    let mut file = File::create(to).with_context(|| to.display().to_string())?;
    let mut size = 0;
    read(url, |bytes| {
        size += bytes.len() as u64;
        ensure!(size <= MOST_FILE_BYTES, "it has no end");
        file.write_all(bytes).with_context(|| to.display().to_string())
    })
    .await
}

/// An answer, piece by piece; one that ends early is an error, since its length comes first.
async fn read(url: &str, mut take: impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let uri: Uri = url.parse().context("not a URL")?;
    let late = "no answer within 10 s";
    let answer = timeout(TIMEOUT, marked().get(uri)).await.context(late)?;
    let answer = answer.map_err(|error| anyhow::anyhow!("no connection: {}", root(&error)))?;
    if answer.status() != StatusCode::OK {
        bail!("it answers {}", answer.status());
    }
    let mut body = answer.into_body();
    while let Some(frame) = timeout(TIMEOUT, body.frame()).await.context(late)? {
        if let Ok(bytes) = frame.map_err(|error| anyhow::anyhow!("broken off: {}", root(&error)))?.into_data()
        {
            take(&bytes)?;
        }
    }
    Ok(())
}

fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
