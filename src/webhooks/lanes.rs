//! Turns among deliveries: so many at once, so many of them to one host, and hosts take turns. Knows nothing of what a
//! delivery is.
//!
//! Whoever waits for a host that hangs waits for that one alone. A subscription has one delivery at a time and those of a
//! host wait in the order in which they came, so subscriptions are served in turn as well.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// All hosts. What waits is bounded by the subscriptions there are.
pub(super) struct Lanes {
    state: Mutex<State>,
    at_once_max: usize,
    per_host_max: usize,
}

#[derive(Default)]
struct State {
    running: usize,
    waiting: usize,
    hosts: HashMap<Arc<str>, Lane>,
    /// Hosts with somebody who could begin, each once: its lane says so.
    turns: VecDeque<Arc<str>>,
}

#[derive(Default)]
struct Lane {
    running: usize,
    waiting: VecDeque<oneshot::Sender<Place>>,
    has_turn: bool,
}

/// A place among those that run, until it is dropped.
pub(super) struct Place {
    lanes: Arc<Lanes>,
    host: Arc<str>,
}

/// How many run and wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) running: usize,
    pub(super) waiting: usize,
}

impl Lanes {
    pub(super) fn new(at_once_max: usize, per_host_max: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            at_once_max,
            per_host_max,
        })
    }

    /// Waits for a turn. Whoever gives up waiting has none.
    pub(super) async fn enter(self: &Arc<Self>, host: &str) -> Place {
        let host = Arc::from(host);
        let (sender, turn) = oneshot::channel();
        {
            let mut state = self.state();
            let lane = state.hosts.entry(Arc::clone(&host)).or_default();
            lane.waiting.push_back(sender);
            state.waiting += 1;
            state.give_turn(&host, self.per_host_max);
        }
        self.begin();
        turn.await.expect("a lane keeps those who wait until they begin")
    }

    pub(super) fn load(&self) -> Load {
        let state = self.state();
        Load {
            running: state.running,
            waiting: state.waiting,
        }
    }

    /// Lets begin who may.
    fn begin(self: &Arc<Self>) {
        let mut begun = Vec::new();
        let mut state = self.state();
        while state.running < self.at_once_max {
            let Some(host) = state.turns.pop_front() else {
                break;
            };
            begun.extend(state.next_of(&host, self.per_host_max).map(|next| (next, host)));
        }
        drop(state);
        for (next, host) in begun {
            let lanes = Arc::clone(self);
            // One who has given up just now drops the place, which begins the next.
            let _gave_up = next.send(Place { lanes, host });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Puts a host among those that have a turn, if somebody of it could begin.
    fn give_turn(&mut self, host: &Arc<str>, per_host_max: usize) {
        let Some(lane) = self.hosts.get_mut(host) else {
            return;
        };
        if lane.waiting.is_empty() {
            if lane.running == 0 && !lane.has_turn {
                self.hosts.remove(host);
            }
        } else if lane.running < per_host_max && !lane.has_turn {
            lane.has_turn = true;
            self.turns.push_back(Arc::clone(host));
        }
    }

    /// Whoever of a host has waited longest and waits still; counted as running.
    fn next_of(&mut self, host: &Arc<str>, per_host_max: usize) -> Option<oneshot::Sender<Place>> {
        let lane = self.hosts.get_mut(host)?;
        lane.has_turn = false;
        let mut next = None;
        while let Some(waiting) = lane.waiting.pop_front() {
            self.waiting -= 1;
            if !waiting.is_closed() {
                lane.running += 1;
                self.running += 1;
                next = Some(waiting);
                break;
            }
        }
        self.give_turn(host, per_host_max);
        next
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        {
            let mut state = self.lanes.state();
            state.running -= 1;
            if let Some(lane) = state.hosts.get_mut(&self.host) {
                lane.running -= 1;
            }
            state.give_turn(&self.host, self.lanes.per_host_max);
        }
        self.lanes.begin();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;

    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    type Waiting = Pin<Box<dyn Future<Output = Place>>>;

    fn enter(lanes: &Arc<Lanes>, host: &'static str) -> Waiting {
        let lanes = Arc::clone(lanes);
        Box::pin(async move { lanes.enter(host).await })
    }

    /// Asks for a place and tells whether there is one at once.
    fn try_enter(lanes: &Arc<Lanes>, host: &'static str) -> Result<Place, Waiting> {
        let mut waiting = enter(lanes, host);
        match waiting.as_mut().now_or_never() {
            Some(place) => Ok(place),
            None => Err(waiting),
        }
    }

    #[test]
    fn a_host_that_hangs_does_not_keep_others_waiting() {
        let lanes = Lanes::new(4, 2);
        let hanging: Vec<_> = (0..100).map(|_| try_enter(&lanes, "hangs")).collect();
        assert_eq!(hanging.iter().filter(|place| place.is_ok()).count(), 2);
        let one = try_enter(&lanes, "works").ok().expect("a place");
        let another = try_enter(&lanes, "works").ok().expect("a place");
        let mut third = try_enter(&lanes, "other").err().expect("four are running");
        assert_eq!(
            lanes.load(),
            Load {
                running: 4,
                waiting: 99
            }
        );
        drop(one);
        assert!(
            third.as_mut().now_or_never().is_some(),
            "and not one of those that hang"
        );
        drop(another);
    }

    #[test]
    fn hosts_take_turns_and_those_of_one_host_go_in_order() {
        let lanes = Lanes::new(1, 1);
        let mut running = try_enter(&lanes, "a").ok();
        let mut waiting: Vec<_> = ["a", "a", "a", "b", "c", "b"]
            .into_iter()
            .zip(1..)
            .map(|(host, number)| (host, number, try_enter(&lanes, host).err().expect("one runs")))
            .collect();
        let mut order = Vec::new();
        while !waiting.is_empty() {
            drop(running.take());
            let begun = waiting
                .iter_mut()
                .enumerate()
                .find_map(|(at, (host, number, waiting))| {
                    let place = waiting.as_mut().now_or_never()?;
                    Some((at, place, format!("{host}{number}")))
                });
            let (at, place, name) = begun.expect("somebody begins");
            order.push(name);
            running = Some(place);
            drop(waiting.remove(at));
        }
        assert_eq!(order, ["b4", "c5", "a1", "b6", "a2", "a3"]);
    }

    #[test]
    fn whoever_gives_up_leaves_nothing_behind() {
        let lanes = Lanes::new(1, 1);
        let first = try_enter(&lanes, "a").ok().expect("a place");
        let gave_up = try_enter(&lanes, "a").err().expect("one runs");
        let mut stays = try_enter(&lanes, "a").err().expect("one runs");
        drop(gave_up);
        drop(first);
        let second = stays.as_mut().now_or_never();
        assert!(second.is_some(), "whoever gave up is passed over");
        // This one is told to begin, and goes away before it has seen that.
        let unseen = try_enter(&lanes, "a").err().expect("one runs");
        drop(second);
        assert_eq!(
            lanes.load(),
            Load {
                running: 1,
                waiting: 0
            }
        );
        drop(unseen);
        assert_eq!(
            lanes.load(),
            Load {
                running: 0,
                waiting: 0
            }
        );
        assert!(lanes.state().hosts.is_empty() && lanes.state().turns.is_empty());
    }

    proptest! {
        #[test]
        fn limits_hold_and_nobody_waits_for_nothing(
            steps in prop::collection::vec((0..4_usize, any::<prop::sample::Index>()), 1..120),
        ) {
            const HOSTS: [&str; 3] = ["a", "b", "c"];
            let lanes = Lanes::new(3, 2);
            let mut running: Vec<(&str, Place)> = Vec::new();
            let mut waiting: Vec<(&str, Waiting)> = Vec::new();
            for (what, which) in steps {
                match what {
                    0 | 1 => waiting.push({
                        let host = HOSTS[which.index(HOSTS.len())];
                        (host, enter(&lanes, host))
                    }),
                    2 if !running.is_empty() => drop(running.swap_remove(which.index(running.len()))),
                    3 if !waiting.is_empty() => drop(waiting.swap_remove(which.index(waiting.len()))),
                    _ => {}
                }
                let mut still = Vec::new();
                for (host, mut one) in waiting {
                    match one.as_mut().now_or_never() {
                        Some(place) => running.push((host, place)),
                        None => still.push((host, one)),
                    }
                }
                waiting = still;
                let of = |host: &str| running.iter().filter(|(of, _)| *of == host).count();
                prop_assert!(running.len() <= 3 && HOSTS.iter().all(|host| of(host) <= 2));
                prop_assert_eq!(lanes.load().running, running.len());
                let could_begin = waiting.iter().any(|(host, _)| running.len() < 3 && of(host) < 2);
                prop_assert!(!could_begin, "{} run, {} wait", running.len(), waiting.len());
            }
            drop((running, waiting));
            prop_assert_eq!(lanes.load().running, 0);
        }
    }
}
