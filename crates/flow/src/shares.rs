//! How a balancer shares packets out over its proxies: who gets any, and how many.

use std::net::IpAddr;

use crate::ownership::{SLOTS, weighted};

/// A workload factor below this (per mille) says no more than that a node is busy.
const LEAST: u32 = 100;
/// Nodes that are nearly as free as the freest (per mille of it) get as much, and then what they own: no two look at themselves in the same
/// moment. This is where one that does not yet, and one that does already, count as that.
const NEARLY: [u32; 2] = [800, 700];
/// The others count in steps of this, and another step when off by so much: what changes hands has to be passed on.
const STEP: u32 = 100;
const SLACK: u32 = 75;

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
    /// Its workload factor, in per mille of the best one.
    weight: u16,
}

impl Shares {
    /// From what is known now. Those that are drained get packets only while there is no other. Whether anything has changed.
    pub fn update(&mut self, candidates: &[Candidate]) -> bool {
        let usable = |draining: bool| {
            let all = (0u8..).zip(candidates);
            all.filter(move |(_, c)| c.is_usable && c.is_draining == draining)
                .collect::<Vec<_>>()
        };
        let mut chosen = usable(false);
        if chosen.is_empty() {
            chosen = usable(true);
        }
        let free = |candidate: &Candidate| u32::from(candidate.workload).max(LEAST);
        let best = chosen.iter().map(|(_, c)| free(c)).max().unwrap_or(LEAST);
        let share = |(index, candidate): (u8, &Candidate)| Share {
            index,
            node: candidate.node,
            weight: self.weight(candidate.node, 1000 * free(candidate) / best),
        };
        let next: Vec<_> = chosen.into_iter().map(share).collect();
        let changed = next != self.0;
        self.0 = next;
        changed
    }

    /// What counts of a node that is so free (per mille of the freest).
    fn weight(&self, node: IpAddr, free: u32) -> u16 {
        let before = self.0.iter().find(|share| share.node == node);
        let before = before.map(|share| u32::from(share.weight));
        let weight = match before {
            _ if free >= NEARLY[usize::from(before == Some(1000))] => 1000,
            Some(before) if free.abs_diff(before) < SLACK => before,
            _ => ((free + STEP / 2) / STEP * STEP).max(STEP),
        };
        weight as u16
    }

    /// Whether there is anybody to give packets to.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The normalised workload factors, as far as they count: `W_i / sum of all W` (per mille), by place in the list of candidates (Marwah et al., 5.1).
    pub fn normalised(&self) -> impl Iterator<Item = (u8, u32)> + '_ {
        let sum = self.sum();
        let part = move |share: &Share| (share.index, 1000 * u32::from(share.weight) / sum);
        self.0.iter().map(part)
    }

    /// For each slot the proxy that its packets go to. With equal workload factors it is the slot's owner.
    pub fn by_slot(&self) -> Vec<u8> {
        let weights: Vec<_> = self.0.iter().map(|s| (s.node, s.weight)).collect();
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
            upto += usize::from(share.weight);
            places.resize(SLOTS * upto / sum, share.index);
        }
        places
    }

    fn sum(&self) -> u32 {
        let sum: u32 = self.0.iter().map(|share| u32::from(share.weight)).sum();
        sum.max(1)
    }
}
