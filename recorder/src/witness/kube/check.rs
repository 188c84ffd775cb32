//! What of the API server works, for `sharkrec doctor`.
//! In: the configuration. Out: of each watch ok, or the reason; objects that exist must come through the watch.
//! It only reads, and ends within seconds.

use std::time::Duration;

use futures::StreamExt;
use tokio::time::timeout;

use super::failure::{Failure, Kind};
use super::source::{Change, Source};
use super::store::Seen;
use super::{Kube, connect, resources};

const PATIENCE: Duration = Duration::from_secs(5);

pub async fn check(kube: &Kube) -> Vec<(&'static str, Result<(), String>)> {
    let found = connect::connect(kube.kubeconfig.as_deref()).await;
    let (client, server) = match found {
        Ok(found) => found,
        Err(why) => return vec![("connection", Err(why))],
    };
    let mut results = Vec::new();
    for resource in resources::of(&kube.scope) {
        let (client, server, scope) = (client.clone(), server.clone(), kube.scope.clone());
        let source = Source { resource, client, server, scope };
        let late =
            || Failure::new(format!("no answer from {} within {} s", source.server, PATIENCE.as_secs()));
        let result = timeout(PATIENCE, of(&source)).await.unwrap_or_else(|_| Err(late()));
        results.push((resource.name, result.map_err(|failure| failure.why)));
    }
    results
}

async fn of(source: &Source) -> Result<(), Failure> {
    let mut version = 0;
    let (objects, position, _) = loop {
        match source.page(version, 1, None).await {
            Err(failure) if failure.kind == Kind::Unknown && version + 1 < source.resource.versions.len() => {
                version += 1;
            }
            page => break page?,
        }
    };
    // From no position on, a watch begins with what is there.
    let position = if objects.is_empty() { position.as_str() } else { "" };
    let mut changes = source.changes(version, position).await?;
    while !objects.is_empty() {
        match changes.next().await {
            Some(Change::Object(_, Seen::Here)) => break,
            Some(Change::Failed(failure)) => return Err(failure),
            Some(_) => {}
            None => return Err(Failure::new("the watch ended without a word")),
        }
    }
    Ok(())
}
