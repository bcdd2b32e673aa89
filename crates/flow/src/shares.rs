//! How a balancer shares packets out over its proxies: who gets any, and how many.

use std::net::IpAddr;

use crate::ownership::{SLOTS, weighted};

/// Workload factors count in steps of this (per mille), so that nodes that are about as busy get the same, and what each owns. Under one step they
/// say no more than that a node is busy.
const STEP: u16 = 100;
/// They go up and down all the time, and what changes hands has to be passed on: another step counts when it is off by so much.
const SLACK: u16 = 75;

/// A proxy, as its balancer hears it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its address.
    pub node: IpAddr,
    /// It is there, ready, and not about to end.
    pub is_usable: bool,
    /// It shall be given nothing new.
    pub is_draining: bool,
    /// The available part of its own capacity (per mille).
    pub workload: u16,
}

/// The proxies that get packets, and the workload factors that count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shares(Vec<Share>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    /// Place in the list of candidates.
    index: u8,
    node: IpAddr,
    workload: u16,
}

impl Shares {
    /// From what is known now. Those that are drained get packets only while there is no other. Whether anything has changed.
    pub fn update(&mut self, candidates: &[Candidate]) -> bool {
        let usable = |draining: bool| -> Vec<Share> {
            let all = (0u8..).zip(candidates);
            let some = all.filter(|(_, c)| c.is_usable && c.is_draining == draining);
            some.map(|(index, candidate)| Share {
                index,
                node: candidate.node,
                workload: self.step(candidate),
            })
            .collect()
        };
        let mut next = usable(false);
        if next.is_empty() {
            next = usable(true);
        }
        let changed = next != self.0;
        self.0 = next;
        changed
    }

    /// The workload factor that counts.
    fn step(&self, candidate: &Candidate) -> u16 {
        let now = candidate.workload.min(1000);
        let mut shares = self.0.iter();
        let before = shares.find(|share| share.node == candidate.node);
        match before.map(|share| share.workload) {
            Some(before) if now.abs_diff(before) < SLACK => before,
            _ => ((now + STEP / 2) / STEP * STEP).max(STEP),
        }
    }

    /// Whether there is anybody to give packets to.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The normalised workload factors, `W_i / sum of all W` (per mille), by place in the list of candidates (Marwah et al., 5.1).
    pub fn normalised(&self) -> impl Iterator<Item = (u8, u32)> + '_ {
        let sum = self.sum();
        let part = move |share: &Share| (share.index, 1000 * u32::from(share.workload) / sum);
        self.0.iter().map(part)
    }

    /// For each slot the proxy that its packets go to. With equal workload factors it is the slot's owner.
    pub fn by_slot(&self) -> Vec<u8> {
        let weights: Vec<_> = self.0.iter().map(|s| (s.node, s.workload)).collect();
        let index = |place: u8| self.0.get(usize::from(place)).map(|share| share.index);
        weighted(&weights).into_iter().filter_map(index).collect()
    }

    /// One place for each, in turn.
    pub fn in_turn(&self) -> Vec<u8> {
        self.0.iter().map(|share| share.index).collect()
    }

    /// So many of [`SLOTS`] places for each that one at random is each one's with its normalised workload factor.
    pub fn by_interval(&self) -> Vec<u8> {
        let sum = self.sum() as usize;
        let mut places = Vec::new();
        let mut upto = 0;
        for share in &self.0 {
            upto += usize::from(share.workload);
            places.resize(SLOTS * upto / sum, share.index);
        }
        places
    }

    fn sum(&self) -> u32 {
        let sum: u32 = self.0.iter().map(|share| u32::from(share.workload)).sum();
        sum.max(1)
    }
}
