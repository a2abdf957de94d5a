//! The tables of the mirror, made and migrated step by step. Knows nothing of what is written into them.

use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use super::error::Error;

/// The steps from one version to the next. A step that was ever released stays as it is.
const STEPS: [&str; 1] = [include_str!("schema/1.sql")];
/// The version that this mirror works with.
const VERSION: i32 = 1;
/// Names the lock under which one mirror at a time migrates: "tailwatr" in ASCII.
const LOCK: i64 = 0x7461_696c_7761_7472;

/// Brings the schema up to date. One that is so already is only looked at, which takes no right to change it.
pub(super) async fn migrate(transaction: &Transaction<'_>) -> Result<(), Error> {
    if version(transaction).await? == VERSION {
        return Ok(());
    }
    lock(transaction).await?;
    let found = version(transaction).await?;
    if found == 0 {
        make_schema(transaction).await?;
    }
    let done = usize::try_from(found).unwrap_or(0);
    for (step, number) in STEPS.iter().zip(1_i32..).skip(done) {
        transaction.batch_execute(step).await?;
        let note = "INSERT INTO tailwater.schema_version (version) VALUES ($1)";
        transaction.execute_typed(note, &[(&number, Type::INT4)]).await?;
    }
    Ok(())
}

/// Lets one mirror at a time make tables. It goes with the transaction, so it also works through a pooler. Whoever
/// has waited for it looks again, and sees what the one before it has committed.
pub(super) async fn lock(transaction: &Transaction<'_>) -> Result<(), Error> {
    let lock = "SELECT pg_advisory_xact_lock($1)";
    transaction.query_typed(lock, &[(&LOCK, Type::INT8)]).await?;
    Ok(())
}

/// The schema itself may have been made by the database's owner for a user who may not.
async fn make_schema(transaction: &Transaction<'_>) -> Result<(), Error> {
    let is_there = "SELECT to_regnamespace('tailwater') IS NOT NULL";
    if !transaction
        .query_typed_one(is_there, &[])
        .await?
        .try_get::<_, bool>(0)?
    {
        transaction.batch_execute("CREATE SCHEMA tailwater").await?;
    }
    let versions = "CREATE TABLE tailwater.schema_version (version integer PRIMARY KEY, \
                    applied_at timestamptz NOT NULL DEFAULT now())";
    transaction.batch_execute(versions).await?;
    Ok(())
}

/// The version of the schema that is there; 0 if there is none.
async fn version(transaction: &Transaction<'_>) -> Result<i32, Error> {
    // By the catalog, where everybody may look, and not `to_regclass`, for which one needs rights on the schema.
    let is_there = "SELECT EXISTS (SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace \
                    WHERE nspname = 'tailwater' AND relname = 'schema_version')";
    if !transaction
        .query_typed_one(is_there, &[])
        .await?
        .try_get::<_, bool>(0)?
    {
        return Ok(0);
    }
    let newest = "SELECT coalesce(max(version), 0) FROM tailwater.schema_version";
    let found = transaction.query_typed_one(newest, &[]).await?.try_get(0)?;
    if found > VERSION {
        let known = VERSION;
        return Err(Error::SchemaTooNew { found, known });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_step_to_each_version() {
        assert_eq!(i32::try_from(STEPS.len()), Ok(VERSION));
    }
}
