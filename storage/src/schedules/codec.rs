//! What stands in the control keys of a schedule's hidden stream. FORMAT.md describes it.

use bytes::Bytes;
use tailwater_stream::schedule::{EnqueueAs, Fired, Misfire, ScheduleState, Trouble};
use tailwater_stream::{ScheduleConfig, Timestamp};

use crate::codec::{Decoder, Encode, Malformed};

/// The key of what was asked for. A schedule without it was never finished.
pub(super) const CONFIG_KEY: &[u8] = b"config";
/// The key of how far it has come.
pub(super) const STATE_KEY: &[u8] = b"state";

/// The version of both.
const VERSION: u8 = 1;

const JOB: u8 = 0;
const MESSAGE: u8 = 1;

const SKIP: u8 = 0;
const ONCE: u8 = 1;
const ALL: u8 = 2;

/// What is changed by requests alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredConfig {
    pub(super) config: ScheduleConfig,
    pub(super) created_at: Timestamp,
}

pub(super) fn encode_config(stored: &StoredConfig) -> Bytes {
    let config = &stored.config;
    let mut out = vec![VERSION];
    out.put_time(stored.created_at);
    out.put_str(config.stream.as_str());
    out.put_str(&config.cron);
    out.put_str(&config.time_zone);
    out.put_str(&config.payload);
    out.put_u8(match config.enqueue_as {
        EnqueueAs::Job => JOB,
        EnqueueAs::Message => MESSAGE,
    });
    out.put_u8(match config.misfire {
        Misfire::Skip => SKIP,
        Misfire::Once => ONCE,
        Misfire::All => ALL,
    });
    out.put_u8(u8::from(config.paused));
    out.put_option(config.start_at, Encode::put_time);
    out.put_option(config.end_at, Encode::put_time);
    out.into()
}

pub(super) fn decode_config(bytes: &[u8]) -> Result<StoredConfig, Malformed> {
    let what = "what a schedule was made with";
    let mut from = Decoder::versioned(bytes, VERSION, what)?;
    let created_at = from.time()?;
    let config = ScheduleConfig {
        stream: from.name()?,
        cron: from.str(what)?.into(),
        time_zone: from.str(what)?.into(),
        payload: from.str(what)?.into(),
        enqueue_as: match from.u8(what)? {
            JOB => EnqueueAs::Job,
            MESSAGE => EnqueueAs::Message,
            _ => return Err(Malformed { what }),
        },
        misfire: match from.u8(what)? {
            SKIP => Misfire::Skip,
            ONCE => Misfire::Once,
            ALL => Misfire::All,
            _ => return Err(Malformed { what }),
        },
        paused: match from.u8(what)? {
            0 => false,
            1 => true,
            _ => return Err(Malformed { what }),
        },
        start_at: from.option(what, Decoder::time)?,
        end_at: from.option(what, Decoder::time)?,
    };
    from.end(what)?;
    Ok(StoredConfig { config, created_at })
}

pub(super) fn encode_state(state: &ScheduleState) -> Bytes {
    let mut out = vec![VERSION];
    out.put_time(state.settled);
    out.put_varint(state.fires);
    out.put_option(state.begun, Encode::put_time);
    out.put_option(state.making_up_until, Encode::put_time);
    out.put_option(state.last, |out, last| {
        out.put_time(last.at);
        out.put_time(last.enqueued_at);
    });
    out.put_option(state.trouble.as_ref(), |out, trouble| {
        out.put_varint(u64::from(trouble.failures));
        out.put_time(trouble.next_attempt_at);
        out.put_time(trouble.failed_at);
        out.put_str(&trouble.error);
    });
    out.into()
}

pub(super) fn decode_state(bytes: &[u8]) -> Result<ScheduleState, Malformed> {
    let what = "the state of a schedule";
    let mut from = Decoder::versioned(bytes, VERSION, what)?;
    let state = ScheduleState {
        settled: from.time()?,
        fires: from.varint(what)?,
        begun: from.option(what, Decoder::time)?,
        making_up_until: from.option(what, Decoder::time)?,
        last: from.option(what, |from| {
            Ok(Fired {
                at: from.time()?,
                enqueued_at: from.time()?,
            })
        })?,
        trouble: from.option(what, |from| {
            Ok(Trouble {
                failures: u32::try_from(from.varint(what)?).ok().ok_or(Malformed { what })?,
                next_attempt_at: from.time()?,
                failed_at: from.time()?,
                error: from.str(what)?.into(),
            })
        })?,
    };
    from.end(what)?;
    Ok(state)
}

/// Whether a control key of a schedule's stream, and its value, are what they should be.
pub(crate) fn check_stored(key: &[u8], value: &[u8]) -> Result<(), Malformed> {
    match key {
        CONFIG_KEY => decode_config(value).map(drop),
        STATE_KEY => decode_state(value).map(drop),
        _ => Err(Malformed {
            what: "the key of a schedule",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tailwater_stream::{NameLimits, StreamName};

    fn config() -> StoredConfig {
        StoredConfig {
            config: ScheduleConfig {
                stream: StreamName::parse("jobs", NameLimits::default()).expect("a name"),
                cron: "0 2 * * *".into(),
                time_zone: "UTC".into(),
                payload: "{}".into(),
                enqueue_as: EnqueueAs::Message,
                misfire: Misfire::All,
                paused: true,
                start_at: None,
                end_at: Some(Timestamp::from_millis(9)),
            },
            created_at: Timestamp::from_millis(0x0102_0304),
        }
    }

    fn state() -> ScheduleState {
        ScheduleState {
            settled: Timestamp::from_millis(8),
            fires: 300,
            begun: Some(Timestamp::from_millis(7)),
            making_up_until: None,
            last: Some(Fired {
                at: Timestamp::from_millis(5),
                enqueued_at: Timestamp::from_millis(6),
            }),
            trouble: Some(Trouble {
                failures: 2,
                next_attempt_at: Timestamp::from_millis(4),
                failed_at: Timestamp::from_millis(3),
                error: "no".into(),
            }),
        }
    }

    #[test]
    fn the_bytes_are_those_that_the_format_says() {
        let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
        assert_eq!(
            hex(&encode_config(&config())),
            concat!(
                "01",
                "0403020100000000",
                "046a6f6273",
                "09302032202a202a202a",
                "03555443",
                "027b7d",
                "01",
                "02",
                "01",
                "00",
                "010900000000000000",
            )
        );
        assert_eq!(
            hex(&encode_state(&state())),
            concat!(
                "01",
                "0800000000000000",
                "ac02",
                "010700000000000000",
                "00",
                "0105000000000000000600000000000000",
                "0102",
                "0400000000000000",
                "0300000000000000",
                "026e6f",
            )
        );
    }

    #[test]
    fn what_was_written_is_read_back() {
        assert_eq!(decode_config(&encode_config(&config())), Ok(config()));
        assert_eq!(decode_state(&encode_state(&state())), Ok(state()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = (decode_config(&bytes), decode_state(&bytes));
        }

        #[test]
        fn what_is_cut_short_is_refused(kept in 0..100_usize) {
            for whole in [encode_config(&config()), encode_state(&state())] {
                let cut = &whole[..kept.min(whole.len() - 1)];
                prop_assert!(decode_config(cut).is_err() && decode_state(cut).is_err());
            }
        }
    }
}
