//! Keeps the lease of a run by heartbeats, and knows when it is called off or lost.

use std::future::Future;
use std::time::Duration;

use http::StatusCode;
use tailwater_process::Backoff;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::client::{Client, ClientError, Heartbeat};

/// Between two tries of something that the lease may not last for much longer.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Between two heartbeats, however long the lease is: they bring the news that a run is called off.
const HEARTBEATS_MAX: Duration = Duration::from_secs(10);

/// How a lease stands. It only gets worse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// The worker has it.
    Held,
    /// The worker has it, and is to stop.
    Cancelled,
    /// Somebody else may have it: what the worker says does not count any more.
    Lost(String),
}

/// A run that this worker has, or had. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    client: Client,
    run: String,
    epoch: u64,
    standing: watch::Sender<Standing>,
}

impl Lease {
    pub(super) fn new(client: Client, run: String, epoch: u64) -> Self {
        Self {
            client,
            run,
            epoch,
            standing: watch::Sender::new(Standing::Held),
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn run(&self) -> &str {
        &self.run
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Waits until the worker is to stop.
    pub(super) async fn ends(&self) {
        let mut standing = self.standing.subscribe();
        // The sender lives as long as this.
        let _ = standing.wait_for(|standing| *standing != Standing::Held).await;
    }

    /// Waits until it is lost.
    pub(super) async fn lost(&self) -> String {
        let mut standing = self.standing.subscribe();
        let lost = standing
            .wait_for(|standing| matches!(standing, Standing::Lost(_)))
            .await;
        match lost.as_deref() {
            Ok(Standing::Lost(why)) => why.clone(),
            _ => unreachable!("the sender lives as long as this"),
        }
    }

    /// Says again and again that the worker is alive, until the lease is lost: at the latest when it ends with no heartbeat
    /// having got through, though the server may not have said a word.
    pub(super) async fn keep(self, lease_ms: u64) {
        let mut lease = Duration::from_millis(lease_ms);
        let mut ends_at = Instant::now() + lease;
        let mut backoff = Backoff::default();
        let mut pause = (lease / 3).min(HEARTBEATS_MAX);
        let mut trouble = String::new();
        loop {
            let heard = async {
                tokio::time::sleep(pause).await;
                self.heartbeat(lease / 3).await
            };
            let Ok(heard) = tokio::time::timeout_at(ends_at, heard).await else {
                return self.lose(format!("no heartbeat got through in time{trouble}"));
            };
            match heard {
                Ok(Some((heartbeat, sent_at))) => {
                    backoff.reset();
                    trouble.clear();
                    lease = Duration::from_millis(heartbeat.lease_ms);
                    // It lasts from when the server got this, which is not before it was sent.
                    ends_at = sent_at + lease;
                    pause = (lease / 3).min(HEARTBEATS_MAX);
                    if heartbeat.cancel {
                        self.call_off();
                    }
                }
                // On a connection of its own, the next one may come through.
                Ok(None) => pause = Duration::ZERO,
                Err(error) if !is_passing(&error) => return self.lose(error.to_string()),
                Err(error) => {
                    pause = delay(&mut backoff, &error).min(lease / 3);
                    trouble = format!(": {error}");
                }
            }
        }
    }

    /// One heartbeat, and when it was sent; none if there was no answer in that time.
    async fn heartbeat(&self, patience: Duration) -> Result<Option<(Heartbeat, Instant)>, ClientError> {
        let sent_at = Instant::now();
        let answer = self.client.heartbeat(&self.run, self.epoch);
        match tokio::time::timeout(patience, answer).await {
            Ok(heartbeat) => heartbeat.map(|heartbeat| Some((heartbeat, sent_at))),
            Err(_elapsed) => Ok(None),
        }
    }

    /// Does something of this worker's to its end, whatever the server's absences. None once the lease is lost. An error is
    /// a refusal of what was sent, which says nothing of the lease.
    pub(super) async fn insist<T, F: Future<Output = Result<T, ClientError>>>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> Option<Result<T, ClientError>> {
        let mut backoff = Backoff::default();
        loop {
            let done = tokio::select! {
                done = attempt() => done,
                _ = self.lost() => return None,
            };
            match done {
                Ok(done) => return Some(Ok(done)),
                Err(error) if is_passing(&error) => tokio::time::sleep(delay(&mut backoff, &error)).await,
                Err(error) if is_of_what_was_sent(&error) => return Some(Err(error)),
                Err(error) => {
                    self.lose(error.to_string());
                    return None;
                }
            }
        }
    }

    fn call_off(&self) {
        self.standing.send_if_modified(|standing| {
            let is_news = *standing == Standing::Held;
            if is_news {
                *standing = Standing::Cancelled;
            }
            is_news
        });
    }

    /// Somebody else may have it from now on.
    pub(super) fn lose(&self, why: String) {
        self.standing.send_if_modified(|standing| {
            let is_news = !matches!(standing, Standing::Lost(_));
            if is_news {
                *standing = Standing::Lost(why);
            }
            is_news
        });
    }
}

fn is_passing(error: &ClientError) -> bool {
    error.is_passing() || error.is_overload()
}

/// A run that is full, for example, is not lost by that.
fn is_of_what_was_sent(error: &ClientError) -> bool {
    error.problem().is_some_and(|problem| {
        matches!(
            problem.status,
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::BAD_REQUEST
        )
    })
}

fn delay(backoff: &mut Backoff, error: &ClientError) -> Duration {
    let asked = error.problem().and_then(|problem| problem.retry_after);
    backoff.next(fastrand::f64(), asked).min(PAUSE_MAX)
}
