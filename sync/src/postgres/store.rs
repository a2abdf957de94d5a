//! The tables, and what can be asked of them: one connection, one transaction at a time. Knows neither when to
//! connect anew nor what to do about errors.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Transaction;

use super::connection::Connection;
use super::error::Error;
use super::lease::Fence;
use super::place::{Fault, Outcome, Place, Tail};
use super::settings::Settings;
use super::streams_table::Claim;
use super::{NAME_BYTES_MAX, RouteFault, commit, leases_table, routed, schema, streams_table};
use crate::event::{Chunk, Incarnation, Offset};

/// One connection to the tables. Whoever wants to write more at a time has more of them.
///
/// A call that is dropped half-way is rolled back, or committed if it had come so far. The store is closed then; the
/// first commit of another one tells.
#[derive(Debug)]
pub struct Store {
    pub(super) connection: Connection,
    fence: Option<Fence>,
}

impl Store {
    /// Connects, and checks that the mirror can work with the server. The tables need not be there yet.
    ///
    /// # Errors
    /// Whatever keeps the mirror from it.
    pub async fn connect(settings: &Settings) -> Result<Self, Error> {
        let connection = Connection::open(settings).await?;
        Ok(Self {
            connection,
            fence: None,
        })
    }

    /// From now on, writes only what these leases allow, and only while they hold: each transaction checks them
    /// first, and keeps others from taking them until it ends. Without a fence everything is written.
    pub fn fence(&mut self, fence: Fence) {
        self.fence = Some(fence);
    }

    /// Makes the tables, or brings them up to date, and those of routes that ask for it. Any number of mirrors may do
    /// so at once.
    ///
    /// # Errors
    /// [`Error::SchemaTooNew`], [`Error::MissingRights`], and whatever else keeps the mirror from it.
    pub async fn migrate(&mut self) -> Result<(), Error> {
        let routes = Arc::clone(&self.connection.routes);
        let work = async |transaction: &Transaction<'_>| {
            schema::migrate(transaction).await?;
            routed::make_tables(transaction, &routes).await
        };
        self.connection.transaction("a migration", work).await
    }

    /// What is wrong with the tables of routes. Changes nothing.
    ///
    /// # Errors
    /// Whatever keeps the mirror from looking.
    pub async fn route_faults(&mut self) -> Result<Vec<RouteFault>, Error> {
        let routes = Arc::clone(&self.connection.routes);
        let work = async |transaction: &Transaction<'_>| routed::faults(transaction, &routes).await;
        self.connection
            .transaction("a look at the tables of routes", work)
            .await
    }

    /// How far the mirror has come in those of these streams that it knows.
    ///
    /// # Errors
    /// Whatever keeps the mirror from it.
    pub async fn places(&mut self, streams: &[&str]) -> Result<HashMap<String, Place>, Error> {
        let work = async |transaction: &Transaction<'_>| streams_table::places(transaction, streams).await;
        self.connection.transaction("the question for places", work).await
    }

    /// Writes chunks in one transaction: all of those that begin where their streams' places are, rows and places
    /// together. The answer has an outcome for each of them. Chunks of one stream that follow one another may come
    /// together.
    ///
    /// # Errors Whatever keeps the mirror from it. Nothing was written then, unless the error is [`Error::Lost`] or
    /// [`Error::TimedOut`]: whether it was is told by committing the same again. The store is closed after any error
    /// but [`Error::Unmappable`]; make another.
    pub async fn commit(&mut self, chunks: &[Chunk]) -> Result<Vec<Outcome>, Error> {
        commit::commit(&mut self.connection, self.fence.as_ref(), chunks).await
    }

    /// Moves a stream's place from `from` to `to`, over events that were trimmed before the mirror has read them, and
    /// notes that as the stream's last error.
    ///
    /// # Errors Whatever keeps the mirror from it.
    pub async fn skip(
        &mut self,
        stream: &str,
        incarnation: Incarnation,
        from: Offset,
        to: Offset,
    ) -> Result<Outcome, Error> {
        if stream.len() > NAME_BYTES_MAX {
            return Ok(Outcome::NameTooLong);
        }
        let claim = Claim {
            stream,
            incarnation,
            after: from,
            next: to,
            next_index: None,
            events: 0,
            skipped_bytes: to.position().saturating_sub(from.position()),
            closed: false,
        };
        let fence = self.fence.as_ref();
        let work = async |transaction: &Transaction<'_>| {
            let held = leases_table::hold(transaction, fence, std::iter::once(stream)).await?;
            match held.has(stream) {
                true => skip(transaction, &claim).await,
                false => Ok(Outcome::Fenced),
            }
        };
        self.connection.transaction("a skip", work).await
    }

    /// Marks streams as deleted at the source, and tells which; their rows stay. Left out are those that the mirror has
    /// nothing of, has marked already, or has a newer stream of the name of; and those that it is fenced off from.
    ///
    /// # Errors Whatever keeps the mirror from it.
    pub async fn mark_deleted(&mut self, streams: &[(&str, Incarnation)]) -> Result<Vec<String>, Error> {
        let fence = self.fence.as_ref();
        let work = async |transaction: &Transaction<'_>| {
            let names = streams.iter().map(|(stream, _)| *stream);
            let held = leases_table::hold(transaction, fence, names).await?;
            let streams: Vec<_> = streams
                .iter()
                .filter(|(stream, _)| held.has(stream))
                .copied()
                .collect();
            streams_table::mark_deleted(transaction, &streams).await
        };
        self.connection.transaction("a mark", work).await
    }

    /// Notes what went wrong with streams, in `tailwater.streams.last_error`, also before anything of them was
    /// written. A stream whose name is too long for the tables has no row to note it in.
    ///
    /// # Errors Whatever keeps the mirror from it.
    pub async fn note_errors(&mut self, faults: &[Fault<'_>]) -> Result<(), Error> {
        let fence = self.fence.as_ref();
        let work = async |transaction: &Transaction<'_>| {
            let held =
                leases_table::hold(transaction, fence, faults.iter().map(|fault| fault.stream)).await?;
            let faults: Vec<_> = faults
                .iter()
                .filter(|fault| fault.stream.len() <= NAME_BYTES_MAX && held.has(fault.stream))
                .copied()
                .collect();
            streams_table::note_errors(transaction, &faults).await
        };
        self.connection.transaction("a note of errors", work).await
    }

    /// Notes where streams end, for the columns `lag_bytes` and `lag_events`. Streams that the mirror has nothing of
    /// are passed over.
    ///
    /// # Errors Whatever keeps the mirror from it.
    pub async fn note_tails(&mut self, tails: &[Tail<'_>]) -> Result<(), Error> {
        let fence = self.fence.as_ref();
        let work = async |transaction: &Transaction<'_>| {
            let held = leases_table::hold(transaction, fence, tails.iter().map(|tail| tail.stream)).await?;
            let tails: Vec<_> = tails
                .iter()
                .filter(|tail| held.has(tail.stream))
                .copied()
                .collect();
            streams_table::note_tails(transaction, &tails).await
        };
        self.connection.transaction("a note of tails", work).await
    }

    /// Whether the connection has ended: another store has to be made then.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }
}

/// Moves a place without rows, and says so where it can be seen.
async fn skip(transaction: &Transaction<'_>, claim: &Claim<'_>) -> Result<Outcome, Error> {
    if streams_table::claim(transaction, std::iter::once(claim))
        .await?
        .is_empty()
    {
        let place = streams_table::places(transaction, &[claim.stream])
            .await?
            .remove(claim.stream);
        return Ok(Outcome::Moved { place });
    }
    let (first, end) = (claim.after.position(), claim.next.position());
    let message = format!("bytes {first} to {end} were trimmed before they were mirrored, and are missing");
    let fault = Fault {
        stream: claim.stream,
        incarnation: claim.incarnation,
        message: &message,
    };
    streams_table::note_errors(transaction, &[fault]).await?;
    Ok(Outcome::Written {
        rows: 0,
        dead_letters: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing is called: that this compiles is the test.
    #[test]
    fn every_call_may_be_spawned_on_any_thread() {
        fn spawned<T>(_: impl Future<Output = T> + Send) {}
        let _ = |settings: &Settings, store: &mut Store, of: Incarnation, offset: Offset| {
            spawned(Store::connect(settings));
            spawned(store.migrate());
            spawned(store.places(&["a"]));
            spawned(store.commit(&[]));
            spawned(store.skip("a", of, offset, offset));
            spawned(store.mark_deleted(&[("a", of)]));
            spawned(store.note_errors(&[]));
            spawned(store.note_tails(&[]));
        };
    }
}
