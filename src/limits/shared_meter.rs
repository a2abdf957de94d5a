//! Measures a task that works for many requests at once, as that of a connection in HTTP/2, and has paid for what of it
//! was for reads. Knows nothing of HTTP.

use std::sync::atomic::{AtomicU64, Ordering};

use super::meter::Work;
use super::read_share::{Entered, ReadShare};

/// What is done for an answer beside its body counts as much as so many bytes: its request and its head are read and
/// written, and two tasks are woken for it.
const ANSWER_BYTES: u64 = 1024;

/// Looks at the clock when the task goes on and when it pauses. What it took is divided by the bytes that it moved: those of
/// an answer are for what it answers, and those that came are mostly bodies of appends.
///
/// What it takes before anything is answered is booked with the next answer: mostly it was asked for that.
#[derive(Debug, Default)]
pub(crate) struct SharedMeter {
    /// What it took and is not booked yet, in nanoseconds.
    took_ns: AtomicU64,
    /// Bytes that answers had since something was last booked, by the number of their [`Work`].
    answered: [AtomicU64; Work::ALL.len()],
    /// Bytes that had come when something was last booked.
    came: AtomicU64,
}

impl SharedMeter {
    /// Goes on with the task. `came` says how many bytes have come since it began.
    pub(crate) fn measure<T>(
        &self,
        share: &ReadShare,
        task: impl FnOnce() -> T,
        came: impl FnOnce() -> u64,
    ) -> T {
        if !share.is_limited() {
            return task();
        }
        let since_ns = share.now_ns();
        let done = task();
        let now_ns = share.now_ns();
        self.took_at(now_ns.saturating_sub(since_ns), came(), share, now_ns);
        done
    }

    /// An answer begins.
    pub(crate) fn answers(&self, work: Work) {
        self.sends(work, ANSWER_BYTES);
    }

    /// Some of an answer's body is sent.
    pub(crate) fn sends(&self, work: Work, bytes: u64) {
        self.answered[work as usize].fetch_add(bytes, Ordering::Relaxed);
    }

    fn took_at(&self, took_ns: u64, came: u64, share: &ReadShare, now_ns: u64) {
        let answered = self.answered.each_ref().map(take);
        let took_ns = took_ns.saturating_add(take(&self.took_ns));
        let sent: u64 = answered.iter().sum();
        if sent == 0 {
            return self.took_ns.store(took_ns, Ordering::Relaxed);
        }
        let moved = sent + came.saturating_sub(self.came.swap(came, Ordering::Relaxed));
        for (work, bytes) in Work::ALL.into_iter().zip(answered) {
            let part_ns = u128::from(took_ns) * u128::from(bytes) / u128::from(moved);
            let part_ns = u64::try_from(part_ns).expect("a part is not more than all");
            match work {
                Work::Other | Work::Waiting => {}
                Work::FreeRead => share.settle_at(Entered { paid_ns: 0 }, part_ns, now_ns),
                // It is a part of what such a read costs, whose rest is settled by its own meter.
                Work::PaidRead => share.settle_beside_at(part_ns, now_ns),
                Work::Refusal => share.settle_refusal_at(part_ns, now_ns),
            }
        }
    }

    /// Bytes of answers to that which are not booked yet.
    #[cfg(test)]
    pub(crate) fn answered(&self, work: Work) -> u64 {
        self.answered[work as usize].load(Ordering::Relaxed)
    }
}

/// Takes all there is; mostly that is nothing, which needs no write.
fn take(number: &AtomicU64) -> u64 {
    match number.load(Ordering::Relaxed) {
        0 => 0,
        _ => number.swap(0, Ordering::Relaxed),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ANSWER_BYTES, SharedMeter, Work};
    use crate::limits::{ReadShare, ReadShareConfig};

    const MS: u64 = 1_000_000;

    /// A share without credit, while an append is made.
    fn share() -> ReadShare {
        let share = ReadShare::new(ReadShareConfig {
            percent: 50,
            threads: 1,
            wait_max: Duration::ZERO,
        });
        assert_eq!(share.try_enter_at(true, 0), None);
        share
    }

    #[test]
    fn what_a_connection_takes_is_divided_by_what_it_moved_and_for_whom() {
        let (share, meter) = (share(), SharedMeter::default());
        meter.answers(Work::FreeRead);
        meter.sends(Work::FreeRead, ANSWER_BYTES);
        meter.answers(Work::Refusal);
        meter.answers(Work::Other);
        // As many bytes came with appends.
        meter.took_at(8 * MS, 4 * ANSWER_BYTES, &share, 0);
        assert_eq!((share.credit_ns(), share.refusals_ns()), (-2_000_000, MS));
        assert_eq!(share.taken_ns(), 3 * MS);
        // What is booked is booked once.
        meter.answers(Work::Other);
        meter.took_at(8 * MS, 4 * ANSWER_BYTES, &share, 0);
        assert_eq!(share.taken_ns(), 3 * MS);
    }

    #[test]
    fn what_a_connection_takes_to_read_a_request_is_booked_with_its_answer() {
        let (share, meter) = (share(), SharedMeter::default());
        meter.took_at(MS, 0, &share, 0);
        assert_eq!(share.taken_ns(), 0, "nobody knows for whom");
        meter.answers(Work::FreeRead);
        meter.took_at(2 * MS, 0, &share, 0);
        assert_eq!((share.credit_ns(), share.taken_ns()), (-3_000_000, 3 * MS));
    }

    /// Reads in HTTP/2 are let in by what they cost with the writing, which is most of a large one. Those that paid
    /// nothing, as long-polls do that an append wakes, say nothing of what a read costs.
    #[test]
    fn what_is_sent_for_reads_that_have_paid_moves_what_a_read_is_taken_to_cost() {
        let (share, meter) = (share(), SharedMeter::default());
        let before_ns = share.cost_ns();
        meter.answers(Work::FreeRead);
        meter.took_at(MS, 0, &share, 0);
        assert_eq!(share.cost_ns(), before_ns);
        meter.answers(Work::PaidRead);
        meter.took_at(MS, 0, &share, 0);
        assert_eq!(share.cost_ns(), before_ns + MS / 16);
        assert_eq!(share.credit_ns(), -2_000_000);
    }
}
