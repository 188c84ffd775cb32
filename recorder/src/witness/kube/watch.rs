//! One watch: a list once, then every change from there, and again from the same position after whatever interrupts it.
//! In: the API of one resource. Out: changes in the store, and whether the watch is on. Only where the server has forgotten the
//! position (410) is the list read anew; then the outcome of a gap is known, and when it began and ended.

use std::collections::HashSet;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::DynamicObject;
use kube::{Api, Client};
use tokio::sync::watch::Receiver;
use tokio::time::{sleep, timeout};

use super::Scope;
use super::failure::{Failure, Kind};
use super::objects::Object;
use super::resources::Resource;
use super::store::{Place, Seen, Shared, lock};
use crate::time::now_ns;

pub struct Watcher {
    pub resource: &'static Resource,
    pub client: Client,
    pub server: String,
    pub scope: Scope,
    pub store: Shared,
    /// Why the server gives no answer, when it gives none.
    pub silent: Receiver<Option<String>>,
}

const PAGE: u32 = 500;
/// The server ends a watch after this; a connection on which that does not happen is dead.
const WATCH_S: u32 = 290;
const DEAD: Duration = Duration::from_secs(WATCH_S as u64 + 10);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A server that has forgotten a position accepts the watch, and says so a moment later.
const OBJECTION: Duration = Duration::from_secs(1);
/// Others are waited for this long.
const OTHERS: Duration = Duration::from_secs(5);

enum Change {
    Object(Box<Object>, Seen),
    Position(String),
    Failed(Failure),
}

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
                    lock(&self.store).off(self.resource.name, &failure.why, failure.after_ns);
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
        let settled = || self.resource.after.iter().all(|other| lock(&self.store).settled(other));
        while !settled() && begun.elapsed() < OTHERS {
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn list_anew(&self, versions_on: usize) {
        let mut store = lock(&self.store);
        let version = store.place(self.resource.name).version + versions_on;
        store.set_place(self.resource.name, Place { version, position: None });
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
        let what = self.resource.name;
        let (place, gap_ns) = {
            let store = lock(&self.store);
            (store.place(what), store.gap_ns(what))
        };
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &self.resource.api(place.version));
        let (position, caught_up, why) = match (place.position, gap_ns) {
            (None, None) => (self.list(&api, None).await?, None, "listed; every change is watched"),
            (None, _) => {
                let why = "listed anew: of what changed in between only the outcome is known";
                (self.list(&api, gap_ns).await?, None, why)
            }
            // What comes up to this revision happened in the gap.
            (Some(position), Some(_)) => {
                (position, self.revision(&api).await?, "the changes in between are told by the API server")
            }
            (Some(position), None) => (position, None, "every change is watched"),
        };
        let mut changes = self.changes(&api, &position).await?.peekable();
        if caught_up.is_some()
            && let Ok(Some(Change::Failed(failure))) = timeout(OBJECTION, Pin::new(&mut changes).peek()).await
        {
            return Err(failure.clone());
        }
        lock(&self.store).on(what, why);
        let mut doubt_ns = gap_ns.filter(|_| caught_up.is_some());
        loop {
            let change = timeout(DEAD, changes.next()).await;
            lock(&self.store).heard(what);
            match change {
                // The position was too old after all.
                Ok(Some(Change::Failed(failure))) if doubt_ns.is_some() => {
                    return Err(Failure { after_ns: doubt_ns, ..failure });
                }
                Err(_) => return Err(Failure::new(format!("no word from {} for too long", self.server))),
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
                    if let Some(found) = (self.resource.read)(&object) {
                        lock(&self.store).take([(found, seen)], gap_ns.filter(|_| in_gap));
                    }
                    position.into_iter().for_each(|position| self.go_on_from(place.version, position));
                }
            }
        }
    }

    fn go_on_from(&self, version: usize, position: String) {
        lock(&self.store).set_place(self.resource.name, Place { version, position: Some(position) });
    }

    /// Everything that is there, page by page; gives the position behind it.
    async fn list(&self, api: &Api<DynamicObject>, after_ns: Option<i64>) -> Result<String, Failure> {
        let mut listed = HashSet::new();
        let mut wanted = self.list_params(PAGE);
        loop {
            let (objects, position, more) = self.page(api, &wanted).await?;
            listed.extend(objects.iter().filter_map(Object::uid));
            let found = objects.iter().filter_map(|object| (self.resource.read)(object));
            lock(&self.store).take(found.map(|found| (found, Seen::Here)), after_ns);
            wanted.continue_token = more.filter(|token| !token.is_empty());
            if wanted.continue_token.is_none() {
                if let Some(kind) = self.resource.fact {
                    lock(&self.store).sweep(kind, &listed, after_ns);
                }
                let version = lock(&self.store).place(self.resource.name).version;
                self.go_on_from(version, position.clone());
                return Ok(position);
            }
        }
    }

    /// The revision of the cluster now.
    async fn revision(&self, api: &Api<DynamicObject>) -> Result<Option<u64>, Failure> {
        let (_, position, _) = self.page(api, &self.list_params(1)).await?;
        Ok(position.parse().ok())
    }

    fn list_params(&self, limit: u32) -> ListParams {
        let field_selector = self.resource.field_selector(&self.scope);
        ListParams { field_selector, limit: Some(limit), ..ListParams::default() }
    }

    /// Objects, position, and the token of the next page.
    async fn page(
        &self,
        api: &Api<DynamicObject>,
        wanted: &ListParams,
    ) -> Result<(Vec<Object>, String, Option<String>), Failure> {
        let failed = |error| Failure::of(&error, &self.server);
        let (objects, metadata): (Vec<Object>, _) = if self.resource.metadata_only {
            let page = api.list_metadata(wanted).await.map_err(failed)?;
            (page.items.into_iter().map(Object::from).collect(), page.metadata)
        } else {
            let page = api.list(wanted).await.map_err(failed)?;
            (page.items.into_iter().map(Object::from).collect(), page.metadata)
        };
        Ok((objects, metadata.resource_version.unwrap_or_default(), metadata.continue_))
    }

    async fn changes(
        &self,
        api: &Api<DynamicObject>,
        position: &str,
    ) -> Result<BoxStream<'static, Change>, Failure> {
        let field_selector = self.resource.field_selector(&self.scope);
        let wanted =
            WatchParams { field_selector, timeout: Some(WATCH_S), bookmarks: true, ..WatchParams::default() };
        let failed = |error| Failure::of(&error, &self.server);
        let server = self.server.clone();
        let told = move |error: kube::error::Error| Change::Failed(Failure::of(&error, &server));
        Ok(if self.resource.metadata_only {
            let events = api.watch_metadata(&wanted, position).await.map_err(failed)?;
            events.map_ok(change).map(move |event| event.unwrap_or_else(&told)).boxed()
        } else {
            let events = api.watch(&wanted, position).await.map_err(failed)?;
            events.map_ok(change).map(move |event| event.unwrap_or_else(&told)).boxed()
        })
    }
}

fn change<K: Into<Object>>(event: WatchEvent<K>) -> Change {
    match event {
        WatchEvent::Added(object) | WatchEvent::Modified(object) => {
            Change::Object(Box::new(object.into()), Seen::Here)
        }
        WatchEvent::Deleted(object) => Change::Object(Box::new(object.into()), Seen::Gone),
        WatchEvent::Bookmark(mark) => Change::Position(mark.metadata.resource_version),
        WatchEvent::Error(status) => Change::Failed(Failure::of_status(&status)),
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
