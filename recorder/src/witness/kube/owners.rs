//! What owns the owners of a node's pods, asked one by one: a node's recorder does not watch the workloads of a cluster.
//! In: questions of the store. Out: answers to it. One request at a time; what fails is asked again later.

use std::time::Duration;

use kube::core::DynamicObject;
use kube::{Api, Client};

use super::failure::{Failure, Kind};
use super::objects::Object;
use super::read;
use super::resources::{self, OWNERS};
use super::store::{Found, Owner, Shared, lock};

#[derive(Debug, Clone)]
pub struct Question {
    pub namespace: String,
    pub owner: Owner,
}

const PAUSE: Duration = Duration::from_secs(10);

pub async fn answer(client: Client, server: String, store: Shared) {
    let asked = lock(&store).asked();
    loop {
        let Some(question) = lock(&store).question() else {
            asked.notified().await;
            continue;
        };
        match workload(&client, &server, &question).await {
            Ok(owner) => {
                let mut store = lock(&store);
                store.on(OWNERS, "the owners of pods are looked up");
                store.answered(&question.owner.uid, owner);
            }
            Err(failure) if failure.kind == Kind::Unauthorized => return,
            Err(failure) => {
                lock(&store).off(OWNERS, &failure.why, None);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// None where the owner is gone, replaced by another of its name, or a workload itself.
async fn workload(client: &Client, server: &str, question: &Question) -> Result<Option<Owner>, Failure> {
    let Owner { uid, object } = &question.owner;
    let Some(api) = resources::owner(&object.kind) else { return Ok(None) };
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &question.namespace, &api);
    let found = match api.get_metadata_opt(&object.name).await {
        Ok(found) => found.map(Object::from).filter(|found| found.uid().as_ref() == Some(uid)),
        Err(error) => return Err(Failure::of(&error, server)),
    };
    match found.and_then(|found| read::owned(&found)) {
        Some(Found::Owner { owner, .. }) => Ok(owner),
        _ => Ok(None),
    }
}
