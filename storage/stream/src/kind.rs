//! What a stream is for. A *run* is governed: the server begins and ends it, and clients append only under a lease
//! that the server gave.
//!
//! The lease is one producer, [`LEASE_PRODUCER`]. Its epoch is raised by the server alone: it is odd while somebody
//! holds the lease, and even while nobody does. So the append with which the server ends a lease fences its holder.

use crate::command::AppendCommand;
use crate::content_type::ContentKind;
use crate::producer::{Epoch, ProducerId, Producers};
use crate::queue::reserved;

/// The producer that is the lease of a run.
pub const LEASE_PRODUCER: &str = "lease";

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum StreamKind {
    /// Its clients say what becomes of it.
    #[default]
    Plain,
    /// A run of a job: it is governed.
    Run,
}

/// Why a client may not append this to a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseRefusal {
    /// The append is not made as the lease.
    #[error("a run takes appends only from the producer `{LEASE_PRODUCER}`")]
    NotTheLease,
    /// Nobody holds the lease now.
    #[error("nobody holds the lease of this run")]
    NotLeased,
    /// Only the server gives epochs.
    #[error("the lease has epoch {}, and {} was not given by this server", current.get(), claimed.get())]
    NotGiven {
        /// The epoch of the lease.
        current: Epoch,
        /// The one that the client claims.
        claimed: Epoch,
    },
    /// Only the server ends a run.
    #[error("only the server closes a run")]
    Closes,
    /// Only the server says what has happened to a run.
    #[error(
        "event {nth} of the body has the type {kind:?}, and only the server writes types that begin with `run.`"
    )]
    Reserved {
        /// The how-manieth event of the body, from 1.
        nth: usize,
        /// Its type, shortened.
        kind: Box<str>,
    },
}

/// Whether somebody holds the lease that has this epoch.
pub fn is_held(epoch: Epoch) -> bool {
    epoch.get() % 2 == 1
}

/// Whether a client may append this to a run that is not closed. An epoch that is over is left to the rules of
/// producers, which fence it.
pub(crate) fn check_lease(producers: &Producers, command: &AppendCommand) -> Result<(), LeaseRefusal> {
    let mark = command.producer.as_ref();
    let mark = mark.filter(|mark| mark.id.as_str() == LEASE_PRODUCER);
    let mark = mark.ok_or(LeaseRefusal::NotTheLease)?;
    let current = producers.get(&mark.id).map_or(Epoch::ZERO, |state| state.epoch);
    if mark.epoch > current {
        return Err(LeaseRefusal::NotGiven {
            current,
            claimed: mark.epoch,
        });
    }
    if mark.epoch == current && !is_held(current) {
        return Err(LeaseRefusal::NotLeased);
    }
    if mark.epoch < current {
        return Ok(());
    }
    if command.closes {
        return Err(LeaseRefusal::Closes);
    }
    check_events(command)
}

/// Events that tell what has happened to a run are the server's own. A body that cannot be read is refused by itself.
fn check_events(command: &AppendCommand) -> Result<(), LeaseRefusal> {
    let Ok((payload, ends)) = command.body.get() else {
        return Ok(());
    };
    if command.body.kind() != ContentKind::Json {
        return Ok(());
    }
    match reserved::first_of(payload, ends) {
        Some((nth, kind)) => Err(LeaseRefusal::Reserved { nth, kind }),
        None => Ok(()),
    }
}

/// The producer that is the lease of a run.
///
/// # Panics
/// Never: the text is one of an identifier.
pub fn lease_producer() -> ProducerId {
    ProducerId::parse(LEASE_PRODUCER).expect("an identifier")
}
