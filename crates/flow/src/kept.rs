use std::time::Duration;

use baton_packet::{Segment, Seq};

use crate::Entry;

/// First pause between two repetitions, doubled up to the longest. The way is that between two nodes; but the first answer tells as well,
/// and should have a chance to come first.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(1600);

/// A server that has not taken them after this time never will.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that the client will not send again, because they were acknowledged to it, and that are on their way to a server: sent again until
/// the server has them.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Of the bind that they went to.
    epoch: u32,
    /// They are of its first request alone.
    is_first: bool,
    /// The bytes, as they were sent, and what was to be sent with them.
    pub(crate) segment: Segment,
    /// Where those end that the client will not send again.
    pub(crate) end: Seq,
    since: Duration,
    again_at: Duration,
    pause: Duration,
}

impl Kept {
    /// Just sent, to the server that has `entry`.
    pub(crate) fn new(entry: &Entry, segment: Segment, end: Seq, now: Duration) -> Kept {
        Kept {
            epoch: entry.epoch,
            is_first: segment.seq == entry.bind_seq && entry.requests == 1,
            segment,
            end,
            since: now,
            again_at: now + FIRST_PAUSE,
            pause: FIRST_PAUSE,
        }
    }

    /// The same with what comes right behind it; `None` if that is something else.
    pub(crate) fn joined(&self, next: &Segment) -> Option<Segment> {
        let payload = [&self.segment.payload[..], &next.payload[..]].concat();
        (self.segment.payload_end() == next.seq).then(|| Segment {
            seq: self.segment.seq,
            payload: payload.into(),
            ..next.clone()
        })
    }

    /// Whether they went to the bind that the entry stands for.
    pub(crate) fn is_for(&self, entry: &Entry) -> bool {
        entry.bound.is_some() && entry.epoch == self.epoch
    }

    /// Whether the client's acknowledgements say that the server has them: it has answered the bind that they began. Behind a later header
    /// they may be for earlier answers, and only the agent knows.
    pub(crate) fn is_answered(&self, entry: &Entry) -> bool {
        self.is_first && entry.is_adopted()
    }

    /// Whether a server that has taken all before `ack` has them.
    pub(crate) fn is_taken(&self, ack: Seq) -> bool {
        ack.at_or_after(self.end)
    }

    /// Whether it is time to send them again.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        now >= self.again_at
    }

    /// Whether it has been tried for too long.
    pub(crate) fn is_lost(&self, now: Duration) -> bool {
        now >= self.since + PATIENCE
    }

    /// When one of the two changes.
    pub(crate) fn deadline(&self) -> Duration {
        self.again_at.min(self.since + PATIENCE)
    }

    /// To be sent now: with the client's newest window and clock, and, but for a bind, its newest acknowledgement.
    pub(crate) fn again(&mut self, entry: &Entry, now: Duration) -> Segment {
        self.pause = (2 * self.pause).min(LONGEST_PAUSE);
        self.again_at = now + self.pause;
        let mut segment = self.segment.clone();
        segment.window = entry.window;
        if let Some(timestamps) = &mut segment.timestamps {
            timestamps.value = Seq(timestamps.value).latest(Seq(entry.newest_tsval)).0;
            // The round trip that it tells stays the same (`tell_round_trip`).
            let age = now.saturating_sub(self.since).as_millis() as u32;
            timestamps.echo = timestamps.echo.wrapping_add(age);
        }
        if segment.seq != entry.bind_seq {
            segment.ack = segment.ack.latest(entry.newest_ack);
        }
        segment
    }

    /// What they count against [`Limits::max_held_bytes`](crate::Limits::max_held_bytes).
    pub(crate) fn cost(&self) -> usize {
        self.segment.payload.len()
    }
}
