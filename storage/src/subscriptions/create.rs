//! Makes subscriptions, and finds those that exist.

use std::sync::Arc;

use bytes::Bytes;
use tailwater_stream::subscription::{Change, Link, StreamsRefusal, SubscriptionState, Tail};
use tailwater_stream::{
    OffsetToken, StreamId, StreamName, StreamState, Subscription, SubscriptionConfig, SubscriptionId,
};

use super::codec::{self, StoredConfig};
use super::links::LinksPage;
use super::opened::{CHUNK, Opened, Turn};
use super::operations::Described;
use super::{SubscribeError, Subscriptions};
use crate::to_its_end::to_its_end;

/// Streams that are listed in one go.
const PAGE_STREAMS: usize = 1_000;

/// A subscription as a client asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSubscription {
    /// Its id.
    pub id: SubscriptionId,
    /// What is asked for.
    pub config: SubscriptionConfig,
    /// The URL of the stream root, as the client uses it, without a slash at its end: where receivers call back.
    pub root: Box<str>,
}

/// A subscription that exists now.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscribed {
    /// Whether this request made it.
    pub new: bool,
    /// The subscription.
    pub described: Described,
}

impl Subscriptions {
    /// Makes a subscription, or finds that the very same exists. Streams that exist are linked at their tails. Answers
    /// once it is durable, with the first `links_max` of its streams.
    ///
    /// # Errors
    /// [`SubscribeError`]; there is no such subscription then, or it is as it was.
    pub async fn create(
        &self,
        asked: NewSubscription,
        links_max: usize,
    ) -> Result<Subscribed, SubscribeError> {
        let all = self.clone();
        to_its_end(async move { all.create_or_find(asked, LinksPage::first(links_max)).await }).await
    }

    async fn create_or_find(
        &self,
        asked: NewSubscription,
        page: LinksPage,
    ) -> Result<Subscribed, SubscribeError> {
        self.recovered().await?;
        loop {
            let opened = self.place(&asked.id)?;
            let mut turn = opened.turn.lock().await;
            if let Some(found) = turn.as_mut() {
                self.compare(&asked.config, found)?;
                let described = self.describe(&opened, found, &page).await?;
                return Ok(Subscribed {
                    new: false,
                    described,
                });
            }
            // Whoever had this place has given it up.
            if opened.is_gone() {
                continue;
            }
            let mut indexed = Indexed::new(self, &opened, &asked.config);
            match self.fill(&opened, &asked).await {
                Ok(made) => {
                    indexed.keep = true;
                    let made = turn.insert(made);
                    opened.set_made();
                    let described = self.describe(&opened, made, &page).await;
                    self.settle(&opened, made).await;
                    return Ok(Subscribed {
                        new: true,
                        described: described?,
                    });
                }
                Err(error) => {
                    opened.set_gone();
                    self.shared.all.lock().remove(&asked.id);
                    // What is left of it is deleted at the next start otherwise.
                    if let Err(error) = self.shared.engine.delete_hidden(&opened.name()).await {
                        tracing::warn!(subscription = %asked.id, %error, "half a subscription stays until the next start");
                    }
                    return Err(error);
                }
            }
        }
    }

    /// The place of a subscription, which may be empty.
    fn place(&self, id: &SubscriptionId) -> Result<Arc<Opened>, SubscribeError> {
        let mut all = self.shared.all.lock();
        if let Some(opened) = all.get(id) {
            return Ok(Arc::clone(opened));
        }
        let subscriptions_max = self.shared.limits.subscriptions_max;
        if all.len() >= subscriptions_max {
            return Err(SubscribeError::TooMany { subscriptions_max });
        }
        let opened = Arc::new(Opened::new(id.clone()));
        all.insert(id.clone(), Arc::clone(&opened));
        Ok(opened)
    }

    fn compare(&self, asked: &SubscriptionConfig, turn: &Turn) -> Result<(), SubscribeError> {
        let there = &turn.subscription.config;
        let differences = [
            (
                "type, webhook.url or wake_stream",
                asked.delivery != there.delivery,
            ),
            ("pattern", asked.pattern != there.pattern),
            ("streams", asked.streams != there.streams),
            ("lease_ttl_ms", asked.lease_ttl_ms != there.lease_ttl_ms),
            ("description", asked.description != there.description),
        ];
        match differences.into_iter().find(|(_, differs)| *differs) {
            Some((difference, _)) => Err(SubscribeError::Exists { difference }),
            None => Ok(()),
        }
    }

    /// Stores a subscription: its links first, and last, in one record, what makes it one.
    async fn fill(&self, opened: &Arc<Opened>, asked: &NewSubscription) -> Result<Turn, SubscribeError> {
        let config = &asked.config;
        self.check_streams(config)?;
        let stream = self.shared.engine.create_hidden(&opened.name()).await?;
        if config.pattern.is_some() {
            self.link_matching(opened, stream, config).await?;
        }
        let named: Vec<_> = config.streams.iter().cloned().collect();
        for chunk in named.chunks(CHUNK) {
            let asked = chunk.iter().map(|name| (name.clone(), None)).collect();
            let tails = self.shared.engine.tails(stream, asked).await?;
            let links = tails.into_iter().map(|(name, tail, _)| {
                let link = Link {
                    glob: config.wants(&name),
                    explicit: true,
                    acked: tail.as_ref().map_or(OffsetToken::START, Tail::token),
                };
                (name, link)
            });
            self.put_links(opened, stream, links).await?;
        }
        let created_at = self.now();
        let state = SubscriptionState {
            explicit_links: named.len() as u64,
            ..SubscriptionState::default()
        };
        let stored = StoredConfig {
            config: config.clone(),
            root: asked.root.clone(),
            created_at,
        };
        let whole = vec![
            (
                Bytes::from_static(codec::CONFIG_KEY),
                Some(codec::encode_config(&stored)),
            ),
            (
                Bytes::from_static(codec::STATE_KEY),
                Some(codec::encode_state(&state)),
            ),
        ];
        self.shared
            .engine
            .change_hidden(&opened.name(), stream, whole)
            .await?;
        Ok(Turn::new(
            Subscription::new(config.clone(), created_at, state),
            stream,
            asked.root.clone(),
        ))
    }

    fn check_streams(&self, config: &SubscriptionConfig) -> Result<(), StreamsRefusal> {
        let (links, links_max) = (config.streams.len() as u64, self.shared.limits.named_streams_max);
        if links > links_max {
            return Err(StreamsRefusal::TooMany { links, links_max });
        }
        match config
            .wake_stream()
            .filter(|stream| config.streams.contains(*stream))
        {
            Some(stream) => Err(StreamsRefusal::WakeStream {
                stream: stream.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Links the streams that the pattern means, at their tails.
    async fn link_matching(
        &self,
        opened: &Arc<Opened>,
        stream: StreamId,
        config: &SubscriptionConfig,
    ) -> Result<(), SubscribeError> {
        let prefix = config
            .pattern
            .as_ref()
            .map(tailwater_stream::subscription::Pattern::literal_prefix);
        let prefix = prefix.unwrap_or_default();
        let mut after: Option<StreamName> = None;
        loop {
            let listed = self
                .shared
                .engine
                .list_states(prefix.clone(), after, PAGE_STREAMS)
                .await?;
            let is_last = listed.len() < PAGE_STREAMS;
            after = listed.last().map(|state| state.name.clone());
            let matching = listed.iter().filter(|state| config.wants(&state.name));
            let links: Vec<_> = matching.map(at_tail).collect();
            for chunk in links.chunks(CHUNK) {
                self.put_links(opened, stream, chunk.iter().cloned()).await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn put_links(
        &self,
        opened: &Arc<Opened>,
        stream: StreamId,
        links: impl Iterator<Item = (StreamName, Link)>,
    ) -> Result<(), SubscribeError> {
        let changes = links.map(|(stream, link)| Change::Link {
            stream,
            link: Some(link),
        });
        let controls: Vec<_> = changes.filter_map(|change| codec::stored(&change)).collect();
        if !controls.is_empty() {
            self.shared
                .engine
                .change_hidden(&opened.name(), stream, controls)
                .await?;
        }
        Ok(())
    }
}

fn at_tail(state: &StreamState) -> (StreamName, Link) {
    (state.name.clone(), Link::GLOB.at(state.tail_token()))
}

/// A subscription in the index. Taken out again unless it comes to be.
struct Indexed<'a> {
    all: &'a Subscriptions,
    opened: &'a Arc<Opened>,
    config: &'a SubscriptionConfig,
    keep: bool,
}

impl<'a> Indexed<'a> {
    fn new(all: &'a Subscriptions, opened: &'a Arc<Opened>, config: &'a SubscriptionConfig) -> Self {
        all.add_to_index(opened, config, config.streams.iter());
        Self {
            all,
            opened,
            config,
            keep: false,
        }
    }
}

impl Drop for Indexed<'_> {
    fn drop(&mut self) {
        if !self.keep {
            self.all
                .remove_from_index(self.opened, self.config, self.config.streams.iter());
        }
    }
}

impl Subscriptions {
    pub(super) fn add_to_index<'a>(
        &self,
        opened: &Arc<Opened>,
        config: &SubscriptionConfig,
        streams: impl IntoIterator<Item = &'a StreamName>,
    ) {
        let index = &self.shared.engine.moves().index;
        if let Some(pattern) = &config.pattern {
            index.add_pattern(pattern, opened);
        }
        index.add_streams(streams, opened);
    }

    pub(super) fn remove_from_index<'a>(
        &self,
        opened: &Arc<Opened>,
        config: &SubscriptionConfig,
        streams: impl IntoIterator<Item = &'a StreamName>,
    ) {
        let index = &self.shared.engine.moves().index;
        if let Some(pattern) = &config.pattern {
            index.remove_pattern(pattern, opened);
        }
        index.remove_streams(streams, opened);
    }
}
