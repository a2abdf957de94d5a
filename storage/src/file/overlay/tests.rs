use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tailwater_stream::{Append, ControlChange, Part, StreamId, StreamState, Timestamp, Transition};

use super::Overlay;
use crate::file::journal::PartPlace;
use crate::file::tests::{append, at, created, stream};

/// So long nothing takes that is not stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// Long texts took much more memory than was counted, so that no fold was due for them.
#[test]
fn the_texts_of_what_is_not_folded_are_counted() {
    const TEXT_BYTES: u64 = 10_000;
    let overlay = Overlay::default();
    let part = |transition| Part::Stream {
        id: stream(),
        transition,
    };
    let place = |meta_len| PartPlace {
        meta_at: 0,
        meta_len,
        payload_at: 0,
    };
    let created = Box::new(created());
    overlay.apply(&part(Transition::Create(created)), 1, place(TEXT_BYTES as u32));
    let with_entry = overlay.memory_bytes();
    assert!(with_entry > TEXT_BYTES, "{with_entry}");
    let sequence = |text: &str| {
        part(Transition::Append(Append {
            stream_seq: Some(text.into()),
            ..append(0, b"")
        }))
    };
    let long = "b".repeat(TEXT_BYTES as usize);
    overlay.apply(&sequence("a"), 1, place(100));
    overlay.apply(&sequence(&long), 1, place(100));
    let with_sequence = overlay.memory_bytes();
    assert!(with_sequence >= with_entry + TEXT_BYTES, "{with_sequence}");
    // It has taken the place of the one before.
    overlay.apply(&sequence(&long), 1, place(100));
    assert_eq!(overlay.memory_bytes(), with_sequence);
}

/// Appends of a batch are grouped by where their streams stand. Whoever looks at a stream finds the same.
#[test]
fn a_batch_makes_of_each_stream_what_its_parts_make_one_after_the_other() {
    let mut random = fastrand::Rng::with_seed(0x7a11);
    // Runs of some hundred appends to few streams, whose ids are far from each other.
    let mut appended = vec![Vec::new(); 40];
    let parts: Vec<_> = (1..=8_000)
        .map(|number: u32| {
            let index = random.usize(..appended.len());
            let id = StreamId::new(index as u64 * 37 + 1).expect("an id");
            let tail = appended[index].len() as u64 * 5;
            let now = Timestamp::from_millis(u64::from(number));
            let transition = match random.u16(..1_000) {
                0 => Some(Transition::Import(Box::new(StreamState {
                    id,
                    tail: at(tail),
                    ..StreamState::created(&created())
                }))),
                1 => Some(Transition::Touch { at: now }),
                2 => Some(Transition::Trim {
                    before: at(tail / 2),
                    at: now,
                }),
                3 => Some(Transition::Delete { at: now }),
                4 => None,
                _ => {
                    appended[index].push(number);
                    Some(Transition::Append(append(tail, b"hello")))
                }
            };
            let control = || {
                Part::Control(ControlChange {
                    stream: id,
                    key: Bytes::from_static(b"key"),
                    value: Some(Bytes::copy_from_slice(&number.to_be_bytes())),
                })
            };
            let part = transition.map_or_else(control, |transition| Part::Stream { id, transition });
            let place = PartPlace {
                meta_at: number,
                meta_len: 100,
                payload_at: number + 100,
            };
            (part, place)
        })
        .collect();
    let (single, batch) = (Overlay::default(), Overlay::default());
    for (part, place) in &parts {
        single.apply(part, 7, *place);
    }
    batch.apply_all(parts.iter().map(|(part, place)| (part, *place)), 7);
    let said = |overlay: &Overlay| {
        let ids = overlay.ids();
        ids.iter()
            .map(|id| overlay.with(*id, |delta| format!("{id} {delta:?}")))
            .collect::<Vec<_>>()
    };
    assert_eq!(said(&batch), said(&single));
    assert_eq!(batch.memory_bytes(), single.memory_bytes());
    for (id, appended) in batch.ids().iter().zip(&appended) {
        let places = batch.with(*id, |delta| {
            let extents = delta.extents.iter();
            extents.map(|extent| extent.meta_at).collect::<Vec<_>>()
        });
        assert_eq!(places.as_ref(), Some(appended), "{id}");
    }
    let bytes = appended.iter().map(|appended| appended.len() * 5).sum::<usize>();
    assert_eq!(batch.stored_bytes(), bytes as i64);
}

/// A fold looks at a stream for as long as its row is being written, and readers on async workers waited for that.
#[test]
fn whoever_looks_at_a_stream_does_not_wait_for_others_who_look() {
    let overlay = Overlay::default();
    let part = Part::Stream {
        id: stream(),
        transition: Transition::Append(append(0, b"hello")),
    };
    let place = PartPlace {
        meta_at: 0,
        meta_len: 100,
        payload_at: 100,
    };
    overlay.apply(&part, 1, place);
    let (looks, has_looked) = channel();
    thread::scope(|scope| {
        overlay.with(stream(), |_| {
            scope.spawn(|| looks.send(overlay.with(stream(), |_| ()).is_some()));
            let found = has_looked.recv_timeout(PATIENCE);
            assert!(found.expect("nobody makes it wait"));
        });
    });
}
