//! What stands in the control keys of a subscription's hidden stream. FORMAT.md describes it.

use std::collections::BTreeSet;

use bytes::Bytes;
use tailwater_stream::subscription::{
    Change, Delivery, Link, Pattern, Phase, SubscriptionState, Trouble, WakeId,
};
use tailwater_stream::{OffsetToken, Position, StreamId, StreamName, SubscriptionConfig, Timestamp};

use crate::codec::{Decoder, Encode, Malformed};

/// The key of what was asked for. A subscription without it was never finished.
pub(super) const CONFIG_KEY: &[u8] = b"config";
/// The key of how far it has come.
pub(super) const STATE_KEY: &[u8] = b"state";
/// What the keys of links begin with; the names of the streams follow.
pub(super) const LINK_PREFIX: &[u8] = b"link/";

/// The version of all three.
const VERSION: u8 = 1;

const GLOB: u8 = 1;
const EXPLICIT: u8 = 2;

const WEBHOOK: u8 = 0;
const PULL_WAKE: u8 = 1;

const IDLE: u8 = 0;
const WOKEN: u8 = 1;
const HELD: u8 = 2;

/// What never changes of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredConfig {
    pub(super) config: SubscriptionConfig,
    /// The URL of the stream root, as the client that made it used it.
    pub(super) root: Box<str>,
    pub(super) created_at: Timestamp,
}

/// The key of a stream's link.
pub(super) fn link_key(stream: &StreamName) -> Bytes {
    [LINK_PREFIX, stream.as_str().as_bytes()].concat().into()
}

/// The control key that a change sets or removes; none if it is not stored.
pub(super) fn stored(change: &Change) -> Option<(Bytes, Option<Bytes>)> {
    match change {
        Change::State(state) => Some((Bytes::from_static(STATE_KEY), Some(encode_state(state)))),
        Change::Link { stream, link } => Some((link_key(stream), link.map(encode_link))),
        Change::Pending { .. } | Change::Settled { .. } => None,
    }
}

pub(super) fn encode_config(stored: &StoredConfig) -> Bytes {
    let mut out = vec![VERSION];
    out.put_time(stored.created_at);
    out.put_str(&stored.root);
    let config = &stored.config;
    match &config.delivery {
        Delivery::Webhook { url } => {
            out.put_u8(WEBHOOK);
            out.put_str(url);
        }
        Delivery::PullWake { wake_stream } => {
            out.put_u8(PULL_WAKE);
            out.put_str(wake_stream.as_str());
        }
    }
    out.put_option(config.pattern.as_ref(), |out, pattern| {
        out.put_str(pattern.as_str());
    });
    out.put_varint(config.streams.len() as u64);
    for stream in &config.streams {
        out.put_str(stream.as_str());
    }
    out.put_varint(config.lease_ttl_ms);
    out.put_option(config.description.as_deref(), Encode::put_str);
    out.into()
}

pub(super) fn decode_config(bytes: &[u8]) -> Result<StoredConfig, Malformed> {
    let what = "what a subscription was made with";
    let mut from = Decoder::versioned(bytes, VERSION, what)?;
    let created_at = from.time()?;
    let root = from.str(what)?.into();
    let delivery = match from.u8(what)? {
        WEBHOOK => Delivery::Webhook {
            url: from.str(what)?.into(),
        },
        PULL_WAKE => Delivery::PullWake {
            wake_stream: from.name()?,
        },
        _ => return Err(Malformed { what }),
    };
    let pattern = from.option(what, |from| {
        Pattern::parse(from.str(what)?).ok().ok_or(Malformed { what })
    })?;
    let mut streams = BTreeSet::new();
    for _ in 0..from.varint(what)? {
        streams.insert(from.name()?);
    }
    let config = SubscriptionConfig {
        delivery,
        pattern,
        streams,
        lease_ttl_ms: from.varint(what)?,
        description: from.option(what, |from| from.str(what).map(Into::into))?,
    };
    from.end(what)?;
    Ok(StoredConfig {
        config,
        root,
        created_at,
    })
}

pub(super) fn encode_state(state: &SubscriptionState) -> Bytes {
    let mut out = vec![VERSION];
    out.put_varint(state.generation);
    match &state.phase {
        Phase::Idle => out.put_u8(IDLE),
        Phase::Woken { wake } => {
            out.put_u8(WOKEN);
            out.put_slice(&wake.get().to_le_bytes());
        }
        Phase::Held {
            wake,
            holder,
            ends_at,
        } => {
            out.put_u8(HELD);
            out.put_slice(&wake.get().to_le_bytes());
            out.put_option(holder.as_deref(), Encode::put_str);
            out.put_time(*ends_at);
        }
    }
    out.put_u8(u8::from(state.sent));
    out.put_option(state.trouble.as_ref(), |out, trouble| {
        out.put_varint(u64::from(trouble.failures));
        out.put_time(trouble.next_attempt_at);
        out.put_time(trouble.failed_at);
        out.put_str(&trouble.error);
    });
    out.put_varint(state.explicit_links);
    out.into()
}

pub(super) fn decode_state(bytes: &[u8]) -> Result<SubscriptionState, Malformed> {
    let what = "the state of a subscription";
    let mut from = Decoder::versioned(bytes, VERSION, what)?;
    let generation = from.varint(what)?;
    let phase = match from.u8(what)? {
        IDLE => Phase::Idle,
        WOKEN => Phase::Woken {
            wake: wake(&mut from, what)?,
        },
        HELD => Phase::Held {
            wake: wake(&mut from, what)?,
            holder: from.option(what, |from| from.str(what).map(Into::into))?,
            ends_at: from.time()?,
        },
        _ => return Err(Malformed { what }),
    };
    let sent = match from.u8(what)? {
        0 => false,
        1 => true,
        _ => return Err(Malformed { what }),
    };
    let trouble = from.option(what, |from| {
        Ok(Trouble {
            failures: u32::try_from(from.varint(what)?).ok().ok_or(Malformed { what })?,
            next_attempt_at: from.time()?,
            failed_at: from.time()?,
            error: from.str(what)?.into(),
        })
    })?;
    let explicit_links = from.varint(what)?;
    from.end(what)?;
    Ok(SubscriptionState {
        generation,
        phase,
        sent,
        trouble,
        explicit_links,
    })
}

fn wake(from: &mut Decoder<'_>, what: &'static str) -> Result<WakeId, Malformed> {
    let bytes = from.slice(16, what)?.try_into().expect("sixteen bytes");
    Ok(WakeId::new(u128::from_le_bytes(bytes)))
}

pub(super) fn encode_link(link: Link) -> Bytes {
    let mut out = vec![VERSION];
    out.put_u8((u8::from(link.glob) * GLOB) | (u8::from(link.explicit) * EXPLICIT));
    out.put_option(link.acked.owner(), |out, owner| {
        out.put_id(owner);
        out.put_position(link.acked.position());
    });
    out.into()
}

pub(super) fn decode_link(bytes: &[u8]) -> Result<Link, Malformed> {
    let what = "a link of a subscription";
    let mut from = Decoder::versioned(bytes, VERSION, what)?;
    let flags = from.u8(what)?;
    if flags == 0 || flags & !(GLOB | EXPLICIT) != 0 {
        return Err(Malformed { what });
    }
    let place: Option<(StreamId, Position)> = from.option(what, |from| Ok((from.id()?, from.position()?)))?;
    from.end(what)?;
    let acked = match place {
        None => OffsetToken::START,
        Some((_, Position::ZERO)) => return Err(Malformed { what }),
        Some((owner, position)) => OffsetToken::new(owner, position),
    };
    Ok(Link {
        glob: flags & GLOB != 0,
        explicit: flags & EXPLICIT != 0,
        acked,
    })
}

/// The stream of a link's key.
pub(super) fn link_stream(key: &[u8]) -> Result<StreamName, Malformed> {
    let what = "the name of a linked stream";
    let name = key.strip_prefix(LINK_PREFIX).ok_or(Malformed { what })?;
    let mut counted = Vec::with_capacity(name.len() + 2);
    counted.put_bytes(name);
    Decoder::new(&counted).name()
}

/// Whether a control key of a subscription's stream, and its value, are what they should be.
pub(crate) fn check_stored(key: &[u8], value: &[u8]) -> Result<(), Malformed> {
    match key {
        CONFIG_KEY => decode_config(value).map(drop),
        STATE_KEY => decode_state(value).map(drop),
        _ => link_stream(key).and_then(|_| decode_link(value)).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tailwater_stream::NameLimits;

    fn name(text: &str) -> StreamName {
        StreamName::parse(text, NameLimits::default()).expect("a name")
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn config() -> StoredConfig {
        StoredConfig {
            config: SubscriptionConfig {
                delivery: Delivery::PullWake {
                    wake_stream: name("wake"),
                },
                pattern: Some(Pattern::parse("a/*").expect("a pattern")),
                streams: BTreeSet::from([name("b"), name("c")]),
                lease_ttl_ms: 30_000,
                description: Some("é".into()),
            },
            root: "http://h/s".into(),
            created_at: Timestamp::from_millis(0x0102_0304),
        }
    }

    fn held() -> SubscriptionState {
        SubscriptionState {
            generation: 300,
            phase: Phase::Held {
                wake: WakeId::new(0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100),
                holder: Some("w1".into()),
                ends_at: Timestamp::from_millis(9),
            },
            sent: true,
            trouble: Some(Trouble {
                failures: 2,
                next_attempt_at: Timestamp::from_millis(7),
                failed_at: Timestamp::from_millis(6),
                error: "no".into(),
            }),
            explicit_links: 2,
        }
    }

    #[test]
    fn the_bytes_are_those_that_the_format_says() {
        assert_eq!(
            hex(&encode_config(&config())),
            concat!(
                "01",
                "0403020100000000",
                "0a687474703a2f2f682f73",
                "01",
                "0477616b65",
                "0103612f2a",
                "0201620163",
                "b0ea01",
                "0102c3a9",
            )
        );
        assert_eq!(
            hex(&encode_state(&held())),
            concat!(
                "01",
                "ac02",
                "02",
                "000102030405060708090a0b0c0d0e0f",
                "01027731",
                "0900000000000000",
                "01",
                "0102",
                "0700000000000000",
                "0600000000000000",
                "026e6f",
                "02",
            )
        );
        let id = StreamId::new(0x0b).expect("an id");
        let link = Link {
            glob: true,
            explicit: true,
            acked: OffsetToken::new(id, Position::new(0x10).expect("a position")),
        };
        assert_eq!(hex(&encode_link(link)), "0103010b000000000000001000000000000000");
        assert_eq!(hex(&encode_link(Link::GLOB)), "010100");
        assert_eq!(&link_key(&name("a/b"))[..], b"link/a/b");
    }

    #[test]
    fn what_was_written_is_read_back() {
        assert_eq!(decode_config(&encode_config(&config())), Ok(config()));
        assert_eq!(decode_state(&encode_state(&held())), Ok(held()));
        let woken = SubscriptionState {
            phase: Phase::Woken { wake: WakeId::new(1) },
            ..SubscriptionState::default()
        };
        assert_eq!(decode_state(&encode_state(&woken)), Ok(woken));
        assert_eq!(decode_link(&encode_link(Link::GLOB)), Ok(Link::GLOB));
        assert_eq!(link_stream(b"link/a/b"), Ok(name("a/b")));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = (decode_config(&bytes), decode_state(&bytes), decode_link(&bytes), link_stream(&bytes));
        }

        #[test]
        fn what_is_cut_short_is_refused(kept in 0..100_usize) {
            for whole in [encode_config(&config()), encode_state(&held()), encode_link(Link::GLOB)] {
                let cut = &whole[..kept.min(whole.len() - 1)];
                prop_assert!(decode_config(cut).is_err() && decode_state(cut).is_err() && decode_link(cut).is_err());
            }
        }
    }
}
