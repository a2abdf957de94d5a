//! Reads every row of a shard, and asks whether they agree with each other, and with those of other shards that have to
//! do with them.

use std::path::Path;

use redb::{ReadTransaction, ReadableTable as _};
use tailwater_stream::{StreamId, StreamName};

use super::bytes::Bytes;
use crate::acid::placement::Placement;
use crate::acid::prefixes::{MARK, key_of, prefixes_of};
use crate::acid::tables::{self, REDIRECTS, ShardMeta};
use crate::backend::BackendError;
use crate::database::{self, Failure, View};
use crate::findings::Findings;
use crate::stream_tables::audit::{Auditor, Sums};
use crate::stream_tables::queries;
use crate::stream_tables::rows::StreamRow;

/// What the rows of a shard say, and what is wrong with them.
pub(super) struct Audit {
    pub(super) found: Findings,
    pub(super) sums: Sums,
    pub(super) bytes: Bytes,
}

/// One shard among all.
#[derive(Clone, Copy)]
struct Among<'a> {
    number: usize,
    /// None where the rows cannot be looked at.
    all: &'a [Option<View>],
}

/// Asserts that a shard is the one that `expected` says, as far as it says which one it is.
pub(super) fn check_identity(shard: &View, path: &Path, expected: &ShardMeta) -> Result<(), BackendError> {
    match shard.ask(tables::meta) {
        Ok(meta) => meta
            .check_identity(expected)
            .map_err(|what| BackendError::Damaged {
                what: format!("the shard {}: {what}", path.display()),
            }),
        // The pass over what is known of the shard tells of it.
        Err(BackendError::Damaged { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Looks at every table of the shard that `expected` is, one of `all`. What cannot be read is passed over.
pub(super) fn audit(
    transaction: &ReadTransaction,
    expected: &ShardMeta,
    all: &[Option<View>],
) -> Result<Audit, Failure> {
    let mut auditor = Auditor::new(transaction, format!("shard {:03}", expected.number))?;
    let among = Among {
        number: expected.number as usize,
        all,
    };
    let mut meta = None;
    auditor.pass("meta", |auditor| {
        meta = Some(tables::meta(auditor.transaction)?);
        database::changes(auditor.transaction).map(drop)
    });
    let mut bytes = Bytes::default();
    auditor.stream_tables(|auditor, row| {
        among.check_stream(auditor, row)?;
        bytes.check_stream(auditor, row)
    });
    Bytes::check_owners(&mut auditor);
    auditor.pass("redirects", |auditor| among.redirects(auditor));
    if let Some(meta) = meta {
        let sums = auditor.sums;
        auditor.compare_last_id(meta.last_id, sums.last_id);
        auditor.compare("streams", meta.streams, sums.streams);
        auditor.compare("bytes", meta.payload_bytes, sums.payload_bytes);
    }
    Ok(Audit {
        found: auditor.found,
        sums: auditor.sums,
        bytes,
    })
}

impl Among<'_> {
    fn shard_of(self, placement: Placement) -> usize {
        placement.shard(self.all.len())
    }

    /// What a shard answers. None if it cannot be asked; what is wrong in it is told of when it is looked at itself.
    fn ask<T>(self, shard: usize, question: impl Fn(&ReadTransaction) -> Result<T, Failure>) -> Option<T> {
        self.all[shard].as_ref()?.ask(question).ok()
    }

    /// A stream stands where its id says, and whoever looks its name up finds it.
    fn check_stream(self, auditor: &mut Auditor<'_>, row: &StreamRow) -> Result<(), Failure> {
        let (id, name) = (row.state.id, &row.state.name);
        let belongs = self.shard_of(Placement::of_id(id));
        if belongs != self.number {
            let what = format!("stream {id} belongs in shard {belongs:03}");
            auditor.wrong("streams", &what);
        }
        let looked_up = self.shard_of(Placement::of_name(name));
        // Whoever looks the name up does not want one that is deleted.
        if row.state.deleted || looked_up == self.number {
            return Ok(());
        }
        let leads_here = |placements: Vec<u8>| {
            let mut shards = placements.into_iter().map(|to| self.shard_of(Placement(to)));
            shards.any(|shard| shard == self.number)
        };
        let leads = self.ask(looked_up, |tables| tables::redirects(tables, name.as_str()));
        let mut below = prefixes_of(name).map(key_of).filter_map(|key| {
            let looked_up = self.shard_of(Placement::of_name_bytes(key.as_bytes()));
            self.ask(looked_up, |tables| tables::redirects(tables, &key))
        });
        if leads.is_some_and(|leads| !leads_here(leads)) && !below.any(leads_here) {
            let what = format!("{name} does not lead to stream {id} from shard {looked_up:03}");
            auditor.wrong("redirects", &what);
        }
        if let Some(Some(other)) = self.ask(looked_up, |tables| alive(tables, name)) {
            let what = format!("stream {id} has the name {name}, which leads to stream {other}");
            auditor.wrong("names", &what);
        }
        Ok(())
    }

    /// Redirects stand where names are looked up. Those that lead to no stream are counted, for they do no harm.
    fn redirects(self, auditor: &mut Auditor<'_>) -> Result<(), Failure> {
        let mut to_none = 0_u64;
        for entry in auditor.transaction.open_table(REDIRECTS)?.iter()? {
            let (key, value) = entry?;
            if key.value().starts_with(MARK.as_bytes()) {
                self.prefix(auditor, key.value(), value.value());
                continue;
            }
            let read = queries::parse_name(key.value())
                .and_then(|name| Ok((name, tables::read_redirects(key.value(), value.value())?)));
            let Some((name, placements)) = auditor.row("redirects", read) else {
                continue;
            };
            let looked_up = self.shard_of(Placement::of_name(&name));
            if looked_up != self.number {
                let what = format!("{name} is looked up in shard {looked_up:03}");
                auditor.wrong("redirects", &what);
            }
            let leads_nowhere = |placement: &u8| {
                let other = self.shard_of(Placement(*placement));
                let led_to = self.ask(other, |tables| queries::id_of(tables, &name));
                led_to == Some(None)
            };
            to_none += u64::from(placements.iter().all(leads_nowhere));
        }
        if to_none > 0 {
            auditor.found.note(format!(
                "shard {:03} leads {to_none} names to where no stream has them: those streams are gone, or never came to be",
                self.number
            ));
        }
        Ok(())
    }
}

impl Among<'_> {
    /// The redirect of a prefix stands where it is looked up. Whether any name is below it does not matter.
    fn prefix(self, auditor: &mut Auditor<'_>, key: &[u8], value: &[u8]) {
        let read = tables::read_prefix(key).and_then(|prefix| {
            let _placements = tables::read_redirects(key, value)?;
            Ok(prefix.to_owned())
        });
        let Some(prefix) = auditor.row("redirects", read) else {
            return;
        };
        let looked_up = self.shard_of(Placement::of_name_bytes(key));
        if looked_up != self.number {
            let what = format!("names that begin with {prefix} are looked up in shard {looked_up:03}");
            auditor.wrong("redirects", &what);
        }
    }
}

/// The stream that a name leads to in a shard, if it is not deleted.
fn alive(tables: &ReadTransaction, name: &StreamName) -> Result<Option<StreamId>, Failure> {
    let id = queries::id_of(tables, name)?;
    let row = id.map_or(Ok(None), |id| queries::head(tables, id))?;
    Ok(row.filter(|row| !row.state.deleted).map(|row| row.state.id))
}
