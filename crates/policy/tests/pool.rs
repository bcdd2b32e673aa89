//! What a pool's choices add up to.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use baton_policy::{Mechanism, Member, Policy, Pool, PoolError, ServerId};
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

fn rng() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(7)
}

fn pool(policy: Policy, weights: &[u32]) -> Pool {
    let member = |(server, &weight)| Member {
        server: ServerId(server),
        weight,
    };
    Pool::new(
        "pages",
        Mechanism::Handoff,
        policy,
        (0..).zip(weights).map(member),
    )
    .unwrap()
}

fn none(_: ServerId) -> bool {
    false
}

fn choices(pool: &Pool, count: u32) -> Vec<u16> {
    let mut rng = rng();
    (0..count)
        .map(|_| pool.choose(None, none, &mut rng).unwrap().0)
        .collect()
}

fn count(choices: &[u16]) -> BTreeMap<u16, u32> {
    let mut counts = BTreeMap::new();
    for &server in choices {
        *counts.entry(server).or_default() += 1;
    }
    counts
}

#[test]
fn round_robin_interleaves_as_nginx_does() {
    let pool = pool(Policy::WeightedRoundRobin, &[5, 1, 1]);
    assert_eq!(
        choices(&pool, 14),
        [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]
    );
}

proptest! {
    #[test]
    fn round_robin_gives_each_its_weight_in_every_cycle(weights in prop::collection::vec(1u32..=20, 1..8)) {
        let pool = pool(Policy::WeightedRoundRobin, &weights);
        let total: u32 = weights.iter().sum();
        let expected: BTreeMap<u16, u32> = (0..).zip(weights.iter().copied()).collect();
        let first = choices(&pool, total);
        prop_assert_eq!(count(&first), expected);
        prop_assert_eq!(choices(&pool, total), first, "the second cycle repeats the first");
    }

    /// At no moment is a server further from its exact share than the number of servers.
    #[test]
    fn round_robin_is_smooth(weights in prop::collection::vec(1u32..=20, 1..8)) {
        let pool = pool(Policy::WeightedRoundRobin, &weights);
        let total: u32 = weights.iter().sum();
        let choices = choices(&pool, total);
        for taken in 1..=choices.len() {
            let counts = count(&choices[..taken]);
            for (server, &weight) in (0..).zip(&weights) {
                let share = f64::from(weight) * taken as f64 / f64::from(total);
                let chosen = f64::from(counts.get(&server).copied().unwrap_or(0));
                prop_assert!((chosen - share).abs() <= weights.len() as f64, "{server}: {chosen} of {share} after {taken}");
            }
        }
    }

    #[test]
    fn weights_hold_among_those_that_are_not_excluded(
        weights in prop::collection::vec(1u32..=20, 2..8),
        out in any::<prop::sample::Index>(),
    ) {
        let out = ServerId(out.index(weights.len()) as u16);
        let pool = pool(Policy::WeightedRoundRobin, &weights);
        let total: u32 = weights.iter().sum::<u32>() - weights[usize::from(out.0)];
        let mut rng = rng();
        let chosen: Vec<u16> =
            (0..total).map(|_| pool.choose(None, |server| server == out, &mut rng).unwrap().0).collect();
        let mut expected: BTreeMap<u16, u32> = (0..).zip(weights.iter().copied()).collect();
        expected.remove(&out.0);
        prop_assert_eq!(count(&chosen), expected);
    }

    #[test]
    fn an_excluded_server_is_never_chosen(
        weights in prop::collection::vec(1u32..=1000, 1..8),
        mask in any::<u8>(),
        present in prop::option::of(0u16..10),
        random in any::<bool>(),
    ) {
        let policy = if random { Policy::WeightedRandom } else { Policy::WeightedRoundRobin };
        let pool = pool(policy, &weights);
        let excluded = |server: ServerId| mask & (1 << server.0) != 0;
        let all_out = (0..weights.len() as u16).all(|server| excluded(ServerId(server)));
        let mut rng = rng();
        for _ in 0..20 {
            match pool.choose(present.map(ServerId), excluded, &mut rng) {
                Some(server) => prop_assert!(!excluded(server) && usize::from(server.0) < weights.len()),
                None => prop_assert!(all_out),
            }
        }
    }
}

/// 40,000 seeded draws: four standard deviations of a share of 1/10 are 0.006.
#[test]
fn random_keeps_to_the_weights() {
    let weights = [1, 2, 3, 4];
    let pool = pool(Policy::WeightedRandom, &weights);
    let counts = count(&choices(&pool, 40_000));
    for (server, weight) in (0..).zip(weights) {
        let share = f64::from(counts[&server]) / 40_000.0;
        let expected = f64::from(weight) / 10.0;
        assert!(
            (share - expected).abs() < 0.01,
            "server {server}: {share} instead of {expected}"
        );
    }
}

/// Independent draws repeat the one before in a quarter of the cases with four equal servers; round robin never does.
#[test]
fn random_draws_are_independent() {
    let choices = choices(&pool(Policy::WeightedRandom, &[1; 4]), 40_000);
    let repeats = choices.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert!((9_600..10_400).contains(&repeats), "{repeats}");
}

#[test]
fn a_flow_stays_where_it_is_if_it_may() {
    for policy in [Policy::WeightedRoundRobin, Policy::WeightedRandom] {
        let pool = pool(policy, &[1, 1, 1]);
        let mut rng = rng();
        for _ in 0..10 {
            assert_eq!(
                pool.choose(Some(ServerId(2)), none, &mut rng),
                Some(ServerId(2))
            );
        }
        let elsewhere = pool
            .choose(Some(ServerId(2)), |server| server == ServerId(2), &mut rng)
            .unwrap();
        assert_ne!(elsewhere, ServerId(2), "the present server is excluded");
        assert!(
            pool.choose(Some(ServerId(9)), none, &mut rng).unwrap().0 < 3,
            "the present server is no member"
        );
    }
}

#[test]
fn staying_uses_up_no_turn() {
    let pool = pool(Policy::WeightedRoundRobin, &[1, 1]);
    let mut rng = rng();
    assert_eq!(pool.choose(None, none, &mut rng), Some(ServerId(0)));
    assert_eq!(
        pool.choose(Some(ServerId(0)), none, &mut rng),
        Some(ServerId(0))
    );
    assert_eq!(pool.choose(None, none, &mut rng), Some(ServerId(1)));
}

#[test]
fn threads_share_the_turns() {
    let pool = pool(Policy::WeightedRoundRobin, &[3, 1]);
    let all: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| choices(&pool, 1000)))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(count(&all), BTreeMap::from([(0, 3000), (1, 1000)]));
}

#[test]
fn a_pool_that_makes_no_sense_is_refused() {
    let new = |members: &[(u16, u32)]| {
        let members = members.iter().map(|&(server, weight)| Member {
            server: ServerId(server),
            weight,
        });
        Pool::new(
            "pages",
            Mechanism::Relay,
            Policy::WeightedRoundRobin,
            members,
        )
        .map(|_| ())
    };
    let pool = || "pages".to_owned();
    assert_eq!(new(&[]), Err(PoolError::Empty(pool())));
    assert_eq!(
        new(&[(1, 1), (2, 1), (1, 3)]),
        Err(PoolError::Duplicate {
            pool: pool(),
            server: 1
        })
    );
    assert_eq!(
        new(&[(1, 0)]),
        Err(PoolError::Weight {
            pool: pool(),
            server: 1,
            weight: 0
        })
    );
    assert_eq!(
        new(&[(1, 1001)]),
        Err(PoolError::Weight {
            pool: pool(),
            server: 1,
            weight: 1001
        })
    );
    assert_eq!(new(&[(1, 1000)]), Ok(()));
}
