//! Which proxy gets a packet.

use std::collections::BTreeMap;

use baton_packet::FlowKey;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use siphasher::sip::SipHasher24;

use super::*;

/// As `flow_slot` in `bpf/include/slot.h`.
fn slot(tcp: &Tcp) -> usize {
    let mut bytes = FlowKey::new(tcp.from, tcp.to).to_bytes().to_vec();
    bytes.extend([0; 4]);
    SipHasher24::new_with_key(&[0; 16]).hash(&bytes) as usize % SLOTS
}

#[test]
fn by_flow_all_packets_go_to_the_proxy_of_the_slot() {
    let places = thirds();
    let bench = Bench::new().spread(Mode::Flow, places.clone());
    for number in 0..2000 {
        let first = segment(number);
        let later = Tcp {
            seq: 77_000,
            flags: "F",
            ..first.clone()
        };
        let syn = Tcp {
            flags: "S",
            ack: None,
            payload: vec![],
            ..first.clone()
        };
        for packet in [&first, &later, &syn] {
            assert_eq!(
                bench.proxy_of(&packet.frame()),
                places[slot(&first)],
                "{first:?}"
            );
        }
    }
}

#[test]
fn when_a_proxy_goes_only_its_flows_move() {
    let mut places = thirds();
    let bench = Bench::new().spread(Mode::Flow, places.clone());
    let before: Vec<u8> = (0..1000)
        .map(|n| bench.proxy_of(&segment(n).frame()))
        .collect();
    for (slot, place) in places.iter_mut().enumerate() {
        if *place == 2 {
            *place = (slot % 2) as u8;
        }
    }
    let bench = bench.spread(Mode::Flow, places);
    for (number, before) in before.into_iter().enumerate() {
        let after = bench.proxy_of(&segment(number as u16).frame());
        assert!(
            after == before || (before == 2 && after < 2),
            "{number}: {before} -> {after}"
        );
    }
}

#[test]
fn in_batches_each_proxy_gets_forty_in_turn() {
    // A CPU counts for itself.
    let mut one = CpuSet::new();
    one.set(0).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
    let bench = Bench::new().spread(Mode::Batch, vec![0, 1, 2]);
    let got: Vec<u8> = (0..360)
        .map(|n| bench.proxy_of(&segment(n % 5).frame()))
        .collect();
    let wanted: Vec<u8> = (0..360).map(|n| (n / 40 % 3) as u8).collect();
    assert_eq!(got, wanted);
}

#[test]
fn at_random_the_places_are_the_weights() {
    let places = (0..SLOTS).map(|slot| (slot % 4 == 0).into()).collect();
    let bench = Bench::new().spread(Mode::Random, places);
    let frame = segment(0).frame();
    let mut got: BTreeMap<u8, u32> = BTreeMap::new();
    for _ in 0..4000 {
        *got.entry(bench.proxy_of(&frame)).or_default() += 1;
    }
    // The standard deviation is 27.
    assert!(
        (800..1200).contains(&got[&1]) && got[&0] + got[&1] == 4000,
        "{got:?}"
    );
}

#[test]
fn nothing_is_remembered_of_flows() {
    for mode in [Mode::Flow, Mode::Batch, Mode::Random] {
        let bench = Bench::new().spread(mode, thirds());
        // Numbers of packets, whosever they were.
        let is_a_count = |name: &str| ["sent", "counters"].contains(&name);
        let before = bench.balancer.contents().unwrap();
        for table in &before {
            let is_an_array = table.key_size == 4 && table.max_entries <= 32;
            assert!(is_an_array || table.name == "vips", "{table:?}");
        }
        for number in 0..3000 {
            bench.proxy_of(&segment(number).frame());
        }
        let after = bench.balancer.contents().unwrap();
        assert!(before.len() >= 5 && before.len() == after.len());
        for (before, after) in before.iter().zip(&after) {
            assert!(
                before == after || is_a_count(&before.name),
                "{mode:?}: {}",
                before.name
            );
        }
        assert_ne!(before, after, "the packets were counted");
    }
}
