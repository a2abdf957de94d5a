//! What is to be noted in PostgreSQL beside places and rows, and how much of it may wait there. Does no IO.

use std::collections::VecDeque;

use super::ledger::{Job, StreamError};
use super::removal::Absent;

/// Deletions that wait, and errors that wait, each. PostgreSQL may be away for long.
const NOTES_MAX: usize = 10_000;
/// Streams of which one transaction notes something.
const PART_MAX: usize = 1_000;

/// The notes that wait for PostgreSQL.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Of streams that are not at the source any more.
    deletions: VecDeque<Absent>,
    errors: VecDeque<StreamError>,
    /// Questions for the streams that the tables know, behind a name.
    surveys: VecDeque<Option<String>>,
}

impl Notes {
    /// Takes in that a stream is deleted at the source. False if too much waits: then it is for those to find out who
    /// look through the tables.
    #[must_use]
    pub(super) fn add_deletion(&mut self, deleted: Absent) -> bool {
        let has_room = self.deletions.len() < NOTES_MAX;
        if has_room {
            self.deletions.push_back(deleted);
        }
        has_room
    }

    /// Takes in an error of a stream. What is too much is in the log alone.
    pub(super) fn add_error(&mut self, error: StreamError) {
        if self.errors.len() < NOTES_MAX {
            self.errors.push_back(error);
        }
    }

    /// Takes in a question for the streams that the tables know.
    pub(super) fn add_survey(&mut self, after: Option<String>) {
        self.surveys.push_back(after);
    }

    /// The next job: notes about streams that are still this instance's, or a question about all of them.
    pub(super) fn next(&mut self, is_own: impl Fn(&str) -> bool) -> Option<Job> {
        let deleted = part_of(&mut self.deletions, |deleted| is_own(&deleted.stream));
        if !deleted.is_empty() {
            return Some(Job::MarkDeleted(deleted));
        }
        let errors = part_of(&mut self.errors, |error| is_own(&error.stream));
        if !errors.is_empty() {
            return Some(Job::NoteErrors(errors));
        }
        let after = self.surveys.pop_front()?;
        Some(Job::Survey { after })
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.deletions.len() + self.errors.len() + self.surveys.len()
    }
}

/// What one transaction takes of notes; those that are nobody's here any more are dropped.
fn part_of<T>(notes: &mut VecDeque<T>, is_own: impl Fn(&T) -> bool) -> Vec<T> {
    let waiting = std::iter::from_fn(|| notes.pop_front());
    waiting.filter(is_own).take(PART_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(number: usize) -> Absent {
        Absent {
            stream: format!("s/{number}").into(),
            incarnation: "0000000000000001".parse().expect("an id"),
        }
    }

    fn error(number: usize) -> StreamError {
        let Absent { stream, incarnation } = stream(number);
        StreamError {
            stream,
            incarnation,
            message: "it cannot be read".to_owned(),
        }
    }

    /// The numbers of the streams whose deletion a job notes.
    fn deleted(job: Option<Job>) -> Vec<Absent> {
        match job {
            Some(Job::MarkDeleted(deleted)) => deleted,
            job => panic!("it is no note of deletions: {job:?}"),
        }
    }

    #[test]
    fn deletions_are_noted_many_at_once_in_their_order_and_by_who_has_the_streams() {
        let mut notes = Notes::default();
        for number in 0..2 * PART_MAX {
            assert!(notes.add_deletion(stream(number)));
        }
        let is_own = |name: &str| name != "s/3";
        let first = deleted(notes.next(is_own));
        assert_eq!(first.len(), PART_MAX);
        assert_eq!(first[..4], [0, 1, 2, 4].map(stream));
        assert_eq!(deleted(notes.next(is_own)).len(), PART_MAX - 1);
        assert_eq!(notes.len(), 0);
        assert!(notes.next(is_own).is_none());
    }

    #[test]
    fn no_more_waits_than_there_is_room_for_and_deletions_that_are_left_out_are_told() {
        let mut notes = Notes::default();
        let taken = (0..2 * NOTES_MAX).filter(|number| notes.add_deletion(stream(*number)));
        assert_eq!(taken.count(), NOTES_MAX);
        for _ in 0..2 * NOTES_MAX {
            notes.add_error(error(0));
        }
        assert_eq!(notes.len(), 2 * NOTES_MAX);
        // What follows from what was left out is never left out itself.
        notes.add_survey(None);
        assert_eq!(notes.len(), 2 * NOTES_MAX + 1);
        let _ = notes.next(|_| true);
        assert!(notes.add_deletion(stream(0)), "there is room again");
    }

    #[test]
    fn errors_are_noted_many_at_once_by_who_has_the_streams() {
        let mut notes = Notes::default();
        for number in 0..=PART_MAX {
            notes.add_error(error(number));
        }
        let next = notes.next(|name| name != "s/1");
        assert!(
            matches!(&next, Some(Job::NoteErrors(errors)) if errors.len() == PART_MAX && errors[1] == error(2)),
            "{next:?}"
        );
        assert_eq!(notes.len(), 0);
    }

    #[test]
    fn a_question_about_all_streams_is_asked_whoever_has_them() {
        let mut notes = Notes::default();
        notes.add_error(error(0));
        notes.add_survey(Some("s/9".to_owned()));
        let next = notes.next(|_| false);
        assert!(
            matches!(&next, Some(Job::Survey { after }) if after.as_deref() == Some("s/9")),
            "{next:?}"
        );
    }
}
