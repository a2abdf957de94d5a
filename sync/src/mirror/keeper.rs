//! Keeps an instance alive in the tables, and its share of the partitions: takes what is free, and gives up what is
//! others' once nothing of it is on its way. Knows partitions, and nothing of streams.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tailwater_process::Backoff;
use tokio::sync::watch;
use tokio::time::Instant;

use super::balance::{self, Plan};
use crate::partition::Partition;
use crate::postgres::{Error, Expired, Fence, InstanceId, Leases, Membership, Settings, Sharing, Store};
use crate::stats::Stats;

/// How often within the time of a lease it is renewed.
const RENEWALS: u32 = 3;
/// How often within that time one looks while partitions change hands.
const LOOKS: u32 = 10;
/// One who looks when another's time should have come looks this much later, so that it has.
const GRACE: Duration = Duration::from_millis(5);
/// Shorter times than this are none in which PostgreSQL has to answer.
const ANSWER_MS_MIN: u64 = 2_000;

/// What an instance holds, for those who do its work.
#[derive(Debug, Clone)]
pub(super) struct Holdings {
    /// Goes up with each change, so that an answer says what it answers.
    pub(super) version: u64,
    /// All of it.
    pub(super) fence: Fence,
    /// What is to be given up: no work on it is begun, and what is under way is finished.
    pub(super) leaving: BTreeSet<Partition>,
    /// Until when all of it is known to be held, at least, by the clock of this process: the time of the lease after
    /// the last renewal was sent.
    pub(super) until: Instant,
}

/// Of what is to be given up, that of which nothing is on its way any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Finished {
    /// Of the [`Holdings`] that this answers.
    pub(super) version: u64,
    pub(super) partitions: BTreeSet<Partition>,
}

/// One instance in the tables, and a connection to them of its own, on which nobody waits for rows.
pub(super) struct Keeper {
    settings: Settings,
    store: Option<Store>,
    membership: Membership,
    holdings: watch::Sender<Holdings>,
    /// How many partitions it should have.
    share: usize,
    stats: Arc<Stats>,
}

impl Holdings {
    fn none(instance: InstanceId) -> Self {
        let leases = Leases::new();
        Self {
            version: 0,
            fence: Fence { instance, leases },
            leaving: BTreeSet::new(),
            until: Instant::now(),
        }
    }

    /// What work may be begun on.
    pub(super) fn active(&self) -> Leases {
        let mut active = self.fence.leases.clone();
        active.retain(|partition, _| !self.leaving.contains(partition));
        active
    }
}

impl Keeper {
    /// Becomes an instance, and takes what is free of its share. Waits for a server that is not there yet; one that
    /// will not do ends it.
    pub(super) async fn join(
        settings: Settings,
        membership: Membership,
        stats: Arc<Stats>,
    ) -> Result<Self, Error> {
        let mut keeper = Self {
            settings: impatient(settings, membership.lease_ms),
            store: None,
            membership,
            holdings: watch::Sender::new(Holdings::none(InstanceId::random())),
            share: 0,
            stats,
        };
        let (mut backoff, mut has_entered) = (Backoff::default(), false);
        loop {
            let joined = if has_entered {
                keeper.look().await.map(drop)
            } else {
                keeper.enter().await
            };
            match joined {
                Ok(()) if has_entered => return Ok(keeper),
                Ok(()) => has_entered = true,
                Err(error) if error.heals() => {
                    let wait = backoff.next(fastrand::f64(), None);
                    keeper.failed(&error, wait);
                    tokio::time::sleep(wait).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What it holds, from now on.
    pub(super) fn holdings(&self) -> watch::Receiver<Holdings> {
        self.holdings.subscribe()
    }

    /// Keeps what it has until it is told to leave. Then it gives everything up.
    pub(super) async fn keep(
        mut self,
        mut finished: watch::Receiver<Finished>,
        mut leave: watch::Receiver<bool>,
    ) {
        let mut backoff = Backoff::default();
        let mut next_at = Instant::now() + self.lease() / LOOKS;
        loop {
            tokio::select! {
                () = told(&mut leave) => break,
                Ok(()) = finished.changed() => {
                    let done = finished.borrow_and_update().clone();
                    match self.release(&done).await {
                        Ok(()) => continue,
                        Err(error) => self.failed(&error, Duration::ZERO),
                    }
                }
                () = tokio::time::sleep_until(next_at) => {}
            }
            let wait = match self.look().await {
                Ok(wait) => {
                    backoff.reset();
                    wait
                }
                Err(error) => {
                    // It may be late already: it tries again soon, however often that fails.
                    let wait = backoff.next(fastrand::f64(), None).min(self.pause());
                    self.failed(&error, wait);
                    wait
                }
            };
            next_at = Instant::now() + wait;
        }
        let (id, lease) = (self.id(), self.lease());
        let leaving = async {
            match self.connected().await {
                Ok(store) => store.leave(id).await,
                Err(error) => Err(error),
            }
        };
        match tokio::time::timeout(lease, leaving).await {
            Ok(Ok(())) => tracing::info!("all partitions are left to others"),
            Ok(Err(error)) => {
                tracing::warn!(side = "postgres", %error, "its leases could not be given up; they end by themselves");
            }
            // There is nothing left to give up.
            Err(_elapsed) => {}
        }
    }

    fn id(&self) -> InstanceId {
        self.holdings.borrow().fence.instance
    }

    fn lease(&self) -> Duration {
        Duration::from_millis(self.membership.lease_ms)
    }

    fn pause(&self) -> Duration {
        self.lease() / RENEWALS
    }

    async fn connected(&mut self) -> Result<&mut Store, Error> {
        let store = match self.store.take().filter(|store| !store.is_closed()) {
            Some(store) => store,
            None => Store::connect(&self.settings).await?,
        };
        Ok(self.store.insert(store))
    }

    /// Becomes another instance, which has nothing. The one before, if there was one, is dead or will be.
    async fn enter(&mut self) -> Result<(), Error> {
        let id = InstanceId::random();
        let membership = self.membership.clone();
        self.connected().await?.join(id, &membership).await?;
        let Membership {
            name,
            streams,
            lease_ms,
        } = membership;
        tracing::info!(instance = %id, name, streams, lease_ms, "this instance has joined the others");
        self.hold(id, Leases::new(), BTreeSet::new(), None);
        Ok(())
    }

    /// Renews its leases, and does what is to be done about its share. Tells when to look again.
    async fn look(&mut self) -> Result<Duration, Error> {
        let (sent, id, membership) = (Instant::now(), self.id(), self.membership.clone());
        let Ok(mut sharing) = self.connected().await?.renew(id, &membership).await? else {
            return self.expired().await;
        };
        let until = sent + self.lease();
        if sharing.has_dead() {
            let store = self.connected().await?;
            let dead = store.bury().await?;
            sharing = store.sharing(&membership.streams).await?;
            if dead > 0 {
                tracing::warn!(
                    dead,
                    "instances that were not heard of any more have lost their leases"
                );
            }
        }
        let plan = balance::plans(&sharing).remove(&id).unwrap_or_default();
        let mut leases = sharing.leases_of(id);
        if !plan.take.is_empty() {
            match self.connected().await?.take(id, &plan.take).await? {
                Ok(taken) => {
                    self.stats.leases_taken.add(taken.len() as u64);
                    tracing::info!(partitions = taken.len(), "partitions are taken");
                    leases.extend(taken);
                }
                Err(Expired) => return self.expired().await,
            }
        }
        self.share = plan.share;
        self.stats.instances.show(sharing.instances.len() as u64);
        let wait = self.wait(&sharing, &plan, &leases);
        self.hold(id, leases, plan.give_up, Some(until));
        Ok(wait)
    }

    /// Its time has come, so whatever it held may be others'. It begins anew, as another one.
    async fn expired(&mut self) -> Result<Duration, Error> {
        let lost = self.holdings.borrow().fence.leases.len();
        tracing::warn!(
            partitions = lost,
            "this instance was not heard of for {} ms and has lost its leases",
            self.membership.lease_ms
        );
        self.stats.leases_lost.add(lost as u64);
        // Nothing of it is to be used, also if it cannot join again now.
        self.hold(self.id(), Leases::new(), BTreeSet::new(), None);
        self.enter().await?;
        Ok(Duration::ZERO)
    }

    /// How long nothing has to be looked at: until the next renewal, or until another's time will have come.
    fn wait(&self, sharing: &Sharing, plan: &Plan, leases: &Leases) -> Duration {
        let is_settled = plan.is_settled() && leases.len() == plan.share;
        let own = if is_settled {
            self.pause()
        } else {
            self.lease() / LOOKS
        };
        let alive = sharing.instances.iter().filter(|instance| instance.is_alive());
        let others = alive.map(|instance| instance.time_left + GRACE);
        others.fold(own, Duration::min)
    }

    /// Gives up what nothing is on its way of.
    async fn release(&mut self, finished: &Finished) -> Result<(), Error> {
        let now = self.holdings.borrow().clone();
        let partitions = &finished.partitions & &now.leaving;
        // An answer to what has changed since says nothing: work on it may have begun again.
        if finished.version != now.version || partitions.is_empty() {
            return Ok(());
        }
        let id = self.id();
        self.connected().await?.release(id, &partitions).await?;
        tracing::info!(partitions = partitions.len(), "partitions are given up to others");
        let mut leases = now.fence.leases;
        leases.retain(|partition, _| !partitions.contains(partition));
        self.hold(id, leases, &now.leaving - &partitions, None);
        Ok(())
    }

    fn hold(
        &self,
        instance: InstanceId,
        leases: Leases,
        leaving: BTreeSet<Partition>,
        until: Option<Instant>,
    ) {
        let held = leases.len() as u64;
        self.holdings.send_if_modified(|holdings| {
            holdings.until = until.unwrap_or(holdings.until);
            let fence = Fence { instance, leases };
            let is_news = holdings.fence != fence || holdings.leaving != leaving;
            if is_news {
                holdings.version += 1;
                holdings.fence = fence;
                holdings.leaving = leaving;
            }
            is_news
        });
        self.stats.partitions.show(held);
        // One who should have some and has none does no work.
        self.stats
            .is_idle
            .store(held == 0 && self.share > 0, Ordering::Relaxed);
    }

    fn failed(&self, error: &Error, wait: Duration) {
        self.stats.lease_retries.add(1);
        let wait_ms = wait.as_millis();
        if error.heals() {
            tracing::warn!(side = "postgres", kind = error.kind(), wait_ms, %error, "leases are looked at again later");
        } else {
            tracing::error!(side = "postgres", kind = error.kind(), wait_ms, %error, "leases are looked at again later");
        }
    }
}

async fn told(leave: &mut watch::Receiver<bool>) {
    // Whoever would have told it is gone: that tells it as well.
    let _ = leave.wait_for(|leaves| *leaves).await;
}

/// Who waits for an answer longer than its leases last has lost them.
fn impatient(mut settings: Settings, lease_ms: u64) -> Settings {
    let answer_ms = lease_ms.max(ANSWER_MS_MIN);
    for timeout_ms in [
        &mut settings.connect_timeout_ms,
        &mut settings.statement_timeout_ms,
        &mut settings.lock_timeout_ms,
        &mut settings.answer_timeout_ms,
    ] {
        *timeout_ms = answer_ms.min(*timeout_ms);
    }
    settings
}
