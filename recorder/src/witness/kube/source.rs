//! The API of one resource: pages of lists, and streams of changes.
//! In: a client and what limits it. Out: objects, positions and failures, each in one type whatever was asked for.
//! Nothing is remembered or repeated here.

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::DynamicObject;
use kube::{Api, Client};

use super::Scope;
use super::failure::Failure;
use super::objects::Object;
use super::resources::Resource;
use super::store::Seen;

#[derive(Clone)]
pub struct Source {
    pub resource: &'static Resource,
    pub client: Client,
    pub server: String,
    pub scope: Scope,
}

pub enum Change {
    Object(Box<Object>, Seen),
    Position(String),
    Failed(Failure),
}

/// The server ends a watch after this.
pub const WATCH_S: u32 = 290;

impl Source {
    /// Objects, position, and the token of the next page if there is one.
    pub async fn page(
        &self,
        version: usize,
        limit: u32,
        from: Option<String>,
    ) -> Result<(Vec<Object>, String, Option<String>), Failure> {
        let field_selector = self.resource.field_selector(&self.scope);
        let wanted =
            ListParams { field_selector, limit: Some(limit), continue_token: from, ..ListParams::default() };
        let (api, failed) = (self.api(version), |error| Failure::of(&error, &self.server));
        let (objects, metadata): (Vec<Object>, _) = if self.resource.metadata_only {
            let page = api.list_metadata(&wanted).await.map_err(failed)?;
            (page.items.into_iter().map(Object::from).collect(), page.metadata)
        } else {
            let page = api.list(&wanted).await.map_err(failed)?;
            (page.items.into_iter().map(Object::from).collect(), page.metadata)
        };
        let more = metadata.continue_.filter(|token| !token.is_empty());
        Ok((objects, metadata.resource_version.unwrap_or_default(), more))
    }

    /// The revision of the cluster now.
    pub async fn revision(&self, version: usize) -> Result<Option<u64>, Failure> {
        let (_, position, _) = self.page(version, 1, None).await?;
        Ok(position.parse().ok())
    }

    pub async fn changes(
        &self,
        version: usize,
        position: &str,
    ) -> Result<BoxStream<'static, Change>, Failure> {
        let field_selector = self.resource.field_selector(&self.scope);
        let wanted =
            WatchParams { field_selector, timeout: Some(WATCH_S), bookmarks: true, ..WatchParams::default() };
        let (api, failed) = (self.api(version), |error| Failure::of(&error, &self.server));
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

    fn api(&self, version: usize) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &self.resource.api(version))
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
