use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use baton_packet::{FlowKey, Segment};

use crate::{Entry, Table};

/// What a request costs beside its bytes.
const OVERHEAD: usize = 256;

/// So much later it is looked whether a request was answered. Most are answered sooner.
const LOOK: Duration = Duration::from_secs(1);

/// Looks in one turn.
const LOOKS: usize = 256;

/// The requests of which nothing is answered, each as it was bound to a server: should that server die, another gets it (H8). Only the first
/// request of a bind, or those that came with it: behind a later one it is not known whether the earlier answers arrived as a whole.
#[derive(Debug, Default)]
pub(crate) struct Unanswered {
    requests: HashMap<FlowKey, Bound>,
    /// In the order in which they are looked at.
    looks: VecDeque<(Duration, FlowKey, u32)>,
    held: usize,
}

#[derive(Debug)]
struct Bound {
    epoch: u32,
    segment: Segment,
}

impl Unanswered {
    /// Remembers what was just bound, whole and in one segment. `room`: what all may cost together (bytes); the oldest give way.
    pub(crate) fn remember(
        &mut self,
        key: FlowKey,
        entry: &Entry,
        segment: Segment,
        room: usize,
        now: Duration,
    ) {
        self.forget(&key);
        let cost = segment.payload.len() + OVERHEAD;
        while self.held + cost > room {
            let Some((_, oldest, epoch)) = self.looks.pop_front() else {
                return;
            };
            self.forget_bind(&oldest, epoch);
        }
        self.held += cost;
        self.looks.push_back((now + LOOK, key, entry.epoch));
        let epoch = entry.epoch;
        self.requests.insert(key, Bound { epoch, segment });
    }

    /// The request, if all that the flow's server was asked since its bind is in it, and the client has nothing of an answer.
    pub(crate) fn request(&self, key: &FlowKey, entry: &Entry) -> Option<&Segment> {
        let bound = self.requests.get(key)?;
        let is_all = bound.is_of(entry) && bound.segment.payload_end() == entry.boundary;
        (is_all && !entry.is_adopted()).then_some(&bound.segment)
    }

    pub(crate) fn forget(&mut self, key: &FlowKey) {
        if let Some(bound) = self.requests.remove(key) {
            self.held -= bound.segment.payload.len() + OVERHEAD;
        }
    }

    /// Forgets what was answered.
    pub(crate) fn tick(&mut self, now: Duration, table: &impl Table) {
        for _ in 0..LOOKS {
            let Some((_, key, epoch)) = self.looks.front().copied().filter(|(at, ..)| *at <= now)
            else {
                return;
            };
            self.looks.pop_front();
            let waits = |bound: &Bound| {
                bound.epoch == epoch
                    && table
                        .entry(&key)
                        .is_some_and(|entry| bound.is_of(&entry) && !entry.is_adopted())
            };
            if self.requests.get(&key).is_some_and(waits) {
                self.looks.push_back((now + LOOK, key, epoch));
            } else {
                self.forget_bind(&key, epoch);
            }
        }
    }

    /// When [`tick`](Unanswered::tick) is to be called next.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.looks.front().map(|(at, ..)| *at)
    }

    /// What they cost (bytes).
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    fn forget_bind(&mut self, key: &FlowKey, epoch: u32) {
        if self
            .requests
            .get(key)
            .is_some_and(|bound| bound.epoch == epoch)
        {
            self.forget(key);
        }
    }
}

impl Bound {
    fn is_of(&self, entry: &Entry) -> bool {
        entry.bound.is_some() && entry.epoch == self.epoch && entry.bind_seq == self.segment.seq
    }
}
