//! Tables of routes: whether they are as their routes need them, and rows into them. Knows no place of a stream.
//!
//! - `definition`: the SQL that makes what a route needs.
//! - `fault`: what is wrong with a table.
//! - `target`: a table as it was found, and the statement that writes to it.
//! - `rows`: events as rows of it.
//! - `comparison`: events, and the rows that are there.

mod comparison;
mod definition;
mod fault;
mod rows;
mod target;

pub use comparison::{KeyState, RoutedDifferences};
pub use fault::{Problem, RouteFault};

pub(super) use rows::RoutedRow;
pub(super) use target::Target;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use super::connection::Connection;
use super::error::Error;
use super::schema;
use crate::event::Chunk;
use crate::route::{Route, Routes};

/// Tables as they were found on one connection, by the numbers of their routes. They are looked at again on the next
/// one, which every error leads to.
pub(super) type Targets = BTreeMap<usize, Arc<Target>>;

/// The targets of chunks; those that were not looked at before are now.
pub(super) async fn targets_of(connection: &mut Connection, chunks: &[Chunk]) -> Result<Targets, Error> {
    let routes = Arc::clone(&connection.routes);
    let mut targets = Targets::new();
    for number in chunks.iter().filter_map(|chunk| routes.of(&chunk.stream)) {
        if targets.contains_key(&number) {
            continue;
        }
        let target = match connection.targets.get(&number) {
            Some(target) => Arc::clone(target),
            None => {
                let look =
                    async |transaction: &Transaction<'_>| target::look(transaction, &routes[number]).await;
                let found = connection.transaction("a look at a route's table", look).await?;
                Arc::new(found.map_err(|faults| Error::Routes { faults })?)
            }
        };
        connection.targets.insert(number, Arc::clone(&target));
        targets.insert(number, target);
    }
    Ok(targets)
}

/// What is wrong with the tables of all routes.
pub(super) async fn faults(transaction: &Transaction<'_>, routes: &Routes) -> Result<Vec<RouteFault>, Error> {
    let mut faults = Vec::new();
    for route in routes.iter() {
        if let Err(found) = target::look(transaction, route).await? {
            faults.extend(found);
        }
    }
    Ok(faults)
}

/// Makes the tables that are not there, of those routes that ask for it. Any number of mirrors may do so at once.
pub(super) async fn make_tables(transaction: &Transaction<'_>, routes: &Routes) -> Result<(), Error> {
    let mut is_locked = false;
    for route in routes.iter().filter(|route| route.creates_table) {
        if is_there(transaction, route).await? {
            continue;
        }
        if !is_locked {
            schema::lock(transaction).await?;
            is_locked = true;
        }
        // Another mirror may have made it while the lock was waited for.
        if !is_there(transaction, route).await? {
            let made = transaction.batch_execute(&definition::table(route, true)).await;
            made.map_err(|error| Error::of_route(error, route))?;
        }
    }
    Ok(())
}

async fn is_there(transaction: &Transaction<'_>, route: &Route) -> Result<bool, Error> {
    let asked = "SELECT EXISTS (SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace \
                 WHERE nspname = $1 AND relname = $2)";
    let name = [
        (&route.table.schema as _, Type::TEXT),
        (&route.table.table as _, Type::TEXT),
    ];
    Ok(transaction.query_typed_one(asked, &name).await?.try_get(0)?)
}
