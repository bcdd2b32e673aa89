use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use baton_packet::FlowKey;

use crate::pending::Pending;
use crate::transition::Transition;
use crate::{Action, Counter, Decide, Entry, Event, Limits, Now, Table};

/// A flow may take this part of what is still free, so that those who hold much never fill all of it: a new request
/// finds room (dynamic thresholds: Choudhury and Hahne, 1998).
const SHARE: usize = 64;

/// Decides for the flows that this node owns. Holds only those in transition; see the crate's page.
#[derive(Debug)]
pub struct Owner {
    limits: Limits,
    /// With the time at which time alone changes it.
    pending: HashMap<FlowKey, (Duration, Pending)>,
    /// The same times in order.
    deadlines: BTreeSet<(Duration, FlowKey)>,
    /// What all pending flows cost (bytes).
    held: usize,
}

impl Owner {
    /// Knows no flow.
    pub fn new(limits: Limits) -> Owner {
        Owner {
            limits,
            pending: HashMap::new(),
            deadlines: BTreeSet::new(),
            held: 0,
        }
    }

    /// Appends to `out` what is to be done because of `event`.
    pub fn handle(
        &mut self,
        now: Now,
        event: Event,
        table: &impl Table,
        decide: &mut impl Decide,
        out: &mut Vec<Action>,
    ) {
        let key = match &event {
            Event::Segment { key, .. } => *key,
            Event::Answer(answer) => answer.key,
            Event::Notice(notice) => notice.key,
        };
        self.step(
            key,
            now,
            table,
            decide,
            out,
            |transition, entry, pending| match event {
                Event::Segment {
                    vip,
                    segment,
                    fresh,
                    ..
                } => transition.segment(entry, pending, vip, segment, fresh),
                Event::Answer(answer) => transition.answer(entry, pending, &answer),
                Event::Notice(notice) => transition.notice(entry, pending, &notice),
            },
        );
    }

    /// Appends to `out` what is to be done because time has passed.
    pub fn tick(
        &mut self,
        now: Now,
        table: &impl Table,
        decide: &mut impl Decide,
        out: &mut Vec<Action>,
    ) {
        while let Some((_, key)) = self
            .deadlines
            .first()
            .copied()
            .filter(|(at, _)| *at <= now.mono)
        {
            self.step(
                key,
                now,
                table,
                decide,
                out,
                |transition, entry, pending| transition.time(entry, pending),
            );
        }
    }

    /// When [`tick`](Owner::tick) is to be called next, by the monotonic clock.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Takes other limits. What is held already stays, with the times it was given.
    pub fn reconfigure(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// What the flows in transition cost (bytes); at most [`Limits::max_held_bytes`].
    pub fn held_bytes(&self) -> usize {
        self.held
    }

    /// Flows in transition.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Takes one flow out, lets `change` make of it what it becomes, and puts that back.
    fn step<D: Decide>(
        &mut self,
        key: FlowKey,
        now: Now,
        table: &impl Table,
        decide: &mut D,
        out: &mut Vec<Action>,
        change: impl FnOnce(&mut Transition<'_, D>, Option<Entry>, Option<Pending>) -> Option<Pending>,
    ) {
        let entry = table.entry(&key);
        let mut pending = self.take(&key);
        // The table is the truth: what was held for another place in the stream is void.
        let fits = |pending: &Pending| entry.as_ref().is_some_and(|entry| pending.fits(entry));
        if pending.as_ref().is_some_and(|pending| !fits(pending)) {
            pending = None;
            out.push(Action::Count(Counter::Forgotten));
        }
        let free = self.limits.max_held_bytes.saturating_sub(self.held);
        let mut transition = Transition {
            key,
            now,
            limits: &self.limits,
            room: free / SHARE,
            decide,
            out,
        };
        let pending = change(&mut transition, entry, pending);
        if let Some(pending) = pending.filter(|held| held.is_needed() && held.cost() <= free) {
            self.held += pending.cost();
            let deadline = pending.deadline(&self.limits);
            self.deadlines.insert((deadline, key));
            self.pending.insert(key, (deadline, pending));
        }
    }

    fn take(&mut self, key: &FlowKey) -> Option<Pending> {
        let (deadline, pending) = self.pending.remove(key)?;
        self.deadlines.remove(&(deadline, *key));
        self.held -= pending.cost();
        Some(pending)
    }
}
