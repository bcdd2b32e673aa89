use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use baton_packet::FlowKey;
use baton_policy::ServerId;

use crate::owed::Owed;
use crate::pending::Pending;
use crate::transition::Transition;
use crate::unanswered::Unanswered;
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
    unanswered: Unanswered,
    owed: Owed,
}

impl Owner {
    /// Knows no flow.
    pub fn new(limits: Limits) -> Owner {
        Owner {
            limits,
            pending: HashMap::new(),
            deadlines: BTreeSet::new(),
            held: 0,
            unanswered: Unanswered::default(),
            owed: Owed::default(),
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
        if let Event::Answer(answer) = &event
            && self.owed.answer(answer)
        {
            return;
        }
        let key = match &event {
            Event::Segment { key, .. } | Event::Lost { key, .. } => *key,
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
                Event::Lost { server, .. } => transition.lost(entry, pending, server),
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
        self.unanswered.tick(now.mono, table);
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
        let first = self.deadlines.first().map(|(at, _)| *at);
        let look = self.unanswered.next_deadline();
        first.map_or(look, |first| {
            Some(look.map_or(first, |look| look.min(first)))
        })
    }

    /// Takes other limits. What is held already stays, with the times it was given.
    pub fn reconfigure(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// A server is heard again: asks it to let go of the flows that were taken from it. `true`: it has.
    pub fn settle(&mut self, server: ServerId, out: &mut Vec<Action>) -> bool {
        self.owed.ask(server, out)
    }

    /// What the flows in transition cost (bytes); at most [`Limits::max_held_bytes`].
    pub fn held_bytes(&self) -> usize {
        self.held
    }

    /// What the requests cost that servers have not answered (bytes): they are kept for the case that the server dies.
    pub fn unanswered_bytes(&self) -> usize {
        self.unanswered.held()
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
        let free = self
            .limits
            .max_held_bytes
            .saturating_sub(self.held + self.unanswered.held());
        let mut transition = Transition {
            key,
            now,
            limits: &self.limits,
            room: free / SHARE,
            decide,
            out,
            unanswered: &mut self.unanswered,
            owed: &mut self.owed,
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
