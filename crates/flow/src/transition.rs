use baton_packet::{Flags, FlowKey, Segment, Seq};
use baton_policy::ServerId;
use baton_wire::{Notice, Outcome, Release, ReleaseAnswer, What};

use crate::asking::{Question, Verdict, Waiting};
use crate::kept::Kept;
use crate::moving::Move;
use crate::owed::Owed;
use crate::pending::{OverLimit, Pending};
use crate::requests::Batch;
use crate::unanswered::Unanswered;
use crate::{
    Action, ClientOptions, Counter, Decide, Entry, Limits, Now, PeerId, Table, Target, View,
};

/// How long segments may overtake each other, and notices be late (ms).
const SETTLED_MS: i32 = 1000;

/// What one event does to one flow. Every method takes the flow's entry and what is held of it, and returns what is
/// held from then on.
pub(crate) struct Transition<'a, D> {
    pub(crate) key: FlowKey,
    pub(crate) now: Now,
    pub(crate) limits: &'a Limits,
    /// What this flow may cost (bytes).
    pub(crate) room: usize,
    /// What this flow's server may not have yet, and the client will not send again.
    pub(crate) kept: Option<Kept>,
    pub(crate) table: &'a dyn Table,
    pub(crate) decide: &'a mut D,
    pub(crate) view: &'a View,
    /// The client was told, perhaps by another proxy, that all before this has arrived.
    pub(crate) promise: Option<Seq>,
    pub(crate) unanswered: &'a mut Unanswered,
    pub(crate) owed: &'a mut Owed,
    pub(crate) out: &'a mut Vec<Action>,
}

impl<D: Decide> Transition<'_, D> {
    /// The table is the truth: what is held for another place in the stream, or for another bind, is void. A flow without entry that was
    /// owed something cannot go on.
    pub(crate) fn still_true(
        &mut self,
        entry: Option<&Entry>,
        pending: Option<Pending>,
    ) -> Option<Pending> {
        let kept = self.kept.take();
        match entry {
            Some(entry) => {
                self.kept = kept.filter(|kept| kept.is_for(entry) && !kept.is_answered(entry));
                let pending = pending?;
                if pending.fits(entry) {
                    return Some(pending);
                }
                match pending.passed_by(entry) {
                    // The kernel knew the request when it came again as a whole (`known.h`), and sent that just once.
                    Some(segment) => {
                        let (end, now) = (pending.receipt.end, self.now.mono);
                        self.kept = Some(Kept::new(entry, segment, end, now));
                    }
                    None => self.count(Counter::Forgotten),
                }
                None
            }
            None => {
                if pending.is_some() {
                    self.count(Counter::Forgotten);
                }
                let owed = pending.filter(Pending::is_promised);
                let owed = owed.map(|pending| (pending.newest.ack, pending.receipt.end));
                let kept = kept.map(|kept| (kept.segment.ack, kept.end));
                if let Some((seq, ack)) = owed.or(kept) {
                    self.count(Counter::Undelivered);
                    self.out.push(Action::Reset {
                        key: self.key,
                        seq,
                        ack,
                    });
                }
                None
            }
        }
    }

    /// A client's segment.
    pub(crate) fn segment(
        &mut self,
        entry: Option<Entry>,
        pending: Option<Pending>,
        vip: u16,
        segment: Segment,
        fresh: Option<ClientOptions>,
    ) -> Option<Pending> {
        if !segment.flags.contains(Flags::ACK) || segment.flags.intersects(Flags::SYN | Flags::RST)
        {
            match entry.and_then(|entry| entry.bound) {
                Some(to) => self.out.push(Action::Forward {
                    to,
                    key: self.key,
                    segment,
                }),
                None => self.count(Counter::BadFlags),
            }
            return pending;
        }
        let is_known =
            |entry: &Entry| (segment.seq, segment.ack) == (entry.bind_seq, entry.bind_ack);
        let is_first =
            |entry: &Entry| (segment.seq, segment.ack) == (entry.first_seq, entry.first_ack);
        if entry.is_some_and(|entry| entry.reset && (fresh.is_none() || is_first(&entry))) {
            self.count(Counter::NoEntry);
            return None;
        }
        let (entry, pending) = match (entry, fresh) {
            (Some(entry), None) => (entry, pending),
            (Some(entry), Some(_)) if is_known(&entry) => (entry, pending),
            (old, Some(options)) => {
                self.kept = None;
                (self.begin(old, vip, &segment, options), None)
            }
            (None, None) => {
                self.count(Counter::NoEntry);
                return None;
            }
        };
        match entry.bound {
            Some(holder @ Target::Server(server)) if self.decide.is_out(holder) => {
                return self.lost(Some(entry), pending, server);
            }
            Some(holder @ Target::Peer(peer)) if self.decide.is_out(holder) => {
                return self.relay_lost(Some(entry), pending, peer);
            }
            _ => {}
        }
        let undecided = match entry.bound {
            Some(to) => self.pass_known(&entry, to, segment),
            None => Some(segment),
        };
        let Some(segment) = undecided else {
            return pending;
        };
        let mut pending = pending.unwrap_or_else(|| Pending::new(&entry, self.now.mono));
        if let Err(OverLimit) = pending.take_in(&segment, self.room, self.now.mono) {
            self.count(Counter::OverLimit);
        }
        if let Some(end) = self.promise {
            let end = if end.after(pending.received()) {
                pending.received()
            } else {
                end
            };
            if end.after(pending.receipt.end) {
                pending.receipt.give(end);
            }
        }
        let is_repeated = !segment.payload.is_empty() && segment.seq.before(pending.receipt.end);
        if is_repeated && pending.is_promised() {
            // The acknowledgement was lost.
            self.acknowledge(&entry, &pending);
        }
        if entry.bound.is_some() && entry.is_adopted() {
            pending.excluded.clear();
        }
        if pending.moving.is_some() {
            Some(pending)
        } else {
            self.advance(entry, pending)
        }
    }

    /// A server's answer to a release.
    pub(crate) fn answer(
        &mut self,
        entry: Option<Entry>,
        pending: Option<Pending>,
        answer: &ReleaseAnswer,
    ) -> Option<Pending> {
        let asked = |entry: &Entry| {
            is_bind(entry, answer.epoch, answer.seq) && entry.boundary == answer.boundary
        };
        let Some(entry) = entry.filter(|entry| asked(entry) && !entry.pinned) else {
            self.count(Counter::Stale);
            return pending;
        };
        if let Outcome::Released { ack } = answer.outcome {
            return self.released(entry, pending, ack);
        }
        let Some(mut moving) = pending.as_ref().and_then(|pending| pending.moving) else {
            self.count(Counter::Stale);
            return pending;
        };
        let mut pending = pending?;
        match answer.outcome {
            Outcome::Closed => {
                let batch = Batch {
                    to: entry.bound.unwrap_or(moving.batch.to),
                    ..moving.batch
                };
                pending.moving = None;
                self.count(Counter::Closed);
                let entry = self.send(entry, &mut pending, batch, Counter::Stay);
                self.advance(entry, pending)
            }
            Outcome::Unknown if entry.is_adopted() && moving.unknown(self.now.mono) => {
                self.count(Counter::UnknownFlow);
                self.reset(&entry)
            }
            Outcome::Unknown if entry.is_adopted() => {
                pending.moving = Some(moving);
                Some(pending)
            }
            // Unknown yet: the bind is still on its way, or lost, and then the client sends it again.
            Outcome::Busy | Outcome::Unknown | Outcome::Released { .. } => {
                self.count(Counter::Busy);
                moving.busy(self.now.mono);
                if answer.outcome == Outcome::Busy && !moving.is_hurried {
                    moving.is_hurried = true;
                    self.hurry(&entry, &pending);
                }
                pending.moving = Some(moving);
                Some(pending)
            }
        }
    }

    /// All have said what they know of the flow: what waited for that goes on.
    pub(crate) fn concluded(
        &mut self,
        entry: Option<Entry>,
        pending: Option<Pending>,
        verdict: Verdict,
        question: Question,
    ) -> Option<Pending> {
        if question.was_asked() {
            self.count(Counter::Confirmed);
        }
        let mut entry = match (verdict, entry) {
            (Verdict::Is(entry), _) => {
                self.out.push(Action::Put(self.key, entry));
                Some(entry)
            }
            (Verdict::Lost, Some(entry)) => {
                self.count(Counter::UnknownFlow);
                return self.reset(&entry);
            }
            (Verdict::Unknown | Verdict::Lost, entry) => entry,
        };
        self.promise = question.promise;
        let mut pending = self.still_true(entry.as_ref(), pending);
        if let Some(pending) = &mut pending {
            // It may be another server by now that must let go.
            pending.moving = None;
        }
        for Waiting {
            vip,
            segment,
            fresh,
        } in question.waiting
        {
            let done = self.out.len();
            pending = self.segment(entry, pending, vip, segment, fresh);
            let puts = self.out[done..].iter().rev();
            let mut puts = puts.filter_map(|action| match action {
                Action::Put(_, entry) => Some(*entry),
                _ => None,
            });
            entry = puts.next().or(entry);
        }
        match (entry, pending) {
            (Some(entry), Some(pending))
                if !entry.pinned && pending.moving.is_none() && pending.probe.is_none() =>
            {
                self.advance(entry, pending)
            }
            (_, pending) => pending,
        }
    }

    /// Nobody can say what became of the flow. What the client will not send again cannot be delivered.
    pub(crate) fn give_up(
        &mut self,
        entry: Option<Entry>,
        pending: Option<Pending>,
        kept: Option<Kept>,
        question: &Question,
    ) -> Option<Pending> {
        self.count(Counter::Forgotten);
        if let Some(entry) = entry.filter(|_| question.promise.is_some()) {
            self.count(Counter::Undelivered);
            return self.reset(&entry);
        }
        self.kept = kept;
        self.still_true(None, pending.filter(Pending::is_promised))
    }

    /// The proxy whose relay has the flow is out.
    pub(crate) fn relay_lost(
        &mut self,
        entry: Option<Entry>,
        pending: Option<Pending>,
        peer: PeerId,
    ) -> Option<Pending> {
        match entry {
            Some(entry) if entry.bound == Some(Target::Peer(peer)) => {
                self.count(Counter::RelayLost);
                self.reset(&entry)
            }
            _ => pending,
        }
    }

    /// What a server tells of a bind.
    pub(crate) fn notice(
        &mut self,
        entry: Option<Entry>,
        pending: Option<Pending>,
        notice: &Notice,
    ) -> Option<Pending> {
        let Some(entry) = entry.filter(|entry| is_bind(entry, notice.epoch, notice.seq)) else {
            self.count(Counter::Stale);
            return pending;
        };
        let moving = pending.as_ref().and_then(|pending| pending.moving);
        match (notice.what, entry.bound) {
            (What::Ready, _) if moving.is_some() => {
                let (pending, mut moving) = pending.zip(moving)?;
                moving.ready(self.now.mono);
                Some(self.ask(&entry, pending, moving))
            }
            (What::Gone, _) => {
                self.count(Counter::Gone);
                // Not removed: copies of the first segment must still be known for what they are.
                let closing = Entry {
                    closing: true,
                    ..entry
                };
                self.out.push(Action::Put(self.key, closing));
                self.kept = None;
                pending
            }
            (What::Taken, _) => {
                self.kept = self.kept.take().filter(|kept| !kept.is_taken(notice.ack));
                pending.map(|pending| self.taken(&entry, pending, notice.ack))
            }
            (What::Refused { .. }, Some(Target::Server(server))) if !entry.is_adopted() => {
                self.count(Counter::Refused);
                self.refused(entry, pending, server)
            }
            (What::Refused { .. }, Some(Target::Relay)) if !entry.is_adopted() => {
                self.count(Counter::Refused);
                self.reset(&entry)
            }
            (What::Unknown, _) if entry.is_adopted() && self.is_settled(&entry) => {
                self.count(Counter::UnknownFlow);
                self.reset(&entry)
            }
            _ => {
                self.count(Counter::Stale);
                pending
            }
        }
    }

    /// Whether the bind was made so long ago that a notice *unknown* cannot be about a segment that overtook it.
    fn is_settled(&self, entry: &Entry) -> bool {
        Seq(self.now.clock_ms) - Seq(entry.epoch) >= SETTLED_MS
    }

    /// The deadline has passed.
    pub(crate) fn time(
        &mut self,
        entry: Option<Entry>,
        pending: Option<Pending>,
    ) -> Option<Pending> {
        let entry = entry?;
        let now = self.now.mono;
        if self.kept.as_ref().is_some_and(|kept| kept.is_lost(now)) {
            self.count(Counter::Undelivered);
            return self.reset(&entry);
        }
        self.repeat(&entry);
        let mut pending = pending?;
        if let Some(probe) = pending.probe {
            return self.look(&entry, pending, probe);
        }
        match pending.moving {
            Some(moving) if moving.is_lost(self.limits, now) => {
                self.count(Counter::ReleaseTimeout);
                self.reset(&entry)
            }
            _ if pending.is_overdue(now) => {
                self.count(Counter::Forgotten);
                None
            }
            Some(moving) if moving.is_due(now) => Some(self.ask(&entry, pending, moving)),
            None if pending.is_slow(self.limits, now) => {
                self.count(Counter::SlowHead);
                if entry.bound.is_some() {
                    let moving = Move::new(Batch::for_relay(), now);
                    return Some(self.ask(&entry, pending, moving));
                }
                self.send(entry, &mut pending, Batch::for_relay(), Counter::FirstBind);
                Some(pending)
            }
            None if pending.is_receipt_due(self.limits, now) => {
                Some(self.give_receipt(&entry, pending))
            }
            _ => Some(pending),
        }
    }

    /// A new flow. Whatever had its addresses before is over: the client has forgotten it.
    fn begin(
        &mut self,
        old: Option<Entry>,
        vip: u16,
        segment: &Segment,
        options: ClientOptions,
    ) -> Entry {
        if let Some(old) = old {
            self.count(Counter::Reused);
            if let (Some(Target::Server(to)), false) = (old.bound, old.closing) {
                self.out.push(Action::Release {
                    to,
                    request: self.request(&old, true),
                });
            }
        }
        let entry = Entry {
            bound: None,
            pinned: false,
            confirmed: false,
            reused: false,
            closing: false,
            reset: false,
            epoch: old.map_or(0, |old| old.epoch),
            boundary: segment.seq,
            bind_seq: segment.seq,
            bind_ack: segment.ack,
            unconfirmed: segment.seq,
            header_end: segment.seq,
            header_ack: segment.ack,
            requests: 0,
            bodiless: 0,
            newest_ack: segment.ack,
            newest_tsval: segment.timestamps.map_or(0, |timestamps| timestamps.value),
            min_rtt_ms: None,
            window: segment.window,
            options,
            vip,
            first_seq: segment.seq,
            first_ack: segment.ack,
            seen: self.now.mono,
            claimed: false,
            known: 0,
            term: 0,
        };
        self.out.push(Action::Put(self.key, entry));
        entry
    }

    /// Sends on what belongs to requests that are decided; returns the part for which nothing is decided.
    fn pass_known(&mut self, entry: &Entry, to: Target, segment: Segment) -> Option<Segment> {
        let (known, undecided) = if entry.pinned {
            (Some(segment), None)
        } else {
            segment.split_at(entry.boundary)
        };
        if let Some(mut segment) = known {
            // Its server may not have all of it. A part that comes again is in what is kept.
            let is_new = self
                .kept
                .as_ref()
                .is_none_or(|kept| segment.seq.before(kept.segment.seq));
            if let Some(end) = self.promise.filter(|end| is_new && end.after(segment.seq)) {
                let kept = segment.clone();
                self.kept = Some(Kept::new(entry, kept, end, self.now.mono));
            }
            let is_elsewhere = matches!(to, Target::Peer(_));
            if !is_elsewhere && entry.needs_header(segment.seq, segment.payload_end()) {
                if segment.seq == entry.bind_seq {
                    // An old copy acknowledges less than the server before has had acknowledged.
                    segment.ack = segment.ack.latest(entry.bind_ack);
                    self.tell_round_trip(entry, &mut segment);
                }
                self.count(Counter::SentAgain);
                self.bind(entry, to, segment);
            } else {
                self.out.push(Action::Forward {
                    to,
                    key: self.key,
                    segment,
                });
            }
        }
        undecided
    }

    /// The server has let go of the flow.
    fn released(&mut self, entry: Entry, pending: Option<Pending>, ack: Seq) -> Option<Pending> {
        self.count(Counter::Released);
        self.kept = None; // it had all up to the boundary
        let free = entry.undecided_at(entry.boundary, ack);
        let Some(mut pending) = pending else {
            // The request was forgotten while the server was busy. It comes again, and finds the flow free.
            self.out.push(Action::Put(self.key, free));
            return None;
        };
        pending.catch_up(&entry);
        let Some(Move { batch, .. }) = pending.moving.take() else {
            self.out.push(Action::Put(self.key, free));
            return Some(pending);
        };
        let entry = self.send(free, &mut pending, batch, Counter::Rebind);
        self.advance(entry, pending)
    }

    /// The server could not take the flow: another one gets the request, when the client sends it again or at once if it will not.
    fn refused(
        &mut self,
        entry: Entry,
        pending: Option<Pending>,
        server: ServerId,
    ) -> Option<Pending> {
        let free = entry.undecided_at(entry.bind_seq, entry.bind_ack);
        self.out.push(Action::Put(self.key, free));
        let mut again = Pending::new(&free, self.now.mono);
        again.excluded = pending.map(|pending| pending.excluded).unwrap_or_default();
        again.excluded.push(server);
        match self.kept.take() {
            Some(kept) => {
                again.take_back(kept, self.now.mono);
                self.advance(free, again)
            }
            None => Some(again),
        }
    }

    /// Asks the server that has the flow to let it go.
    pub(crate) fn ask(&mut self, entry: &Entry, mut pending: Pending, mut moving: Move) -> Pending {
        if let Some(Target::Server(to)) = entry.bound {
            self.count(Counter::ReleaseAsked);
            self.out.push(Action::Release {
                to,
                request: self.request(entry, false),
            });
        }
        moving.asked(self.now.mono);
        pending.moving = Some(moving);
        pending
    }

    pub(crate) fn request(&self, entry: &Entry, force: bool) -> Release {
        Release {
            key: self.key,
            epoch: entry.epoch,
            seq: entry.bind_seq,
            boundary: entry.boundary,
            requests: entry.requests,
            bodiless: entry.bodiless,
            ack: entry.newest_ack,
            force,
        }
    }

    pub(crate) fn bind(&mut self, entry: &Entry, to: Target, segment: Segment) {
        let header = entry.header(self.now.clock_ms, self.limits.promised_wscale);
        self.out.push(Action::Bind {
            to,
            key: self.key,
            header,
            segment,
        });
    }

    /// Resets the client's connection, and has the kernel answer so whatever it still sends: a reset may get lost, or be answered with a
    /// challenge (RFC 5961 3.2). After a while the entry goes.
    pub(crate) fn reset(&mut self, entry: &Entry) -> Option<Pending> {
        self.count(Counter::Reset);
        self.kept = None;
        let seq = if entry.bound.is_some() {
            entry.newest_ack
        } else {
            entry.bind_ack
        };
        self.out.push(Action::Reset {
            key: self.key,
            seq,
            ack: entry.next_request(),
        });
        let over = Entry {
            reset: true,
            closing: true,
            seen: self.now.mono,
            ..entry.undecided_at(entry.next_request(), seq)
        };
        self.out.push(Action::Put(self.key, over));
        None
    }

    pub(crate) fn count(&mut self, counter: Counter) {
        self.out.push(Action::Count(counter));
    }
}

/// Whether the entry stands for this bind.
fn is_bind(entry: &Entry, epoch: u32, seq: Seq) -> bool {
    entry.bound.is_some() && entry.epoch == epoch && entry.bind_seq == seq
}
