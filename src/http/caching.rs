//! What caches may keep of an answer, and how they ask whether it still holds (PROTOCOL.md §10).

use http::header::{HeaderMap, HeaderValue, IF_NONE_MATCH};
use tailwater_storage::engine::Incarnation;
use tailwater_storage::stream::{Lifetime, OffsetToken, StreamId};

use crate::config::CachePolicy;

/// The values of `Cache-Control` under a policy.
pub(crate) struct CacheHeaders {
    immutable: HeaderValue,
    short: HeaderValue,
    revalidate: HeaderValue,
}

impl CacheHeaders {
    pub(crate) fn new(policy: CachePolicy) -> Self {
        let of = HeaderValue::from_static;
        match policy {
            CachePolicy::Public => Self {
                immutable: of("public, max-age=31536000, immutable"),
                short: of("public, max-age=60, stale-while-revalidate=300"),
                revalidate: of("public, no-cache"),
            },
            CachePolicy::Private => Self {
                immutable: of("private, max-age=31536000, immutable"),
                short: of("private, max-age=60, stale-while-revalidate=300"),
                revalidate: of("private, no-cache"),
            },
            CachePolicy::NoStore => Self {
                immutable: of("no-store"),
                short: of("no-store"),
                revalidate: of("no-store"),
            },
        }
    }

    /// What caches may keep of the data behind an offset.
    ///
    /// Only an offset that belongs to this very incarnation cannot come to mean other data: the beginning, and
    /// what a fork has inherited, are the same text in other streams, so caches must ask again. A range that later
    /// data or the close has ended never changes. A stream that expires takes its data with it.
    pub(crate) fn of_range(
        &self,
        stream: &Incarnation,
        asked: Option<OffsetToken>,
        is_final: bool,
        is_empty: bool,
    ) -> HeaderValue {
        let own = asked.and_then(OffsetToken::owner) == Some(stream.id);
        let chosen = if !own || is_empty {
            &self.revalidate
        } else if is_final && stream.lifetime == Lifetime::Forever {
            &self.immutable
        } else if stream.lifetime == Lifetime::Forever {
            &self.short
        } else {
            &self.revalidate
        };
        chosen.clone()
    }
}

/// What an answer is a picture of: the same tag means the same bytes and the same end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Picture {
    pub(crate) id: StreamId,
    pub(crate) from: OffsetToken,
    pub(crate) to: OffsetToken,
    pub(crate) closed: bool,
    /// Whether nothing followed yet, which headers tell and a cache repeats.
    pub(crate) up_to_date: bool,
    pub(crate) records: bool,
    pub(crate) encoding: Option<&'static str>,
}

impl Picture {
    /// The entity tag.
    pub(crate) fn tag(&self) -> HeaderValue {
        use std::fmt::Write as _;
        let mut tag = String::with_capacity(100);
        let closed = if self.closed { ":c" } else { "" };
        let up_to_date = if self.up_to_date { ":u" } else { "" };
        let records = if self.records { ":r" } else { "" };
        let written = write!(
            tag,
            "\"{}:{}:{}{closed}{up_to_date}{records}",
            self.id, self.from, self.to
        );
        debug_assert!(written.is_ok(), "a string can be written to");
        if let Some(encoding) = self.encoding {
            tag.push(':');
            tag.push_str(encoding);
        }
        tag.push('"');
        HeaderValue::try_from(tag).expect("digits and letters")
    }
}

/// Whether the client already has what the tag stands for.
pub(crate) fn client_has(request: &HeaderMap, tag: &HeaderValue) -> bool {
    let tag = tag.as_bytes();
    request.get_all(IF_NONE_MATCH).iter().any(|value| {
        value.as_bytes().split(|byte| *byte == b',').any(|candidate| {
            let candidate = candidate.trim_ascii();
            candidate == b"*" || candidate == tag || candidate.strip_prefix(b"W/") == Some(tag)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_what_any_of_its_tags_names() {
        let tag = HeaderValue::from_static("\"a:b\"");
        let has = |value| {
            let mut request = HeaderMap::new();
            request.insert(IF_NONE_MATCH, HeaderValue::from_static(value));
            client_has(&request, &tag)
        };
        assert!(has("\"a:b\"") && has("W/\"a:b\"") && has("\"x\", \"a:b\"") && has("*"));
        assert!(!has("\"a\"") && !has("a:b") && !has(""));
        assert!(!client_has(&HeaderMap::new(), &tag));
    }
}
