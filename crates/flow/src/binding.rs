//! From held bytes to binds: which requests go where, and what the server is told.

use baton_packet::{Flags, RequestHead, Segment, Seq, Timestamps};

use crate::kept::Kept;
use crate::moving::Move;
use crate::pending::{MAX_HELD, Pending};
use crate::requests::{Batch, Found, read};
use crate::transition::Transition;
use crate::{Action, Choice, Counter, Decide, Entry, Lesson, Target};

/// An acknowledgement that does not come (bytes ahead; the most that sequence numbers can compare).
const NEVER: u32 = 0x7fff_ffff;

/// A request that so many servers have refused goes to the relay.
const MAX_REFUSALS: usize = 3;

/// Of what may be held, requests that are not answered may take this part.
const UNANSWERED_SHARE: usize = 4;

/// Round trips of which nothing is known are told to the server as at most this (ms), whatever the timestamps say: the
/// client may have thought in between. The kernel's retransmission timeout is then about a second.
pub(crate) const UNKNOWN_RTT_MS: i32 = 333;

impl<D: Decide> Transition<'_, D> {
    /// Decides about all whole requests that are held.
    pub(crate) fn advance(&mut self, mut entry: Entry, mut pending: Pending) -> Option<Pending> {
        loop {
            let (now_possible, elsewhere) = self.collect(&entry, &pending);
            let is_stuck = now_possible.is_none();
            if let Some(batch) = now_possible {
                let how = if entry.bound.is_some() {
                    Counter::Stay
                } else {
                    Counter::FirstBind
                };
                entry = self.send(entry, &mut pending, batch, how);
            }
            if let Some(batch) = elsewhere {
                return Some(self.ask(&entry, pending, Move::new(batch, self.now.mono)));
            }
            // Behind a body of which a part has not come there may be more requests.
            if is_stuck || pending.bytes.contiguous().is_empty() {
                return Some(pending);
            }
        }
    }

    /// The requests that can be sent now, and behind them the first that another server must let go of.
    fn collect(&mut self, entry: &Entry, pending: &Pending) -> (Option<Batch>, Option<Batch>) {
        let mut batch: Option<Batch> = None;
        while batch.is_none_or(|batch| !batch.pinned) {
            let begin = batch.map_or(0, |batch| batch.length as usize);
            let bytes = pending.bytes.contiguous().get(begin..).unwrap_or_default();
            let present = batch.map(|batch| batch.to).or(entry.bound);
            let next = match read(bytes, self.limits.max_head_bytes) {
                // No more will come of it.
                Found::Partial if !bytes.is_empty() && pending.is_all() => {
                    self.count(Counter::BadHead);
                    Batch::for_relay()
                }
                Found::Partial => break,
                Found::Bad => {
                    self.count(Counter::BadHead);
                    Batch::for_relay()
                }
                Found::Head(head) => {
                    let choice = self.choose(entry, pending, present, &head);
                    if let Some(batch) = batch.as_mut().filter(|batch| batch.to == choice.to) {
                        batch.add(&head);
                        continue;
                    }
                    Batch::new(choice, &head)
                }
            };
            if present.is_some_and(|present| present != next.to) {
                return (batch, Some(next));
            }
            batch = Some(next);
        }
        (batch, None)
    }

    fn choose(
        &mut self,
        entry: &Entry,
        pending: &Pending,
        present: Option<Target>,
        head: &RequestHead,
    ) -> Choice {
        if pending.excluded.len() >= MAX_REFUSALS {
            return Choice {
                to: Target::Relay,
                pool: None,
            };
        }
        let present = match present {
            Some(Target::Server(server)) => Some(server),
            Some(Target::Relay | Target::Peer(_)) | None => None,
        };
        self.decide.decide(
            entry.vip,
            head,
            self.key.client().ip(),
            &entry.options,
            present,
            &pending.excluded,
        )
    }

    /// Sends a batch to the server that has the flow, or, if none has it, binds it to the batch's.
    pub(crate) fn send(
        &mut self,
        entry: Entry,
        pending: &mut Pending,
        batch: Batch,
        how: Counter,
    ) -> Entry {
        self.count(if batch.to == Target::Relay {
            Counter::ToRelay
        } else {
            how
        });
        let start = pending.start;
        let newest = pending.newest.clone();
        let acknowledged = pending.receipt.end;
        let mut segments = pending.send(&batch, self.now.mono);
        if acknowledged.after(pending.start) {
            // A part of the next request was acknowledged, too.
            pending.receipt.give(acknowledged);
            pending.receipt.note(pending.received(), self.now.mono);
        }
        let header_end = segments
            .iter()
            .fold(start, |end, segment| end.latest(segment.payload_end()));
        let ends = segments
            .iter()
            .any(|segment| segment.flags.contains(Flags::FIN));
        let common = Entry {
            pinned: batch.pinned,
            confirmed: false,
            closing: entry.closing || ends,
            boundary: start + batch.length,
            header_end,
            seen: self.now.mono,
            claimed: !pending.bytes.is_empty(),
            known: 0,
            ..entry
        };
        let entry = if entry.bound.is_some() {
            Entry {
                unconfirmed: if entry.confirmed {
                    start
                } else {
                    entry
                        .unconfirmed
                        .latest(Seq(start.0.wrapping_sub(MAX_HELD as u32)))
                },
                header_ack: entry.newest_ack + NEVER,
                requests: entry.requests.wrapping_add(batch.requests),
                bodiless: entry.bodiless.checked_shl(batch.requests).unwrap_or(0) | batch.bodiless,
                ..common
            }
        } else {
            Entry {
                bound: Some(batch.to),
                epoch: entry.next_epoch(self.now.clock_ms),
                bind_seq: start,
                unconfirmed: start,
                header_ack: entry.bind_ack,
                requests: batch.requests,
                bodiless: batch.bodiless,
                newest_ack: entry.bind_ack,
                newest_tsval: newest.timestamps.map_or(0, |timestamps| timestamps.value),
                window: newest.window,
                ..common
            }
        };
        if entry.bind_seq == start {
            for segment in &mut segments {
                segment.ack = entry.bind_ack;
                self.tell_round_trip(&entry, segment);
            }
        }
        if let ([segment], true) = (&segments[..], batch.idempotent)
            && entry.bind_seq == start
            && segment.payload_end() == entry.boundary
            && matches!(batch.to, Target::Server(_))
        {
            let room = self.limits.max_held_bytes / UNANSWERED_SHARE;
            let (segment, now) = (segment.clone(), self.now.mono);
            self.unanswered
                .remember(self.key, &entry, segment, room, now);
        }
        if let Some(first) = segments.first().filter(|_| acknowledged.after(start)) {
            let before = self.kept.take().filter(|kept| kept.is_for(&entry));
            let kept = before.and_then(|kept| kept.joined(first));
            let segment = kept.unwrap_or_else(|| first.clone());
            self.kept = Some(Kept::new(&entry, segment, acknowledged, self.now.mono));
        }
        // What the kernel forwards by the table must not overtake the bind: while the client still sends bytes of the request, the
        // table comes last. Otherwise it comes first, because the next packet is the acknowledgement of the answer.
        let more_to_come = batch.pinned || header_end.before(entry.boundary);
        if !more_to_come {
            self.out.push(Action::Put(self.key, entry));
        }
        self.teach(&entry, &batch, &segments);
        for segment in segments {
            self.bind(&entry, batch.to, segment);
        }
        if more_to_come {
            self.out.push(Action::Put(self.key, entry));
        }
        entry
    }

    /// One whole request in one segment: the kernel can tell it by its bytes when it comes again.
    fn teach(&mut self, entry: &Entry, batch: &Batch, segments: &[Segment]) {
        let (Some(pool), [segment]) = (batch.pool, segments) else {
            return;
        };
        if !batch.pinned && segment.payload.len() == batch.length as usize {
            self.out.push(Action::Learn(Lesson {
                vip: entry.vip,
                request: segment.payload.clone(),
                pool,
                is_head_method: batch.bodiless & 1 == 1,
            }));
        }
    }

    /// Rewrites TSecr so that the header's clock less TSecr is the round trip: the kernel that makes the socket takes
    /// that for its first sample.
    pub(crate) fn tell_round_trip(&self, entry: &Entry, segment: &mut Segment) {
        let clock = self.now.clock_ms;
        if let Some(Timestamps { echo, .. }) = &mut segment.timestamps {
            let unknown = (clock.wrapping_sub(*echo) as i32).clamp(1, UNKNOWN_RTT_MS) as u32;
            *echo = clock.wrapping_sub(entry.min_rtt_ms.unwrap_or(unknown).max(1));
        }
    }
}
