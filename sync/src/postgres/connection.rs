//! One connection to PostgreSQL, which is given up when it does not answer. Knows what every call on it needs, and no
//! table.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{Client, Transaction};

use super::error::{Error, SERVER_OLDEST};
use super::routed::Targets;
use super::settings::{Address, Settings};
use super::tls::Tls;
use crate::route::Routes;

/// A connection. Nothing on it outlives a transaction, so that it may lead through a pooler that hands out servers
/// transaction by transaction: no settings, locks or prepared statements of a session.
#[derive(Debug)]
pub(super) struct Connection {
    client: Client,
    /// Moves bytes. It ends by itself when `client` is dropped.
    driver: JoinHandle<()>,
    /// Whether answers may still come that are nobody's any more. So it is while a call is under way, and stays if that
    /// is dropped.
    is_given_up: bool,
    address: Address,
    answer_timeout_ms: u64,
    pub(super) routes: Arc<Routes>,
    /// The tables of routes that were written to.
    pub(super) targets: Targets,
    /// Whether what cannot be a row becomes a dead letter; else it is an error.
    pub(super) takes_dead_letters: bool,
    /// What every transaction begins with.
    prelude: String,
}

impl Connection {
    /// Connects, and checks that the mirror can work with the server.
    pub(super) async fn open(settings: &Settings) -> Result<Self, Error> {
        let address = settings.address();
        let tls = Tls::trusting(settings.ca_path.as_deref())?;
        let timeout_ms = settings.connect_timeout_ms;
        let connecting = async {
            let outcome = settings.server.connect(tls).await;
            outcome.map_err(|source| Error::of_connecting(source, &address))
        };
        let (client, connection) = within(timeout_ms, "a new connection", &address, connecting).await??;
        let driver = tokio::spawn(async {
            // Whoever waits for an answer on it is told as well.
            let _ = connection.await;
        });
        let mut opened = Self {
            client,
            driver,
            is_given_up: false,
            prelude: prelude(settings),
            address,
            answer_timeout_ms: settings.answer_timeout_ms,
            routes: Arc::clone(&settings.routes),
            targets: Targets::new(),
            takes_dead_letters: settings.takes_dead_letters,
        };
        opened
            .transaction("the question for its version", check_server)
            .await?;
        Ok(opened)
    }

    /// Does `work` in a transaction, and commits it if it goes well; else it is rolled back. Either has been answered
    /// when this returns, or the connection is given up: PgBouncer 1.18 does not know how many answers are due behind a
    /// copy that failed, and takes the transaction for ended while a question behind its `ROLLBACK` still waits.
    pub(super) async fn transaction<T, E: From<Error>>(
        &mut self,
        doing: &'static str,
        work: impl AsyncFnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let Self {
            client,
            is_given_up,
            prelude,
            ..
        } = self;
        if *is_given_up {
            self.driver.abort();
        }
        *is_given_up = true;
        let whole = async {
            let transaction = client.transaction().await.map_err(Error::from)?;
            let worked = async {
                transaction.batch_execute(prelude).await.map_err(Error::from)?;
                work(&transaction).await
            };
            let outcome = worked.await;
            let ended = match outcome {
                Ok(_) => transaction.commit().await,
                Err(_) => transaction.rollback().await,
            };
            *is_given_up = ended.is_err();
            match ended {
                Err(error) if outcome.is_ok() => Err(Error::from(error).into()),
                _ => outcome,
            }
        };
        let outcome = within(self.answer_timeout_ms, doing, &self.address, whole).await;
        outcome.inspect_err(|_| self.give_up())?
    }

    /// Whether nothing can be asked of it any more.
    pub(super) fn is_closed(&self) -> bool {
        self.is_given_up || self.driver.is_finished() || self.client.is_closed()
    }

    /// Ends it, with whatever is under way on it.
    pub(super) fn give_up(&mut self) {
        self.is_given_up = true;
        self.driver.abort();
    }
}

/// Limits that the server itself keeps, so that it does not go on with what nobody waits for; and a commit that was
/// told of is on the disk, even where the database's default is not to wait for that: what the mirror has may be
/// deleted at the source.
fn prelude(settings: &Settings) -> String {
    format!(
        "SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}; \
         SET LOCAL idle_in_transaction_session_timeout = {}; \
         SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'",
        settings.statement_timeout_ms, settings.lock_timeout_ms, settings.answer_timeout_ms
    )
}

async fn check_server(transaction: &Transaction<'_>) -> Result<(), Error> {
    let asked = "SELECT current_setting('server_version_num')::integer, current_setting('server_version'), \
                 pg_encoding_to_char(encoding)::text FROM pg_database WHERE datname = current_database()";
    let row = transaction.query_typed_one(asked, &[]).await?;
    let (number, found, encoding): (i32, String, String) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if number < SERVER_OLDEST.0 {
        return Err(Error::TooOld { found });
    }
    if encoding != "UTF8" {
        return Err(Error::Encoding { found: encoding });
    }
    Ok(())
}

async fn within<T>(
    timeout_ms: u64,
    doing: &'static str,
    address: &Address,
    work: impl Future<Output = T>,
) -> Result<T, Error> {
    let in_time = timeout(Duration::from_millis(timeout_ms), work).await.ok();
    in_time.ok_or_else(|| Error::TimedOut {
        address: address.clone(),
        doing,
        timeout_ms,
    })
}
