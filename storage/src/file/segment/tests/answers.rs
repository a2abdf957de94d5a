//! What a segment answers is what the model answers.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Appends of one run, before they are placed.
#[derive(Debug, Clone)]
struct Planned {
    messages: Vec<u32>,
    later_ms: i64,
    alike: usize,
}

fn planned() -> impl Strategy<Value = Planned> {
    let messages = prop_oneof![
        8 => prop::collection::vec(1_u32..40, 1..6),
        2 => prop::collection::vec(prop_oneof![1_u32..4, 100_u32..9000], 1..40),
        1 => prop::collection::vec(1_u32..300_000, 1..4),
    ];
    let later_ms = prop_oneof![3 => Just(0), 6 => -3_i64..2000, 1 => any::<i64>()];
    let alike = prop_oneof![12 => Just(1_usize), 3 => 2_usize..6, 1 => 4000_usize..5000];
    (messages, later_ms, alike).prop_map(|(messages, later_ms, alike)| {
        let bytes: u32 = messages.iter().sum();
        Planned {
            messages,
            later_ms,
            alike: if bytes > 300 { alike.min(3) } else { alike },
        }
    })
}

fn run() -> impl Strategy<Value = (u64, Vec<Planned>)> {
    let from = prop_oneof![Just(0_u64), 0..5000_u64, 0..1_000_000_000_000_u64];
    (from, prop::collection::vec(planned(), 1..12))
}

fn model(stream: u64, from: u64, planned: &[Planned]) -> Model {
    let mut model = Model::new(stream, from);
    let mut now = 1_700_000_000_000_u64;
    for planned in planned {
        for _ in 0..planned.alike {
            now = now.wrapping_add_signed(planned.later_ms);
            model.push(now, &planned.messages);
        }
    }
    model
}

/// Positions of a run and a little beyond: ends of messages and their neighbours, and any other.
#[derive(Debug, Clone)]
struct Place {
    end: Index,
    beside: i64,
    anywhere: Option<Index>,
}

fn place() -> impl Strategy<Value = Place> {
    let anywhere = prop::option::weighted(0.3, any::<Index>());
    (any::<Index>(), -2_i64..3, anywhere).prop_map(|(end, beside, anywhere)| Place {
        end,
        beside,
        anywhere,
    })
}

impl Place {
    fn of(&self, model: &Model, ends: &[u64]) -> u64 {
        if let Some(anywhere) = &self.anywhere {
            return model.from + anywhere.index((model.until() - model.from) as usize + 1) as u64;
        }
        let end = self.end.get(ends).saturating_add_signed(self.beside);
        end.max(model.from)
    }
}

fn check_questions(
    segment: &Segment,
    run: &Run,
    model: &Model,
    places: &[(Place, Place, Place)],
) -> Result<(), TestCaseError> {
    let ends = model.message_ends();
    let answered = "a sound segment answers";
    for (from, until, begins) in places {
        let (from, until) = (from.of(model, &ends), until.of(model, &ends));
        let begins_before = begins.of(model, &ends);
        let last = segment
            .last_message_end(run, at(from), at(until))
            .expect(answered);
        prop_assert_eq!(last, model.last_message_end(from, until), "{} {}", from, until);
        let extents = segment.extents(run, at(from), at(until), at(begins_before));
        let expected = model.extents(from, until, begins_before);
        prop_assert_eq!(extents.expect(answered), expected, "{} {}", from, until);
        let index = segment.index_range(run, at(from), at(until)).expect(answered);
        prop_assert!(run.payload().end <= index.start && index.end <= run.table().end);
        if from < model.until() {
            let first = segment.first_message_end(run, at(from)).expect(answered);
            prop_assert_eq!(first, model.first_message_end(from));
        } else {
            damage(segment.first_message_end(run, at(from)));
        }
        if from <= until && until <= model.until() {
            let range = segment.payload(run, at(from), at(until)).expect(answered);
            prop_assert_eq!(&segment.look(range, <[u8]>::to_vec), &model.bytes(from, until));
        } else {
            damage(segment.payload(run, at(from), at(until)));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_segment_answers_what_was_written(
        runs in prop::collection::vec((run(), prop::collection::vec((place(), place(), place()), 1..30)), 1..5),
    ) {
        let models: Vec<_> = runs
            .iter()
            .zip(1..)
            .map(|(((from, planned), _), stream)| model(stream, *from, planned))
            .collect();
        let (kept, placed) = write(&models);
        let segment = kept.open().expect("opened");
        prop_assert_eq!(segment.runs().expect("a sound footer"), placed.clone());
        for ((run, model), (_, places)) in placed.iter().zip(&models).zip(&runs) {
            check_questions(&segment, run, model, places)?;
            prop_assert_eq!(&copied(&segment, run, 0).expect("sound"), &model.appends);
            let from = places[0].0.of(model, &model.message_ends());
            let behind = model.appends.iter().filter(|append| append.end() > from);
            let behind: Vec<_> = behind.cloned().collect();
            prop_assert_eq!(copied(&segment, run, from).expect("sound"), behind);
        }
        let report = segment.verify().expect("sound");
        let appends: usize = models.iter().map(|model| model.appends.len()).sum();
        let messages: usize = models.iter().map(|model| model.message_ends().len()).sum();
        prop_assert_eq!(report.runs, models.len() as u64);
        prop_assert_eq!(report.appends, appends as u64);
        prop_assert_eq!(report.messages, messages as u64);
        prop_assert_eq!(report.bytes, segment.map().len());
    }
}

#[test]
fn every_question_about_small_runs_is_answered() {
    let models = small();
    let (kept, runs) = write(&models);
    let segment = kept.open().expect("opened");
    for (run, model) in runs.iter().zip(&models) {
        for from in model.from..=model.until() {
            for until in from..=model.until() + 1 {
                let last = segment.last_message_end(run, at(from), at(until)).expect("sound");
                assert_eq!(last, model.last_message_end(from, until), "{from}..{until}");
                let extents = segment
                    .extents(run, at(from), at(until), at(until))
                    .expect("sound");
                assert_eq!(extents, model.extents(from, until, until), "{from}..{until}");
            }
        }
    }
}

/// Runs whose index is too long to be fetched as a whole.
#[test]
fn a_long_index_is_fetched_in_part() {
    let mut model = Model::new(1, 10);
    let mut rng = fastrand::Rng::with_seed(1);
    for now in 0..40_000 {
        model.push(now, &[rng.u32(1..100)]);
    }
    let (kept, runs) = write(std::slice::from_ref(&model));
    let (segment, run) = (kept.open().expect("opened"), &runs[0]);
    let table = segment.table_range(run).expect("it is one of its runs");
    assert_eq!(table, Some(run.table()));
    let whole = run.index();
    let index = |from, until| segment.index_range(run, at(from), at(until)).expect("sound");
    assert_eq!(index(0, model.until() + 5), whole);
    assert_eq!(index(model.from, model.until()), whole);
    let middle = u64::midpoint(model.from, model.until());
    let part = index(middle, middle + 1);
    assert!(part.end - part.start < (whole.end - whole.start) / 5);
    // A block of the index reaches as far as the next one begins.
    let next = index(middle, middle + 300_000);
    assert_eq!(next.start, part.start);
    assert!(next.end > part.end);
    assert!(index(model.from, model.from + 1).start == whole.start);
    assert!(index(model.until(), model.until()).end == whole.end);
    assert!(
        index(middle + 300_000, middle).start > part.start,
        "an empty range is one of its place"
    );
}

#[test]
fn a_short_index_is_fetched_without_its_table() {
    let (kept, runs) = write(&small());
    let segment = kept.open().expect("opened");
    for run in &runs {
        assert_eq!(segment.table_range(run).expect("it is one of its runs"), None);
        let index = segment.index_range(run, run.from, run.until).expect("sound");
        assert_eq!(index, run.index().start..run.table().end);
    }
}

#[test]
fn a_copy_ends_when_its_taker_refuses() {
    let (kept, runs) = write(&small());
    let segment = kept.open().expect("opened");
    let mut given = 0;
    let copied = segment.copy_run(&runs[1], at(0), &mut |_, _, _| {
        given += 1;
        if given == 3 {
            Err(BackendError::Poisoned)
        } else {
            Ok(())
        }
    });
    assert!(matches!(copied, Err(BackendError::Poisoned)));
    assert_eq!(given, 3);
}

#[test]
fn an_append_without_bytes_leaves_no_trace() {
    let kept = Kept::new();
    let mut writer = kept.writer();
    let nothing = |first_message| AppendHead {
        at: Timestamp::from_millis(0),
        first_message,
        ends: &MessageEnds::One,
    };
    writer.begin_run(id(1), at(0));
    writer.append(nothing(0), b"").expect("nothing to write");
    assert_eq!(writer.end_run().expect("nothing to write"), None);
    writer.begin_run(id(2), at(5));
    writer.append(nothing(7), b"some").expect("written");
    writer.append(nothing(8), b"").expect("nothing to write");
    writer.append(nothing(8), b"more").expect("written");
    let run = writer.end_run().expect("written").expect("there is one");
    let summary = writer.finish().expect("finished");
    assert_eq!((summary.runs, summary.payload_bytes), (1, 8));
    let segment = kept.open().expect("opened");
    assert_eq!(segment.runs().expect("sound"), [run]);
    assert_eq!(copied(&segment, &run, 0).expect("sound").len(), 2);
    assert_eq!(segment.verify().expect("sound").messages, 2);
}
