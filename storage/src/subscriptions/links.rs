//! The links of a subscription as they are stored, a page at a time: there may be very many.

use tailwater_stream::StreamName;
use tailwater_stream::subscription::Link;

use super::opened::Turn;
use super::turns::{damaged, read_link};
use super::{Subscriptions, codec};
use crate::engine::EngineError;

/// Links that are read in one go by whoever wants all of them.
const PAGE: usize = 1_000;

/// Which streams of a subscription are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinksPage {
    /// Only those behind this name.
    pub after: Option<StreamName>,
    /// At most so many.
    pub count_max: usize,
}

impl LinksPage {
    /// The first ones, at most `count_max`.
    pub const fn first(count_max: usize) -> Self {
        Self {
            after: None,
            count_max,
        }
    }
}

/// Links in the order of their streams' names, and whether more follow.
pub(super) type Links = (Vec<(StreamName, Link)>, bool);

impl Subscriptions {
    /// A page of a subscription's links. It takes about as long as the page is, however many there are.
    pub(super) async fn links(&self, turn: &Turn, page: &LinksPage) -> Result<Links, EngineError> {
        let after = page.after.as_ref().map(codec::link_key);
        let count_max = page.count_max.saturating_add(1);
        let engine = &self.shared.engine;
        let mut stored = engine
            .controls_behind(turn.stream, codec::LINK_PREFIX.to_vec(), after, count_max)
            .await?;
        let more = stored.len() > page.count_max;
        stored.truncate(page.count_max);
        let links = stored.into_iter().map(|(key, value)| {
            let place = "the links of a subscription";
            let stream = codec::link_stream(&key).map_err(|malformed| damaged(place, malformed))?;
            let link = read_link(&stream, &value)?;
            Ok((stream, link))
        });
        Ok((links.collect::<Result<_, EngineError>>()?, more))
    }

    /// The page of links behind another one; none if that was the last.
    pub(super) async fn next_links(
        &self,
        turn: &Turn,
        page: &mut Option<LinksPage>,
    ) -> Result<Option<Vec<(StreamName, Link)>>, EngineError> {
        let Some(asked) = page.take() else { return Ok(None) };
        let (links, more) = self.links(turn, &asked).await?;
        if more {
            *page = Some(LinksPage {
                after: links.last().map(|(stream, _)| stream.clone()),
                ..asked
            });
        }
        Ok(Some(links))
    }

    /// The streams that a subscription names. Reads all its links.
    pub(super) async fn named_streams(&self, turn: &Turn) -> Result<Vec<StreamName>, EngineError> {
        let mut named = Vec::new();
        let mut page = (turn.subscription.state.explicit_links > 0).then(|| LinksPage::first(PAGE));
        while let Some(links) = self.next_links(turn, &mut page).await? {
            let explicit = links.into_iter().filter(|(_, link)| link.explicit);
            named.extend(explicit.map(|(stream, _)| stream));
        }
        Ok(named)
    }
}
