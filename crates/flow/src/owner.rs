use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use baton_packet::{FlowKey, Segment, Seq};
use baton_policy::ServerId;
use baton_wire::{MAX_KEPT, Truth, What};

use crate::allowance::Allowance;
use crate::asking::{Question, Waiting};
use crate::copy::Copy;
use crate::kept::Kept;
use crate::owed::Owed;
use crate::pending::Pending;
use crate::transition::Transition;
use crate::unanswered::Unanswered;
use crate::{Action, Counter, Decide, Entry, Event, Limits, Now, PeerId, Table, Target, View};

/// A flow may take this part of what is still free, so that those who hold much never fill all of it: a new request
/// finds room (dynamic thresholds: Choudhury and Hahne, 1998).
const SHARE: usize = 64;

/// What a flow costs besides its bytes.
pub(crate) const OVERHEAD: usize = 256;

/// What cannot be decided now is looked at again after this time.
const NOT_NOW: Duration = Duration::from_millis(50);

/// The least time from a decision to the next one that time alone brings.
const AFTERWARDS: Duration = Duration::from_millis(1);

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
    allowance: Allowance,
    /// How many there were.
    questions: u32,
}

/// What is held of a flow.
#[derive(Debug, Default)]
struct Held {
    /// When time alone changes it.
    deadline: Duration,
    pending: Option<Pending>,
    kept: Option<Kept>,
    question: Option<Question>,
    /// For the case that this node becomes its owner.
    copy: Option<Copy>,
}

impl Held {
    fn cost(&self) -> usize {
        OVERHEAD
            + self.pending.as_ref().map_or(0, Pending::cost)
            + self.kept.as_ref().map_or(0, Kept::cost)
            + self.question.as_ref().map_or(0, Question::cost)
            + self.copy.as_ref().map_or(0, Copy::cost)
    }

    /// When time alone changes it; never: there is nothing to hold.
    fn due(&self, limits: &Limits, is_own: bool) -> Option<Duration> {
        if let Some(question) = &self.question {
            // While it is asked about, nothing else happens to it.
            return Some(question.deadline(limits));
        }
        let pending = self.pending.as_ref().map(|p| p.deadline(limits));
        let kept = self.kept.as_ref().map(Kept::deadline);
        // What was kept for the owner before is to be decided now.
        let copy = self.copy.as_ref();
        let copy = copy.map(|copy| if is_own { Duration::ZERO } else { copy.until() });
        [pending, kept, copy].into_iter().flatten().min()
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
            allowance: Allowance::new(),
            questions: 0,
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
            Event::Segment { key, .. }
            | Event::Lost { key, .. }
            | Event::Keep { key, .. }
            | Event::Kept { key, .. } => *key,
            Event::Answer(answer) => answer.key,
            Event::Notice(notice) => notice.key,
            Event::Truth { truth, .. } => truth.key,
        };
        match event {
            Event::Segment {
                vip,
                segment,
                fresh,
                doubt,
                ..
            } => {
                let waiting = Waiting {
                    vip,
                    segment,
                    fresh,
                };
                self.segment(key, now, waiting, doubt, table, decide, out);
            }
            Event::Keep {
                from,
                entry,
                segment,
                end,
                ..
            } => self.keep(key, now, from, entry, segment, end, out),
            Event::Truth { from, truth } => self.hear(now, from, &truth, table, decide, out),
            _ if !self.may_decide(&key, now) => out.push(Action::Count(Counter::Stale)),
            Event::Lost {
                holder: Target::Peer(peer),
                ..
            } => self.step(
                key,
                now,
                table,
                decide,
                out,
                |transition, entry, pending| transition.relay_lost(entry, pending, peer),
            ),
            _ if self.is_of_another_term(table.entry(&key).as_ref()) => {
                let is_unknown =
                    matches!(&event, Event::Notice(notice) if notice.what == What::Unknown);
                if is_unknown || matches!(event, Event::Lost { .. }) {
                    self.question(key, now, None, table, decide, out);
                } else {
                    out.push(Action::Count(Counter::Stale));
                }
            }
            event => self.step(
                key,
                now,
                table,
                decide,
                out,
                |transition, entry, pending| match event {
                    Event::Answer(answer) => transition.answer(entry, pending, &answer),
                    Event::Notice(notice) => transition.notice(entry, pending, &notice),
                    Event::Lost {
                        holder: Target::Server(server),
                        ..
                    } => transition.lost(entry, pending, server),
                    Event::Kept { end, .. } => match (entry, pending) {
                        (Some(entry), Some(pending)) => {
                            Some(transition.kept_there(&entry, pending, end))
                        }
                        (_, pending) => pending,
                    },
                    Event::Lost { .. }
                    | Event::Segment { .. }
                    | Event::Keep { .. }
                    | Event::Truth { .. } => pending,
                },
            ),
        }
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
            let entry = table.entry(&key);
            let mut held = self.take(&key);
            held.copy.take_if(|copy| copy.until() <= now.mono);
            let is_asked = held.question.is_some() || held.copy.is_some();
            self.put(key, held, None);
            if !self.view.is_own(&key) {
                self.hand_over(key, entry.as_ref(), out);
            } else if !self.view.decides(now.mono) {
                let held = self.take(&key);
                self.put(key, held, Some(now.mono + NOT_NOW));
            } else if is_asked || self.is_of_another_term(entry.as_ref()) {
                self.question(key, now, None, table, decide, out);
            } else {
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
        if view.term != self.view.term {
            // What is held is looked at with the next tick.
            let held = self.flows.iter_mut().map(|(key, held)| {
                if let Some(question) = &mut held.question {
                    self.questions = self.questions.wrapping_add(1);
                    question.restart(self.questions);
                }
                held.deadline = Duration::ZERO;
                (Duration::ZERO, *key)
            });
            self.deadlines = held.collect();
        }
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

    /// Up to where bytes of a flow are kept for another proxy.
    #[cfg(test)]
    pub(crate) fn keeps(&self, key: &FlowKey) -> Option<Seq> {
        Some(self.flows.get(key)?.copy.as_ref()?.kept())
    }

    /// What is kept for other proxies (bytes).
    #[cfg(test)]
    pub(crate) fn copied_bytes(&self) -> usize {
        let copies = self.flows.values().filter_map(|held| held.copy.as_ref());
        copies.map(Copy::cost).sum()
    }

    fn may_decide(&self, key: &FlowKey, now: Now) -> bool {
        self.view.decides(now.mono) && self.view.is_own(key)
    }

    /// Whether somebody else may have decided about the flow since. (A relay's flow is never decided again.)
    fn is_of_another_term(&self, entry: Option<&Entry>) -> bool {
        entry.is_some_and(|entry| {
            let is_open = !matches!(entry.bound, Some(Target::Relay | Target::Peer(_)));
            is_open && !entry.reset && entry.term != self.view.term
        })
    }

    /// A client's segment.
    #[expect(clippy::too_many_arguments)]
    fn segment(
        &mut self,
        key: FlowKey,
        now: Now,
        waiting: Waiting,
        doubt: bool,
        table: &impl Table,
        decide: &mut impl Decide,
        out: &mut Vec<Action>,
    ) {
        if let Some(owner) = self.view.owner(&key).filter(|_| !self.view.is_own(&key)) {
            out.push(Action::Count(Counter::Passed));
            return out.push(Action::Pass {
                to: owner,
                key,
                segment: waiting.segment,
            });
        }
        if !self.may_decide(&key, now) {
            return out.push(Action::Count(Counter::NotDeciding));
        }
        let entry = table.entry(&key);
        let is_asked = self
            .flows
            .get(&key)
            .is_some_and(|held| held.question.is_some());
        let is_open = |entry: &Entry| matches!(entry.bound, None | Some(Target::Server(_)));
        let must_ask = match (&entry, waiting.fresh) {
            (Some(entry), None) => {
                self.is_of_another_term(Some(entry)) || doubt && !entry.reset && is_open(entry)
            }
            (_, Some(_)) => doubt,
            (None, None) => true,
        };
        if !is_asked && !must_ask {
            let Waiting {
                vip,
                segment,
                fresh,
            } = waiting;
            return self.step(
                key,
                now,
                table,
                decide,
                out,
                |transition, entry, pending| {
                    transition.segment(entry, pending, vip, segment, fresh)
                },
            );
        }
        let is_a_stranger = entry.is_none() && waiting.fresh.is_none() && !is_asked;
        if is_a_stranger && !self.allowance.take(now.mono) {
            return out.push(Action::Count(Counter::NotAsked));
        }
        self.question(key, now, Some(waiting), table, decide, out);
    }

    /// Somebody who was asked answers.
    fn hear(
        &mut self,
        now: Now,
        from: Target,
        truth: &Truth,
        table: &impl Table,
        decide: &mut impl Decide,
        out: &mut Vec<Action>,
    ) {
        let asked = self.flows.get_mut(&truth.key);
        let question = asked.and_then(|held| held.question.as_mut());
        if question.is_some_and(|question| question.hear(from, truth)) {
            self.question(truth.key, now, None, table, decide, out);
        } else {
            out.push(Action::Count(Counter::Stale));
        }
    }

    /// Begins to ask about a flow, or goes on; with the answer it goes on.
    fn question(
        &mut self,
        key: FlowKey,
        now: Now,
        waiting: Option<Waiting>,
        table: &impl Table,
        decide: &mut impl Decide,
        out: &mut Vec<Action>,
    ) {
        let entry = table.entry(&key);
        let mut held = self.take(&key);
        if held.question.is_none() && self.free() < OVERHEAD {
            out.push(Action::Count(Counter::OverLimit));
            return self.put(key, held, Some(now.mono + NOT_NOW));
        }
        let is_new = waiting
            .as_ref()
            .is_some_and(|waiting| waiting.fresh.is_some());
        let serving = entry.and_then(|entry| entry.bound).filter(|_| !is_new);
        let mut question = held.question.take().unwrap_or_else(|| {
            self.questions = self.questions.wrapping_add(1);
            Question::new(now, self.questions, serving)
        });
        if let Some(copy) = held.copy.take() {
            question.take_over(copy);
        }
        let room = self.room();
        let is_refused = waiting.is_some_and(|waiting| !question.wait(waiting, room));
        if is_refused {
            out.push(Action::Count(Counter::OverLimit));
        }
        if question.is_lost(&self.limits, now.mono) {
            return self.step(key, now, table, decide, out, |transition, entry, _| {
                transition.give_up(entry, held.pending, held.kept, &question)
            });
        }
        if !question.ask(key, entry.as_ref(), now.mono, decide, out) {
            held.question = Some(question);
            return self.put(key, held, None);
        }
        if !self.may_decide(&key, now) {
            held.question = Some(question);
            return self.put(key, held, Some(now.mono + NOT_NOW));
        }
        let verdict = question.conclude(entry.as_ref(), decide);
        self.put(key, held, None);
        self.step(
            key,
            now,
            table,
            decide,
            out,
            |transition, entry, pending| transition.concluded(entry, pending, verdict, question),
        );
        // Before anything else happens to it the table has to know.
        let held = self.take(&key);
        self.put(key, held, Some(now.mono + AFTERWARDS));
    }

    /// Another proxy has something kept.
    #[expect(clippy::too_many_arguments)]
    fn keep(
        &mut self,
        key: FlowKey,
        now: Now,
        from: PeerId,
        entry: Entry,
        segment: Segment,
        end: Seq,
        out: &mut Vec<Action>,
    ) {
        let room = self.room();
        let mut held = self.take(&key);
        let known = held.copy.take().filter(|copy| copy.fits(&entry));
        let mut copy = known.unwrap_or_else(|| Copy::new(entry, segment.seq, now.mono));
        if copy.add(entry, segment, end, room) {
            let end = copy.kept();
            out.push(Action::Kept { to: from, key, end });
        } else {
            out.push(Action::Count(Counter::OverLimit));
        }
        held.copy = (copy.cost() > 0).then_some(copy);
        self.put(key, held, None);
    }

    /// Another proxy decides for this flow: it gets what is here. Some of it the client will not send again.
    fn hand_over(&mut self, key: FlowKey, entry: Option<&Entry>, out: &mut Vec<Action>) {
        let Held {
            pending,
            kept,
            question,
            copy,
            ..
        } = self.take(&key);
        // What is kept for an owner that has gone is for the next one, and stays.
        let copied = copy.as_ref().map_or(Vec::new(), Copy::pieces);
        let asked = question.as_ref().and_then(|question| question.copied);
        let copied_entry = copy.as_ref().map(|copy| copy.entry);
        let entry = entry.copied().or(copied_entry).or(asked);
        let held = Held {
            copy,
            ..Held::default()
        };
        self.put(key, held, None);
        let Some(to) = self.view.owner(&key) else {
            return;
        };
        let kept = kept.map(|kept| (kept.segment, Some(kept.end)));
        let promise = pending.as_ref().and_then(Pending::promise);
        let held = pending.as_ref().and_then(Pending::contiguous);
        let held = held.map(|bytes| (bytes, promise));
        let (promise, waiting) = question.map_or((None, Vec::new()), |question| {
            (question.promise, question.waiting)
        });
        let waiting = waiting
            .into_iter()
            .map(|waiting| (waiting.segment, promise));
        let all = kept.into_iter().chain(copied).chain(held).chain(waiting);
        for (bytes, promise) in all {
            for segment in bytes.split(MAX_KEPT) {
                out.push(Action::Count(Counter::Passed));
                out.push(match (entry, promise) {
                    (Some(entry), Some(end)) => Action::Keep {
                        to,
                        key,
                        entry,
                        segment,
                        end,
                    },
                    _ => Action::Pass { to, key, segment },
                });
            }
        }
    }

    /// What one flow may cost (bytes).
    fn room(&self) -> usize {
        self.free() / SHARE
    }

    fn free(&self) -> usize {
        let held = self.held + self.unanswered.held();
        self.limits.max_held_bytes.saturating_sub(held)
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
        let Held {
            pending,
            kept,
            question,
            copy,
            ..
        } = self.take(&key);
        let before = pending.as_ref().map_or(0, Pending::cost);
        let free = self.free();
        let mut transition = Transition {
            table,
            key,
            now,
            limits: &self.limits,
            room: free / SHARE,
            kept,
            view: &self.view,
            promise: None,
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
        let held = Held {
            pending,
            kept,
            question,
            copy,
            ..Held::default()
        };
        self.put(key, held, None);
    }

    fn take(&mut self, key: &FlowKey) -> Held {
        let Some(held) = self.flows.remove(key) else {
            return Held::default();
        };
        self.deadlines.remove(&(held.deadline, *key));
        self.held -= held.cost();
        held
    }

    /// `not_before`: nothing happens earlier.
    fn put(&mut self, key: FlowKey, mut held: Held, not_before: Option<Duration>) {
        let is_own = self.view.is_own(&key);
        let Some(deadline) = held.due(&self.limits, is_own) else {
            return;
        };
        held.deadline = not_before.map_or(deadline, |at| at.max(deadline));
        self.held += held.cost();
        self.deadlines.insert((held.deadline, key));
        self.flows.insert(key, held);
    }
}
