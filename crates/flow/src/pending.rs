use std::time::Duration;

use baton_packet::{Flags, Segment, Seq};
use baton_policy::ServerId;
use bytes::Bytes;

use crate::assembler::Assembler;
use crate::kept::Kept;
use crate::losing::Probe;
use crate::moving::Move;
use crate::owner::OVERHEAD;
use crate::receipt::Receipt;
use crate::requests::Batch;
use crate::{Entry, Limits};

/// Bytes that one flow may have held.
pub(crate) const MAX_HELD: usize = 1024 * 1024;

/// A request of which nothing was acknowledged is held for at most so long; then the client's TCP sends it again.
const HOLD: Duration = Duration::from_secs(60);

/// A hole waits so long for the client's retransmission: then a head is taken for a slow one, and bytes that have only
/// a hole before them are forgotten.
const HOLE_WAIT: Duration = Duration::from_secs(1);

/// A flow in transition: what is held from the place on where its next request begins.
#[derive(Debug)]
pub(crate) struct Pending {
    /// Where the next request begins.
    pub(crate) start: Seq,
    pub(crate) bytes: Assembler,
    /// After the last byte, if the client has said so.
    fin: Option<Seq>,
    /// The newest segment, without its payload: what is sent carries its acknowledgement, window and timestamps.
    pub(crate) newest: Segment,
    /// Servers that refused this request.
    pub(crate) excluded: Vec<ServerId>,
    since: Duration,
    /// When the request's first bytes came.
    head_since: Option<Duration>,
    /// What the client was told of it.
    pub(crate) receipt: Receipt,
    /// The request is whole, and waits for the server that has the flow.
    pub(crate) moving: Option<Move>,
    /// The server that has the flow is out, and the client is asked what it has.
    pub(crate) probe: Option<Probe>,
}

/// The segment exceeds what may be held.
pub(crate) struct OverLimit;

impl Pending {
    pub(crate) fn new(entry: &Entry, now: Duration) -> Pending {
        Pending {
            start: entry.next_request(),
            bytes: Assembler::default(),
            fin: None,
            newest: Segment {
                seq: entry.next_request(),
                ack: entry.newest_ack,
                flags: Flags::ACK,
                window: entry.window,
                timestamps: None,
                traffic_class: 0,
                hop_limit: 64,
                payload: Bytes::new(),
            },
            excluded: Vec::new(),
            since: now,
            head_since: None,
            receipt: Receipt::new(entry.next_request()),
            moving: None,
            probe: None,
        }
    }

    /// Whether this is about the request that the entry expects next.
    pub(crate) fn fits(&self, entry: &Entry) -> bool {
        self.start == entry.next_request()
    }

    /// Whether there is anything to remember.
    pub(crate) fn is_needed(&self) -> bool {
        !self.bytes.is_empty() || !self.excluded.is_empty() || self.probe.is_some()
    }

    /// What a server refused, to be decided again.
    pub(crate) fn take_back(&mut self, kept: Kept, now: Duration) {
        let Kept { segment, end, .. } = kept;
        // In front of nothing there is always room.
        let _ = self.bytes.insert(0, &segment.payload);
        if segment.flags.contains(Flags::FIN) {
            self.fin = Some(segment.payload_end());
        }
        self.newest = Segment {
            payload: Bytes::new(),
            ..segment
        };
        self.receipt.give(end);
        self.head_since = Some(now);
    }

    /// Takes a segment's bytes from `start` on. `room`: what this flow may cost.
    pub(crate) fn take_in(
        &mut self,
        segment: &Segment,
        room: usize,
        now: Duration,
    ) -> Result<(), OverLimit> {
        let before = self.start - segment.seq;
        let (offset, skipped) = if before > 0 {
            (0, before as usize)
        } else {
            (before.unsigned_abs() as usize, 0)
        };
        let payload = segment.payload.get(skipped..).unwrap_or_default();
        // A request that is whole in one segment need not be held: what is left of it must fit.
        let is_first = self.bytes.is_empty() && offset == 0;
        let fits = |bytes: &Assembler| is_first || bytes.held() + payload.len() + OVERHEAD <= room;
        if !fits(&self.bytes) && offset <= self.bytes.contiguous().len() {
            // What fills the hole matters more than what is behind it.
            self.bytes.forget_pieces();
        }
        let is_near = offset + payload.len() <= MAX_HELD;
        if !is_near || !fits(&self.bytes) || !self.bytes.insert(offset, payload) {
            return Err(OverLimit);
        }
        if segment.flags.contains(Flags::FIN) {
            self.fin = Some(segment.payload_end());
        }
        if self.is_newest(segment) {
            self.newest = Segment {
                payload: Bytes::new(),
                ..segment.clone()
            };
        }
        if !self.bytes.contiguous().is_empty() {
            self.head_since.get_or_insert(now);
            self.receipt.note(self.received(), now);
        }
        Ok(())
    }

    /// The batch's bytes that are held, as segments from the client; with a pinned one goes all that is held. The next
    /// request begins behind the batch.
    pub(crate) fn send(&mut self, batch: &Batch, now: Duration) -> Vec<Segment> {
        let taken = self.bytes.take(if batch.pinned {
            MAX_HELD
        } else {
            batch.length as usize
        });
        let segments = taken.into_iter().map(|(offset, payload)| {
            let seq = self.start + offset as u32;
            let fin = self.fin == Some(seq + payload.len() as u32);
            let flags = Flags::ACK | Flags::PSH | if fin { Flags::FIN } else { Flags(0) };
            Segment {
                seq,
                flags,
                payload,
                ..self.newest.clone()
            }
        });
        let segments = segments.collect();
        self.start += batch.length;
        self.since = now;
        self.head_since = (!self.bytes.contiguous().is_empty()).then_some(now);
        self.receipt = Receipt::new(self.start);
        self.receipt.note(self.received(), now);
        segments
    }

    /// Takes over what the kernel has seen since the newest segment that came here.
    pub(crate) fn catch_up(&mut self, entry: &Entry) {
        self.newest.window = entry.window;
        if let Some(timestamps) = &mut self.newest.timestamps {
            timestamps.value = Seq(timestamps.value).latest(Seq(entry.newest_tsval)).0;
        }
    }

    /// The client sequence number after the contiguous bytes.
    pub(crate) fn received(&self) -> Seq {
        self.start + self.bytes.contiguous().len() as u32
    }

    /// Whether the client sends nothing behind the contiguous bytes.
    pub(crate) fn is_all(&self) -> bool {
        self.fin == Some(self.received())
    }

    /// Whether the client was told that a part of it has arrived, and will not send that again.
    pub(crate) fn is_promised(&self) -> bool {
        self.receipt.end.after(self.start)
    }

    /// What the client will not send again.
    fn promised(&self) -> Option<Segment> {
        let length = usize::try_from(self.receipt.end - self.start).ok()?;
        self.beginning(length)
    }

    /// The client was told that all before this has arrived.
    pub(crate) fn promise(&self) -> Option<Seq> {
        self.is_promised().then_some(self.receipt.end)
    }

    /// All that has arrived without a hole.
    pub(crate) fn contiguous(&self) -> Option<Segment> {
        self.beginning(self.bytes.contiguous().len())
    }

    fn beginning(&self, length: usize) -> Option<Segment> {
        let bytes = self.bytes.contiguous().get(..length)?;
        let fin = self.fin == Some(self.start + length as u32);
        (!bytes.is_empty()).then(|| Segment {
            seq: self.start,
            flags: Flags::ACK | if fin { Flags::FIN } else { Flags(0) },
            payload: Bytes::copy_from_slice(bytes),
            ..self.newest.clone()
        })
    }

    /// The same, if the flow has gone on behind it.
    pub(crate) fn passed_by(&self, entry: &Entry) -> Option<Segment> {
        let ahead = usize::try_from(entry.boundary - self.receipt.end).ok()?;
        let is_passed = entry.bound.is_some() && ahead <= MAX_HELD;
        self.promised().filter(|_| is_passed)
    }

    /// Whether the head has not been completed in time.
    pub(crate) fn is_slow(&self, limits: &Limits, now: Duration) -> bool {
        self.slow_at(limits).is_some_and(|at| now >= at)
    }

    /// Whether it is time to tell the client what has arrived of the head.
    pub(crate) fn is_receipt_due(&self, limits: &Limits, now: Duration) -> bool {
        self.receipt.due(limits).is_some_and(|at| now >= at)
    }

    /// When time alone changes something.
    pub(crate) fn deadline(&self, limits: &Limits) -> Duration {
        if let Some(probe) = self.probe {
            return probe.deadline();
        }
        let ends = [self.end(), self.slow_at(limits)];
        let next = match &self.moving {
            Some(moving) => Some(moving.deadline(limits)),
            None => self.receipt.due(limits),
        };
        let first = ends.into_iter().flatten().chain(next).min();
        first.unwrap_or(self.since + HOLD)
    }

    /// Whether it has been held as long as it may be.
    pub(crate) fn is_overdue(&self, now: Duration) -> bool {
        self.end().is_some_and(|end| now >= end)
    }

    fn slow_at(&self, limits: &Limits) -> Option<Duration> {
        let since = self.head_since.filter(|_| self.moving.is_none())?;
        let wait = if self.bytes.has_hole() {
            limits.head_wait.max(HOLE_WAIT)
        } else {
            limits.head_wait
        };
        Some(since + wait)
    }

    /// When it is forgotten. A partial head goes to the relay before; and what is owed to the client waits as long as its server is busy.
    fn end(&self) -> Option<Duration> {
        match (&self.moving, self.head_since) {
            (Some(_), _) if self.is_promised() => None,
            (Some(_), _) => Some(self.since + HOLD),
            (None, Some(_)) => None,
            (None, None) if self.bytes.has_hole() => Some(self.since + HOLE_WAIT),
            (None, None) => Some(self.since + HOLD),
        }
    }

    /// What it counts against [`Limits::max_held_bytes`].
    pub(crate) fn cost(&self) -> usize {
        self.bytes.held()
    }

    fn is_newest(&self, segment: &Segment) -> bool {
        let newer_clock = match (self.newest.timestamps, segment.timestamps) {
            (Some(newest), Some(own)) => Seq(own.value).at_or_after(Seq(newest.value)),
            _ => true,
        };
        newer_clock && segment.ack.at_or_after(self.newest.ack)
    }
}
