//! Slots, their owners, and the balancer's shares.

use super::*;
use crate::{SLOTS, owners, ranking, slot, weighted};

fn proxies(count: u8) -> Vec<IpAddr> {
    (0..count).map(|i| [10, 77, 0, 11 + i].into()).collect()
}

/// Computed by another implementation: 36 bytes of key and four zeros under the key 0.
#[test]
fn a_slot_is_what_the_kernel_finds() {
    assert_eq!(slot(&key()), 11067);
    let other = FlowKey::new(
        "[2001:db8::1]:40000".parse().unwrap(),
        "[2001:db8::7]:443".parse().unwrap(),
    );
    assert_eq!(slot(&other), 2152);
}

#[test]
fn every_proxy_has_its_part_and_one_that_goes_or_comes_moves_no_others() {
    for count in [1, 2, 3, 5, 32] {
        let all = proxies(count);
        let owners = owners(&all);
        assert_eq!(owners.len(), SLOTS);
        for index in 0..count {
            let part = owners.iter().filter(|owner| **owner == index).count();
            let fair = SLOTS / usize::from(count);
            assert!(part.abs_diff(fair) < fair / 4, "{index} of {count}: {part}");
        }
        // The last goes: its slots go to whoever was next, the others stay.
        let left = crate::owners(&all[..all.len() - 1]);
        for slot in (0..SLOTS).step_by(17) {
            let ranked = ranking(slot as u16, &all);
            assert_eq!(ranked[0], owners[slot]);
            if usize::from(owners[slot]) < left_len(&all) {
                assert_eq!(left[slot], owners[slot]);
            } else if count > 1 {
                assert_eq!(left[slot], ranked[1]);
            }
        }
    }
    assert_eq!(owners(&[])[0], u8::MAX);
}

fn left_len(all: &[IpAddr]) -> usize {
    all.len() - 1
}

#[test]
fn equal_weights_give_the_owners_and_others_their_share() {
    for count in 1..=9 {
        let all = proxies(count);
        for weight in [1, 500, 1000] {
            let equal: Vec<_> = all.iter().map(|proxy| (*proxy, weight)).collect();
            assert_eq!(weighted(&equal), owners(&all));
        }
    }
    let shares: Vec<_> = proxies(3).into_iter().zip([1000, 500, 250]).collect();
    let before = weighted(&shares);
    for (index, (_, weight)) in shares.iter().enumerate() {
        let part = before.iter().filter(|owner| usize::from(**owner) == index);
        let fair = SLOTS * usize::from(*weight) / 1750;
        assert!(part.count().abs_diff(fair) < fair / 10);
    }
    // One gets less: only what it loses moves.
    let mut less = shares.clone();
    less[0].1 = 700;
    for (was, is) in before.iter().zip(weighted(&less)) {
        assert!(*was == is || *was == 0);
    }
}
