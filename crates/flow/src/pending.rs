use std::time::Duration;

use baton_packet::{Flags, Segment, Seq};
use baton_policy::ServerId;
use bytes::Bytes;

use crate::assembler::Assembler;
use crate::losing::Probe;
use crate::moving::Move;
use crate::requests::Batch;
use crate::{Entry, Limits};

/// Bytes that one flow may have held.
pub(crate) const MAX_HELD: usize = 1024 * 1024;

/// What a pending flow costs besides its bytes.
const OVERHEAD: usize = 256;

/// A request is held for at most so long; then the client's TCP sends it again.
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
        let fits = |bytes: &Assembler| bytes.held() + payload.len() + OVERHEAD <= room;
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
        segments
    }

    /// Takes over what the kernel has seen since the newest segment that came here.
    pub(crate) fn catch_up(&mut self, entry: &Entry) {
        self.newest.window = entry.window;
        if let Some(timestamps) = &mut self.newest.timestamps {
            timestamps.value = Seq(timestamps.value).latest(Seq(entry.newest_tsval)).0;
        }
    }

    /// Whether the head has not been completed in time.
    pub(crate) fn is_slow(&self, limits: &Limits, now: Duration) -> bool {
        self.head_since.is_some() && now >= self.deadline(limits)
    }

    /// When time alone changes something.
    pub(crate) fn deadline(&self, limits: &Limits) -> Duration {
        if let Some(probe) = self.probe {
            return probe.deadline();
        }
        match (&self.moving, self.head_since) {
            (Some(moving), _) => moving.deadline(limits).min(self.end()),
            (None, Some(since)) if self.bytes.has_hole() => since + limits.head_wait.max(HOLE_WAIT),
            (None, Some(since)) => since + limits.head_wait,
            (None, None) => self.end(),
        }
    }

    /// Whether it has been held as long as it may be.
    pub(crate) fn is_overdue(&self, now: Duration) -> bool {
        now >= self.end()
    }

    fn end(&self) -> Duration {
        let only_behind_a_hole =
            self.moving.is_none() && self.head_since.is_none() && self.bytes.has_hole();
        self.since + if only_behind_a_hole { HOLE_WAIT } else { HOLD }
    }

    /// What it counts against [`Limits::max_held_bytes`].
    pub(crate) fn cost(&self) -> usize {
        self.bytes.held() + OVERHEAD
    }

    fn is_newest(&self, segment: &Segment) -> bool {
        let newer_clock = match (self.newest.timestamps, segment.timestamps) {
            (Some(newest), Some(own)) => Seq(own.value).at_or_after(Seq(newest.value)),
            _ => true,
        };
        newer_clock && segment.ack.at_or_after(self.newest.ack)
    }
}
