//! The SQL of `tailwater.leases` and `tailwater.instances`: who is alive, who holds what, and that only holders write.
//! Decides nothing about shares.
//!
//! An instance lives as long as the time in its row has not come, by PostgreSQL's clock. Once it has come, the row is
//! never renewed again: whoever finds it may free its leases and remove it. A lease changes hands only under a lock
//! that a transaction which writes by it holds as well, so no write by a lease is committed after the lease has gone.
//!
//! Mirrors that were told to mirror the same streams share them; each such set of streams has leases of its own. A
//! holder is in one set, so who holds a lease says which set it is of.
//!
//! Rows are locked in one order everywhere: instances, then leases by their partitions, then streams by their names.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use tokio_postgres::Transaction;
use tokio_postgres::types::{ToSql, Type};

use super::Store;
use super::error::Error;
use super::lease::{Epoch, Fence, Held, Instance, InstanceId, Leases, Membership, Sharing};
use crate::partition::{PARTITIONS, Partition};

/// Locks those leases that are still as they are believed to be. Behind that, it marks the transaction as one of this
/// instance, by a lock that nobody waits for and that ends with it, so that [`EVICT`] finds it.
const HOLD: &str = "
    SELECT partition, pg_advisory_xact_lock_shared($1) FROM (
        SELECT lease.partition FROM tailwater.leases AS lease
            JOIN unnest($2::integer[], $3::bigint[]) AS believed (partition, epoch)
                ON believed.partition = lease.partition AND believed.epoch = lease.epoch
        WHERE lease.holder = $1 ORDER BY lease.partition FOR SHARE OF lease
    ) AS held";

/// The set of streams of the instance `$1`.
macro_rules! own_set {
    () => {
        "(SELECT sha256(convert_to(streams, 'UTF8')) FROM tailwater.instances WHERE id = $1)"
    };
}

const JOIN: &str = "INSERT INTO tailwater.instances (id, name, streams, expires_at) \
     VALUES ($1, $2, $3, clock_timestamp() + $4 * interval '1 millisecond')";

/// How many partitions its set of streams is in, and the number of the last one.
const COUNT: &str = concat!(
    "SELECT count(*), coalesce(max(partition), -1) FROM tailwater.leases WHERE streams_hash = ",
    own_set!()
);

const PART: &str = concat!(
    "INSERT INTO tailwater.leases (streams_hash, partition) SELECT set, generate_series(0, $2 - 1) FROM ",
    own_set!(),
    " AS own (set)"
);

const RENEW: &str = "UPDATE tailwater.instances SET expires_at = clock_timestamp() + $2 * interval '1 millisecond' \
     WHERE id = $1 AND expires_at > clock_timestamp()";

const INSTANCES: &str = "SELECT id, name, (extract(epoch FROM expires_at - clock_timestamp()) * 1000)::bigint \
     FROM tailwater.instances WHERE streams = $1 ORDER BY id";

const LEASES: &str = "SELECT partition, epoch, holder FROM tailwater.leases \
     WHERE streams_hash = sha256(convert_to($1, 'UTF8')) ORDER BY partition";

/// Those whose time has come. One that is being renewed, or buried by another, is passed over.
const DEAD: &str = "SELECT id FROM tailwater.instances WHERE expires_at <= clock_timestamp() \
     ORDER BY id FOR UPDATE SKIP LOCKED";

/// Ends transactions of the dead: a process that stands still in the middle of one would keep its locks. Only those
/// of the same user can be ended; for those of others there is the limit of idle transactions.
const EVICT: &str = "
    SELECT count(pg_terminate_backend(marked.pid, 5000)) FROM pg_locks AS marked
        JOIN pg_stat_activity AS backend ON backend.pid = marked.pid AND backend.usename = current_user
    WHERE marked.locktype = 'advisory' AND marked.objsubid = 1 AND marked.granted AND marked.pid <> pg_backend_pid()
        AND marked.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (marked.classid::bigint << 32) | marked.objid::bigint = ANY($1)";

/// Those of `$1` that `$2` names, or all of them if it is null.
const FREE: &str = "
    WITH locked AS (
        SELECT streams_hash, partition FROM tailwater.leases
        WHERE holder = ANY($1) AND ($2::integer[] IS NULL OR partition = ANY($2))
        ORDER BY streams_hash, partition FOR UPDATE
    )
    UPDATE tailwater.leases AS lease SET holder = NULL FROM locked
    WHERE lease.streams_hash = locked.streams_hash AND lease.partition = locked.partition";

const REMOVE: &str = "DELETE FROM tailwater.instances WHERE id = ANY($1)";

/// Keeps an instance from being buried until the transaction ends.
const STAY: &str =
    "SELECT FROM tailwater.instances WHERE id = $1 AND expires_at > clock_timestamp() FOR KEY SHARE";

const TAKE: &str = concat!(
    "WITH locked AS (
        SELECT streams_hash, partition FROM tailwater.leases
        WHERE partition = ANY($2) AND holder IS NULL AND streams_hash = ",
    own_set!(),
    " ORDER BY partition FOR UPDATE SKIP LOCKED
    )
    UPDATE tailwater.leases AS lease SET holder = $1, epoch = epoch + 1, taken_at = clock_timestamp()
    FROM locked WHERE lease.streams_hash = locked.streams_hash AND lease.partition = locked.partition
    RETURNING lease.partition, lease.epoch"
);

/// An instance whose time has come. What it held is others' by now, or will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired;

impl Store {
    /// Adds an instance that lives for the time of its lease from now on.
    ///
    /// # Errors
    /// [`Error::Partitions`] if the tables know other partitions, and whatever else keeps the mirror from it.
    pub async fn join(&mut self, id: InstanceId, membership: &Membership) -> Result<(), Error> {
        let work = async |transaction: &Transaction<'_>| {
            let (id, lease_ms) = (id.number(), milliseconds(membership.lease_ms));
            let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
                (&id, Type::INT8),
                (&membership.name, Type::TEXT),
                (&membership.streams, Type::TEXT),
                (&lease_ms, Type::FLOAT8),
            ];
            transaction.execute_typed(JOIN, &parameters).await?;
            if count(transaction, id).await?.0 == 0 {
                // One at a time: mirrors of two versions may come at once, with partitions of their own.
                let alone = "LOCK TABLE tailwater.leases IN SHARE ROW EXCLUSIVE MODE";
                transaction.batch_execute(alone).await?;
                if count(transaction, id).await?.0 == 0 {
                    let partitions = i32::from(PARTITIONS);
                    let parameters: [(&(dyn ToSql + Sync), Type); 2] =
                        [(&id, Type::INT8), (&partitions, Type::INT4)];
                    transaction.execute_typed(PART, &parameters).await?;
                }
            }
            match count(transaction, id).await? {
                (found, last) if found == i64::from(PARTITIONS) && i64::from(last) == found - 1 => Ok(()),
                (found, _) => Err(Error::Partitions { found }),
            }
        };
        self.connection.transaction("a new instance", work).await
    }

    /// Lets an instance live for the time of its lease from now on, and tells who holds what. One whose time has come
    /// cannot be renewed.
    ///
    /// # Errors
    /// Whatever keeps the mirror from it.
    pub async fn renew(
        &mut self,
        id: InstanceId,
        membership: &Membership,
    ) -> Result<Result<Sharing, Expired>, Error> {
        let work = async |transaction: &Transaction<'_>| {
            let lease_ms = milliseconds(membership.lease_ms);
            let parameters: [(&(dyn ToSql + Sync), Type); 2] =
                [(&id.number(), Type::INT8), (&lease_ms, Type::FLOAT8)];
            if transaction.execute_typed(RENEW, &parameters).await? == 0 {
                return Ok(Err(Expired));
            }
            Ok(Ok(sharing(transaction, &membership.streams).await?))
        };
        self.connection
            .transaction("the renewal of its leases", work)
            .await
    }

    /// Who holds what now of the instances that share these streams, which are written as [`Membership::streams`].
    ///
    /// # Errors
    /// Whatever keeps the mirror from it.
    pub async fn sharing(&mut self, streams: &str) -> Result<Sharing, Error> {
        let work = async |transaction: &Transaction<'_>| sharing(transaction, streams).await;
        self.connection.transaction("the question for leases", work).await
    }

    /// Frees the leases of those whose time has come, and removes them. Tells how many they were.
    ///
    /// # Errors
    /// Whatever keeps the mirror from it.
    pub async fn bury(&mut self) -> Result<usize, Error> {
        let work = async |transaction: &Transaction<'_>| {
            let found = transaction.query_typed(DEAD, &[]).await?;
            let dead: Vec<i64> = found.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
            if dead.is_empty() {
                return Ok(0);
            }
            transaction
                .query_typed(EVICT, &[(&dead, Type::INT8_ARRAY)])
                .await?;
            free(transaction, &dead, None).await?;
            transaction
                .execute_typed(REMOVE, &[(&dead, Type::INT8_ARRAY)])
                .await?;
            Ok(dead.len())
        };
        self.connection
            .transaction("the removal of dead instances", work)
            .await
    }

    /// Takes those of these partitions that nobody has, and tells the leases.
    ///
    /// # Errors
    /// Whatever keeps the mirror from it.
    pub async fn take(
        &mut self,
        id: InstanceId,
        partitions: &BTreeSet<Partition>,
    ) -> Result<Result<Leases, Expired>, Error> {
        let work = async |transaction: &Transaction<'_>| {
            let number = id.number();
            if transaction
                .query_typed(STAY, &[(&number, Type::INT8)])
                .await?
                .is_empty()
            {
                return Ok(Err(Expired));
            }
            let numbers: Vec<_> = partitions.iter().map(|partition| partition.number()).collect();
            let parameters: [(&(dyn ToSql + Sync), Type); 2] =
                [(&number, Type::INT8), (&numbers, Type::INT4_ARRAY)];
            let taken = transaction.query_typed(TAKE, &parameters).await?;
            let lease =
                |row: &tokio_postgres::Row| Ok((partition(row)?, Epoch::from_number(row.try_get(1)?)));
            Ok(Ok(taken.iter().map(lease).collect::<Result<_, Error>>()?))
        };
        self.connection.transaction("the taking of leases", work).await
    }

    /// Gives partitions up, so that others can take them.
    ///
    /// # Errors
    /// Whatever keeps the mirror from it.
    pub async fn release(&mut self, id: InstanceId, partitions: &BTreeSet<Partition>) -> Result<(), Error> {
        let numbers: Vec<_> = partitions.iter().map(|partition| partition.number()).collect();
        let work =
            async |transaction: &Transaction<'_>| free(transaction, &[id.number()], Some(&numbers)).await;
        self.connection.transaction("the release of leases", work).await
    }

    /// Gives everything up, and removes the instance.
    ///
    /// # Errors
    /// Whatever keeps the mirror from it.
    pub async fn leave(&mut self, id: InstanceId) -> Result<(), Error> {
        let ids = [id.number()];
        let work = async |transaction: &Transaction<'_>| {
            let alone = "SELECT FROM tailwater.instances WHERE id = $1 FOR UPDATE";
            transaction.query_typed(alone, &[(&ids[0], Type::INT8)]).await?;
            free(transaction, &ids, None).await?;
            transaction
                .execute_typed(REMOVE, &[(&&ids[..], Type::INT8_ARRAY)])
                .await?;
            Ok(())
        };
        self.connection.transaction("the end of an instance", work).await
    }
}

/// Which of these streams may be written in this transaction. Their leases stay as they are until it ends.
pub(super) async fn hold(
    transaction: &Transaction<'_>,
    fence: Option<&Fence>,
    streams: impl Iterator<Item = &str>,
) -> Result<Held, Error> {
    let Some(fence) = fence else {
        return Ok(Held::All);
    };
    let partitions: BTreeSet<_> = streams.map(Partition::of).collect();
    let believed = partitions
        .iter()
        .filter_map(|partition| Some((partition.number(), fence.leases.get(partition)?.number())));
    let (numbers, epochs): (Vec<_>, Vec<_>) = believed.unzip();
    if numbers.is_empty() {
        return Ok(Held::Of(HashSet::new()));
    }
    let parameters: [(&(dyn ToSql + Sync), Type); 3] = [
        (&fence.instance.number(), Type::INT8),
        (&numbers, Type::INT4_ARRAY),
        (&epochs, Type::INT8_ARRAY),
    ];
    let held = transaction.query_typed(HOLD, &parameters).await?;
    Ok(Held::Of(held.iter().map(partition).collect::<Result<_, _>>()?))
}

/// How many partitions the streams of an instance are in, and the number of the last one.
async fn count(transaction: &Transaction<'_>, id: i64) -> Result<(i64, i32), Error> {
    let row = transaction.query_typed_one(COUNT, &[(&id, Type::INT8)]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

async fn sharing(transaction: &Transaction<'_>, streams: &str) -> Result<Sharing, Error> {
    let instance = |row: &tokio_postgres::Row| {
        Ok::<_, Error>(Instance {
            id: InstanceId::from_number(row.try_get(0)?),
            name: row.try_get(1)?,
            time_left: Duration::from_millis(u64::try_from(row.try_get::<_, i64>(2)?).unwrap_or(0)),
        })
    };
    let holder = |row: &tokio_postgres::Row| {
        let (epoch, holder): (i64, Option<i64>) = (row.try_get(1)?, row.try_get(2)?);
        let lease = (Epoch::from_number(epoch), holder.map(InstanceId::from_number));
        Ok((partition(row)?, lease))
    };
    // Leases come first: whoever has one was there before it.
    let leases = transaction.query_typed(LEASES, &[(&streams, Type::TEXT)]).await?;
    let instances = transaction
        .query_typed(INSTANCES, &[(&streams, Type::TEXT)])
        .await?;
    Ok(Sharing {
        instances: instances.iter().map(instance).collect::<Result<_, _>>()?,
        holders: leases
            .iter()
            .map(holder)
            .collect::<Result<BTreeMap<_, _>, Error>>()?,
    })
}

async fn free(transaction: &Transaction<'_>, ids: &[i64], numbers: Option<&Vec<i32>>) -> Result<(), Error> {
    let parameters: [(&(dyn ToSql + Sync), Type); 2] =
        [(&ids, Type::INT8_ARRAY), (&numbers, Type::INT4_ARRAY)];
    transaction.execute_typed(FREE, &parameters).await?;
    Ok(())
}

/// The first column.
fn partition(row: &tokio_postgres::Row) -> Result<Partition, Error> {
    let number = row.try_get(0)?;
    Partition::numbered(number).ok_or(Error::Partitions {
        found: i64::from(number) + 1,
    })
}

/// As PostgreSQL multiplies intervals.
fn milliseconds(number: u64) -> f64 {
    number as f64
}
