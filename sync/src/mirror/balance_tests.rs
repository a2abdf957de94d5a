use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::partition::PARTITIONS;
use crate::postgres::lease::{Epoch, Instance};

/// Who holds each partition at first: nobody, or one of `instances`, of whom some may be dead.
fn sharing() -> impl Strategy<Value = Sharing> {
    (1..9usize, 0..5usize).prop_flat_map(|(alive, dead)| {
        let holder = proptest::option::of(0..alive + dead);
        proptest::collection::vec(holder, usize::from(PARTITIONS)).prop_map(move |holders| {
            let instance = |number: usize| Instance {
                id: id(number),
                name: number.to_string(),
                time_left: Duration::from_secs(u64::from(number < alive)),
            };
            Sharing {
                instances: (0..alive + dead).map(instance).collect(),
                holders: Partition::all()
                    .zip(holders)
                    .map(|(partition, holder)| (partition, (Epoch::from_number(1), holder.map(id))))
                    .collect(),
            }
        })
    })
}

fn id(number: usize) -> InstanceId {
    InstanceId::from_number(i64::try_from(number).unwrap() + 1)
}

fn counts(sharing: &Sharing) -> Vec<usize> {
    let alive = sharing.instances.iter().filter(|instance| instance.is_alive());
    alive
        .map(|instance| sharing.leases_of(instance.id).len())
        .collect()
}

fn bury(sharing: &mut Sharing) {
    sharing.instances.retain(Instance::is_alive);
    let alive: Vec<_> = sharing.instances.iter().map(|instance| instance.id).collect();
    for (_, holder) in sharing.holders.values_mut() {
        *holder = holder.filter(|holder| alive.contains(holder));
    }
}

/// The tables' part: a partition is taken only if nobody has it, and given up only by who has it.
fn carry_out(sharing: &mut Sharing, me: InstanceId, plan: &Plan) {
    for partition in &plan.take {
        let (epoch, holder) = sharing.holders.get_mut(partition).unwrap();
        if holder.is_none() {
            (*epoch, *holder) = (Epoch::from_number(epoch.number() + 1), Some(me));
        }
    }
    for partition in &plan.give_up {
        let (_, holder) = sharing.holders.get_mut(partition).unwrap();
        assert_eq!(*holder, Some(me), "nobody gives up what another has");
        *holder = None;
    }
}

/// The fewest that can be given up, whoever gets the larger shares: all ways to give them out are tried.
fn fewest_given_up(sharing: &Sharing) -> usize {
    let held = counts(sharing);
    let (whole, rest) = (
        usize::from(PARTITIONS) / held.len(),
        usize::from(PARTITIONS) % held.len(),
    );
    (0_u32..1 << held.len())
        .filter(|larger| larger.count_ones() as usize == rest)
        .map(|larger| {
            let excess =
                |(at, held): (usize, &usize)| held.saturating_sub(whole + usize::from(larger & 1 << at != 0));
            held.iter().enumerate().map(excess).sum()
        })
        .min()
        .unwrap()
}

proptest! {
    #[test]
    fn what_one_may_take_is_free_and_no_other_may_take_it(sharing in sharing()) {
        let free = sharing.free();
        let mut taken = BTreeSet::new();
        for plan in plans(&sharing).values() {
            for partition in &plan.take {
                prop_assert!(free.contains(partition));
                prop_assert!(taken.insert(*partition), "{partition} is for two");
            }
        }
    }

    #[test]
    fn no_more_change_hands_than_must(mut sharing in sharing()) {
        bury(&mut sharing);
        let given_up: usize = plans(&sharing).values().map(|plan| plan.give_up.len()).sum();
        prop_assert_eq!(given_up, fewest_given_up(&sharing));
    }

    /// Each acts by what it saw last, which may be old, and in any order; in the end all is held, and evenly.
    #[test]
    fn whoever_acts_when_all_is_held_and_evenly_once_nobody_comes_or_goes(
        mut sharing in sharing(),
        acts in proptest::collection::vec((0..9usize, any::<bool>()), 0..40),
    ) {
        let mut seen = sharing.clone();
        for (actor, looks) in acts {
            if looks {
                bury(&mut sharing);
                seen = sharing.clone();
            }
            let mut plan = plans(&seen).remove(&id(actor)).unwrap_or_default();
            // What it gives up it knows to be its own: its own leases are never older than its last look.
            plan.give_up.retain(|partition| sharing.holders[partition].1 == Some(id(actor)));
            carry_out(&mut sharing, id(actor), &plan);
        }
        bury(&mut sharing);
        // Once more, each by what is there: first what is too much is given up, then what is free is taken.
        for _ in 0..2 {
            let all: Vec<_> = sharing.instances.iter().map(|instance| instance.id).collect();
            for me in all {
                let plan = plans(&sharing).remove(&me).unwrap();
                carry_out(&mut sharing, me, &plan);
            }
        }
        prop_assert!(sharing.free().is_empty());
        let held = counts(&sharing);
        let (least, most) = (held.iter().min().unwrap(), held.iter().max().unwrap());
        prop_assert!(most - least <= 1, "{held:?}");
        prop_assert!(plans(&sharing).values().all(Plan::is_settled));
    }
}

#[test]
fn one_alone_takes_all_at_once_and_more_than_there_are_partitions_have_one_each_at_most() {
    let among = |instances: usize| Sharing {
        instances: (0..instances)
            .map(|number| Instance {
                id: id(number),
                name: String::new(),
                time_left: Duration::from_secs(1),
            })
            .collect(),
        holders: Partition::all()
            .map(|partition| (partition, (Epoch::from_number(0), None)))
            .collect(),
    };
    let alone = plans(&among(1)).remove(&id(0)).unwrap();
    assert_eq!((alone.share, alone.take.len()), (64, 64));
    let many = plans(&among(70));
    let shares: Vec<_> = many.values().map(|plan| plan.share).collect();
    assert_eq!(shares.iter().sum::<usize>(), 64);
    assert_eq!(shares.iter().max(), Some(&1));
}
