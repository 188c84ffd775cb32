//! One connection after the other: the watches of a scope, and a heartbeat that tells when the API server is silent.
//! In: the configuration. Out: watches that run until the credentials are refused; then everything is read and begun again,
//! from where each watch was.

use std::time::Duration;

use kube::Client;
use kube::error::Error;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::failure::Failure;
use super::source::Source;
use super::store::{Shared, lock};
use super::watch::Watcher;
use super::{Kube, Scope, connect, owners, resources};

/// Until the configuration is looked at again.
const AGAIN: Duration = Duration::from_secs(5);
const BEAT: Duration = Duration::from_secs(10);
const BEAT_WHILE_SILENT: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(5);

/// Never ends.
pub async fn run(kube: &Kube, store: &Shared) {
    loop {
        match connect::connect(kube.kubeconfig.as_deref()).await {
            Ok((client, server)) => {
                lock(store).connected(&server);
                serve(kube, &client, &server, store).await;
            }
            Err(why) => lock(store).off_all(&why),
        }
        sleep(AGAIN).await;
    }
}

async fn serve(kube: &Kube, client: &Client, server: &str, store: &Shared) {
    let (silence, silent) = watch::channel(None);
    // What runs here ends with it.
    let mut tasks = JoinSet::new();
    for resource in resources::of(&kube.scope) {
        let (client, server, scope) = (client.clone(), server.to_owned(), kube.scope.clone());
        let source = Source { resource, client, server, scope };
        tasks.spawn(Watcher { source, store: store.clone(), silent: silent.clone() }.run());
    }
    if matches!(kube.scope, Scope::Node(_)) {
        tasks.spawn(owners::answer(client.clone(), server.to_owned(), store.clone()));
    }
    tokio::select! {
        ended = tasks.join_next() => if let Some(Err(error)) = ended {
            tracing::warn!("Kubernetes: a watch ended, all are begun again: {error}");
        },
        () = beat(client, server, &silence) => {}
    }
}

/// Says why when the server gives no answer at all: a connection may hang for minutes without a word. Never ends.
async fn beat(client: &Client, server: &str, silence: &watch::Sender<Option<String>>) {
    loop {
        let silent = match timeout(ANSWER, client.apiserver_version()).await {
            // Even a refusal is an answer.
            Ok(Ok(_) | Err(Error::Api(_))) => None,
            Ok(Err(error)) => Some(Failure::of(&error, server).why),
            Err(_) => Some(format!("no answer from {server} within {} s", ANSWER.as_secs())),
        };
        let pause = if silent.is_some() { BEAT_WHILE_SILENT } else { BEAT };
        silence.send_if_modified(|before| std::mem::replace(before, silent.clone()) != silent);
        sleep(pause).await;
    }
}
