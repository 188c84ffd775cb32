//! One watch: a list once, then every change from there, and again from the same position after whatever interrupts it.
//! In: the API of one resource. Out: changes in the store, and whether the watch is on. Only where the server has forgotten the
//! position (410) is the list read anew; then the outcome of a gap is known, and when it began and ended.

use std::collections::HashSet;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures::StreamExt;
use tokio::sync::watch::Receiver;
use tokio::time::{sleep, timeout};

use super::failure::{Failure, Kind};
use super::objects::Object;
use super::source::{Change, Source, WATCH_S};
use super::store::{Place, Seen, Shared, lock};
use crate::time::now_ns;

pub struct Watcher {
    pub source: Source,
    pub store: Shared,
    /// Why the server gives no answer, when it gives none.
    pub silent: Receiver<Option<String>>,
}

const PAGE: u32 = 500;
/// The server ends a watch before this; a connection on which that does not happen is dead.
const DEAD: Duration = Duration::from_secs(WATCH_S as u64 + 10);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A server that has forgotten a position accepts the watch, and says so a moment later.
const OBJECTION: Duration = Duration::from_secs(1);
/// Others are waited for this long.
const OTHERS: Duration = Duration::from_secs(5);

impl Watcher {
    /// Ends when the credentials are refused.
    pub async fn run(self) {
        self.wait_for_others().await;
        let mut pause = FIRST_PAUSE;
        let mut expired = false;
        loop {
            let begun = Instant::now();
            let ended = tokio::select! {
                ended = self.follow() => ended,
                why = silence(self.silent.clone()) => Err(Failure::new(why)),
            };
            let lasted = begun.elapsed() > LONGEST_PAUSE;
            pause = if lasted { FIRST_PAUSE } else { pause };
            match ended {
                // Servers end every watch now and then; it goes on where it ended.
                Ok(()) if lasted => continue,
                Ok(()) => {}
                Err(failure) => {
                    lock(&self.store).off(self.source.resource.name, &failure.why, failure.after_ns);
                    // A new list does not wait, but lists do not follow each other without a pause.
                    let again = std::mem::replace(&mut expired, failure.kind == Kind::Expired);
                    pause = if expired && !again { FIRST_PAUSE } else { pause };
                    match failure.kind {
                        Kind::Expired => self.list_anew(0),
                        Kind::Unknown => self.list_anew(1),
                        Kind::Unauthorized => return,
                        Kind::Other => {}
                    }
                }
            }
            self.wait(pause).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    async fn wait_for_others(&self) {
        let begun = Instant::now();
        let settled = || self.source.resource.after.iter().all(|other| lock(&self.store).settled(other));
        while !settled() && begun.elapsed() < OTHERS {
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn list_anew(&self, versions_on: usize) {
        let mut store = lock(&self.store);
        let version = store.place(self.source.resource.name).version + versions_on;
        store.set_place(self.source.resource.name, Place { version, position: None });
    }

    /// Half of the pause by chance, so that the recorders of a cluster do not come all at once; shorter when the server is back.
    async fn wait(&self, pause: Duration) {
        let mut silent = self.silent.clone();
        if silent.borrow_and_update().is_some() {
            // The sender is gone only when this is.
            let _ = silent.wait_for(Option::is_none).await;
        }
        sleep(pause / 2 + pause.mul_f64((now_ns() % 1_000) as f64 / 2_000.0)).await;
    }

    /// Until the watch ends, in order or not.
    async fn follow(&self) -> Result<(), Failure> {
        let what = self.source.resource.name;
        let (place, gap_ns) = {
            let store = lock(&self.store);
            (store.place(what), store.gap_ns(what))
        };
        let (position, caught_up, why) = match (place.position, gap_ns) {
            (None, None) => (self.list(place.version, None).await?, None, "listed; every change is watched"),
            (None, _) => {
                let why = "listed anew: of what changed in between only the outcome is known";
                (self.list(place.version, gap_ns).await?, None, why)
            }
            // What comes up to this revision happened in the gap.
            (Some(position), Some(_)) => (
                position,
                self.source.revision(place.version).await?,
                "the changes in between are told by the API server",
            ),
            (Some(position), None) => (position, None, "every change is watched"),
        };
        let mut changes = self.source.changes(place.version, &position).await?.peekable();
        if caught_up.is_some()
            && let Ok(Some(Change::Failed(failure))) = timeout(OBJECTION, Pin::new(&mut changes).peek()).await
        {
            return Err(failure.clone());
        }
        lock(&self.store).on(what, why);
        let mut doubt_ns = gap_ns.filter(|_| caught_up.is_some());
        loop {
            let change = timeout(DEAD, changes.next()).await;
            if let Ok(None | Some(Change::Object(..) | Change::Position(_))) = change {
                lock(&self.store).heard(what);
            }
            match change {
                // The position was too old after all.
                Ok(Some(Change::Failed(failure))) if doubt_ns.is_some() => {
                    return Err(Failure { after_ns: doubt_ns, ..failure });
                }
                Err(_) => {
                    return Err(Failure::new(format!("no word from {} for too long", self.source.server)));
                }
                Ok(None) => return Ok(()),
                Ok(Some(Change::Failed(failure))) => return Err(failure),
                Ok(Some(Change::Position(position))) => {
                    doubt_ns = None;
                    self.go_on_from(place.version, position);
                }
                Ok(Some(Change::Object(object, seen))) => {
                    doubt_ns = None;
                    let in_gap = object.revision().zip(caught_up).is_some_and(|(now, end)| now <= end);
                    let position = object.metadata.resource_version.clone();
                    if let Some(found) = (self.source.resource.read)(&object) {
                        lock(&self.store).take([(found, seen)], gap_ns.filter(|_| in_gap));
                    }
                    position.into_iter().for_each(|position| self.go_on_from(place.version, position));
                }
            }
        }
    }

    fn go_on_from(&self, version: usize, position: String) {
        lock(&self.store).set_place(self.source.resource.name, Place { version, position: Some(position) });
    }

    /// Everything that is there, page by page; gives the position behind it.
    async fn list(&self, version: usize, after_ns: Option<i64>) -> Result<String, Failure> {
        let mut listed = HashSet::new();
        let mut from = None;
        loop {
            let (objects, position, more) = self.source.page(version, PAGE, from).await?;
            listed.extend(objects.iter().filter_map(Object::uid));
            let found = objects.iter().filter_map(|object| (self.source.resource.read)(object));
            lock(&self.store).take(found.map(|found| (found, Seen::Here)), after_ns);
            from = more;
            if from.is_none() {
                if let Some(kind) = self.source.resource.fact {
                    lock(&self.store).sweep(kind, &listed, after_ns);
                }
                self.go_on_from(version, position.clone());
                return Ok(position);
            }
        }
    }
}

/// Ends when the server is silent, with the reason.
async fn silence(mut silent: Receiver<Option<String>>) -> String {
    let why = silent.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
    match why {
        Some(why) => why,
        // Nobody listens any more: the whole session ends.
        None => std::future::pending().await,
    }
}
