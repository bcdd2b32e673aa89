//! Who gets packets, and how many.

use std::net::IpAddr;

use crate::ownership::{SLOTS, owners};
use crate::{Candidate, Shares};

fn candidate(number: u8) -> Candidate {
    Candidate {
        node: IpAddr::from([10, 77, 0, 11 + number]),
        is_usable: true,
        is_draining: false,
        workload: 900,
    }
}

fn four() -> Vec<Candidate> {
    (0..4).map(candidate).collect()
}

fn shares(candidates: &[Candidate]) -> Shares {
    let mut shares = Shares::default();
    shares.update(candidates);
    shares
}

fn count(places: &[u8], of: u8) -> usize {
    places.iter().filter(|place| **place == of).count()
}

#[test]
fn equal_ones_get_what_they_own() {
    let nodes: Vec<_> = four().iter().map(|c| c.node).collect();
    assert_eq!(shares(&four()).by_slot(), owners(&nodes));
}

#[test]
fn when_one_goes_only_its_slots_change_hands_and_the_others_keep_their_places() {
    let before = shares(&four()).by_slot();
    let mut candidates = four();
    candidates[1].is_usable = false;
    let after = shares(&candidates).by_slot();
    for (before, after) in before.iter().zip(&after) {
        assert!(after == before || *before == 1);
    }
    assert_eq!(count(&after, 1), 0);
    // Each of the others takes over about a third.
    for other in [0, 2, 3] {
        let more = count(&after, other) - count(&before, other);
        assert!((1000..1800).contains(&more), "{more}");
    }
    let mut back = shares(&candidates);
    back.update(&four());
    assert_eq!(back.by_slot(), before);
}

#[test]
fn packets_go_by_the_normalised_workload_factors() {
    let mut candidates = four();
    candidates[0].workload = 1000;
    candidates[1].workload = 500;
    candidates[2].workload = 400;
    candidates[3].workload = 100;
    let shares = shares(&candidates);
    let wanted = [(0, 500), (1, 250), (2, 200), (3, 50)];
    assert_eq!(shares.normalised().collect::<Vec<_>>(), wanted);
    let (intervals, slots) = (shares.by_interval(), shares.by_slot());
    assert_eq!((intervals.len(), slots.len()), (SLOTS, SLOTS));
    for (index, part) in wanted {
        let exact = SLOTS * part as usize / 1000;
        assert!(count(&intervals, index).abs_diff(exact) <= 1);
        assert!(count(&slots, index).abs_diff(exact) < 300, "{index}");
    }
    assert_eq!(shares.in_turn(), [0, 1, 2, 3]);
}

#[test]
fn a_drained_one_gets_nothing_while_there_is_another() {
    let mut candidates = four();
    candidates[0].is_draining = true;
    assert_eq!(shares(&candidates).in_turn(), [1, 2, 3]);
    candidates[1..].iter_mut().for_each(|c| c.is_usable = false);
    assert_eq!(shares(&candidates).in_turn(), [0]);
    candidates[0].is_usable = false;
    let nobody = shares(&candidates);
    assert!(nobody.is_empty() && nobody.by_slot().is_empty() && nobody.by_interval().is_empty());
}

#[test]
fn small_changes_of_the_load_move_nothing() {
    let mut candidates = four();
    candidates[0].workload = 1000;
    candidates[2].workload = 810;
    let mut shares = shares(&candidates);
    let all = |shares: &Shares| {
        shares
            .normalised()
            .map(|(_, part)| part)
            .collect::<Vec<_>>()
    };
    assert_eq!(all(&shares), [250; 4], "nearly as free");
    let mut change = |workload| {
        candidates[2].workload = workload;
        shares.update(&candidates)
    };
    assert!(!change(700) && change(690), "they add up");
    assert!(!change(770) && !change(630) && change(620), "in steps");
    assert!(!change(530) && change(800) && !change(701), "and back");
    assert_eq!(all(&shares), [250; 4]);
}

#[test]
fn those_that_have_nothing_left_share_what_there_is() {
    let mut candidates = four();
    for (candidate, workload) in candidates.iter_mut().zip([0, 3, 60, 99]) {
        candidate.workload = workload;
    }
    assert!(
        shares(&candidates)
            .normalised()
            .all(|(_, part)| part == 250)
    );
}
