//! Who owned an address: Kubernetes objects, watched, as facts in the log.
//! In: what an API server says, when it says anything. Out: facts, and the health of each watch, also as facts.
//! It never holds up the recording: it has a thread of its own, and an API server that is absent, slow, restarted or refuses
//! is a fact with its reason and a line in `status`.

mod check;
mod connect;
mod failure;
mod objects;
mod owners;
mod read;
mod resources;
mod session;
mod source;
mod store;
mod watch;

pub use self::store::{KubeStatus, WatchStatus};

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;

use self::store::{Shared, Store};
use crate::log::Log;

/// Whose objects are watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The pods of one node, by its name in the cluster.
    Node(String),
    /// Everything that names an endpoint anywhere.
    Cluster,
}

/// What to watch, and by which configuration; None is found as kubectl finds it, else from the pod's service account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kube {
    pub scope: Scope,
    pub kubeconfig: Option<PathBuf>,
}

/// With what the log knew; nothing runs yet.
pub struct Ready {
    kube: Kube,
    store: Shared,
}

/// At work until stopped.
#[derive(Clone)]
pub struct Watching {
    store: Shared,
    stop: Arc<Notify>,
    ended: Arc<Mutex<Receiver<()>>>,
}

/// It is left alone when it does not end within this: something it waits for may hang.
const END_TIMEOUT: Duration = Duration::from_millis(500);

impl Kube {
    /// Of each watch, whether it works; of none, when there is no connection.
    pub fn check(&self) -> io::Result<Vec<(&'static str, Result<(), String>)>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(check::check(self)))
    }

    /// Before the first fact is written, so that what the log knew of the cluster goes on.
    pub fn prepare(self, log: &Arc<Log>) -> Ready {
        let store = Arc::new(Mutex::new(Store::new(self.scope.clone(), log.clone())));
        Ready { kube: self, store }
    }
}

impl Ready {
    pub fn start(self) -> io::Result<Watching> {
        let Ready { kube, store } = self;
        let stop = Arc::new(Notify::new());
        let (end, ended) = channel();
        let watching =
            Watching { store: store.clone(), stop: stop.clone(), ended: Arc::new(Mutex::new(ended)) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        store::lock(&store).begin();
        thread::Builder::new().name("kube".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = session::run(&kube, &store) => {}
                    () = stop.notified() => {}
                }
            });
            runtime.shutdown_background();
            drop(end);
        })?;
        Ok(watching)
    }
}

impl Watching {
    pub fn status(&self) -> KubeStatus {
        store::lock(&self.store).status()
    }

    /// Nothing is written to the log afterwards.
    pub fn stop(&self) {
        self.stop.notify_one();
        let ended = self.ended.lock().unwrap_or_else(|e| e.into_inner());
        if ended.recv_timeout(END_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the watches of Kubernetes did not end in time");
        }
    }
}
