use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use baton_packet::FlowKey;
use baton_policy::ServerId;

use crate::kept::Kept;
use crate::owed::Owed;
use crate::pending::Pending;
use crate::transition::Transition;
use crate::unanswered::Unanswered;
use crate::{Action, Counter, Decide, Entry, Event, Limits, Now, Table, Target, View};

/// A flow may take this part of what is still free, so that those who hold much never fill all of it: a new request
/// finds room (dynamic thresholds: Choudhury and Hahne, 1998).
const SHARE: usize = 64;

/// What a flow costs besides its bytes.
pub(crate) const OVERHEAD: usize = 256;

/// Decides for the flows that this node owns. Holds only those in transition; see the crate's page.
#[derive(Debug)]
pub struct Owner {
    limits: Limits,
    view: View,
    flows: HashMap<FlowKey, Held>,
    /// Their deadlines in order.
    deadlines: BTreeSet<(Duration, FlowKey)>,
    /// What all of them cost (bytes).
    held: usize,
    unanswered: Unanswered,
    owed: Owed,
}

/// What is held of a flow.
#[derive(Debug)]
struct Held {
    /// When time alone changes it.
    deadline: Duration,
    pending: Option<Pending>,
    kept: Option<Kept>,
}

impl Held {
    fn cost(&self) -> usize {
        OVERHEAD
            + self.pending.as_ref().map_or(0, Pending::cost)
            + self.kept.as_ref().map_or(0, Kept::cost)
    }
}

impl Owner {
    /// Knows no flow.
    pub fn new(limits: Limits, view: View) -> Owner {
        Owner {
            limits,
            view,
            flows: HashMap::new(),
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
            Event::Truth { truth, .. } => truth.key,
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
                Event::Lost { holder, .. } => match holder {
                    Target::Server(server) => transition.lost(entry, pending, server),
                    Target::Relay | Target::Peer(_) => pending,
                },
                Event::Truth { .. } => pending,
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

    /// From now on decides for the flows that are its own in this view: to be called whenever [`Members::view`](crate::Members::view) has
    /// changed, before the next event.
    pub fn follow(&mut self, view: View) {
        self.view = view;
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
        self.flows.len()
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
        let done = out.len();
        let entry = table.entry(&key);
        let (pending, kept) = self.take(&key);
        let before = pending.as_ref().map_or(0, Pending::cost);
        let free = self
            .limits
            .max_held_bytes
            .saturating_sub(self.held + self.unanswered.held());
        let mut transition = Transition {
            table,
            key,
            now,
            limits: &self.limits,
            room: free / SHARE,
            kept,
            decide,
            out,
            unanswered: &mut self.unanswered,
            owed: &mut self.owed,
        };
        let pending = transition.still_true(entry.as_ref(), pending);
        let mut pending = change(&mut transition, entry, pending).filter(Pending::is_needed);
        let (kept, room) = (transition.kept, transition.room);
        for action in out.iter_mut().skip(done) {
            if let Action::Put(_, entry) = action {
                entry.term = self.view.term;
            }
        }
        let exceeds = |pending: &mut Pending| {
            let most = if pending.cost() == 0 { free } else { room };
            let is_more = before == 0 || pending.cost() > before;
            is_more && !pending.is_promised() && pending.cost() + OVERHEAD > most
        };
        if pending.take_if(exceeds).is_some() {
            out.push(Action::Count(Counter::OverLimit));
        }
        self.put(key, pending, kept);
    }

    fn take(&mut self, key: &FlowKey) -> (Option<Pending>, Option<Kept>) {
        let Some(held) = self.flows.remove(key) else {
            return (None, None);
        };
        self.deadlines.remove(&(held.deadline, *key));
        self.held -= held.cost();
        (held.pending, held.kept)
    }

    fn put(&mut self, key: FlowKey, pending: Option<Pending>, kept: Option<Kept>) {
        let deadlines = [
            pending
                .as_ref()
                .map(|pending| pending.deadline(&self.limits)),
            kept.as_ref().map(Kept::deadline),
        ];
        let Some(deadline) = deadlines.into_iter().flatten().min() else {
            return;
        };
        let held = Held {
            deadline,
            pending,
            kept,
        };
        self.held += held.cost();
        self.deadlines.insert((deadline, key));
        self.flows.insert(key, held);
    }
}
