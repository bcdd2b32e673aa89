use std::time::Duration;

use baton_packet::Seq;

use crate::Limits;

/// First pause between two questions to an agent, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(640);

/// What a client was told of a partial head. One that sends small segments (Nagle, RFC 896) or has filled its congestion window sends nothing
/// more until it is told.
#[derive(Debug)]
pub(crate) struct Receipt {
    /// All before this is acknowledged; where the request begins, if nothing of it is.
    pub(crate) end: Seq,
    /// Since when there are bytes behind it.
    waiting_since: Option<Duration>,
    /// The server that has the flow is known to have all before the request: an acknowledgement covers that too.
    pub(crate) is_safe: bool,
    /// The successor has all before this.
    pub(crate) kept: Seq,
    /// When to ask that server, or the successor (again), and the pause after that.
    ask: Option<(Duration, Duration)>,
}

impl Receipt {
    /// Nothing of the request that begins at `start` was acknowledged.
    pub(crate) fn new(start: Seq) -> Receipt {
        Receipt {
            end: start,
            waiting_since: None,
            is_safe: false,
            kept: start,
            ask: None,
        }
    }

    /// The client's bytes before `received` are here.
    pub(crate) fn note(&mut self, received: Seq, now: Duration) {
        if received.after(self.end) {
            self.waiting_since.get_or_insert(now);
        }
    }

    /// The client is told, or was, that all before `end` has arrived.
    pub(crate) fn give(&mut self, end: Seq) {
        self.end = end;
        self.waiting_since = None;
    }

    /// The server that has the flow has taken all before the request.
    pub(crate) fn is_taken(&mut self) {
        self.is_safe = true;
        self.ask = None;
    }

    /// The successor has all before `end`.
    pub(crate) fn is_kept(&mut self, end: Seq) {
        self.kept = self.kept.latest(end);
        self.ask = None;
    }

    /// The server that has the flow was asked what it has taken, or the successor to keep what is here.
    pub(crate) fn asked(&mut self, now: Duration) {
        let pause = self.ask.map_or(FIRST_PAUSE, |(_, pause)| pause);
        self.ask = Some((now + pause, (2 * pause).min(LONGEST_PAUSE)));
    }

    /// When to acknowledge what has arrived, or to ask whether that may be done.
    pub(crate) fn due(&self, limits: &Limits) -> Option<Duration> {
        let due = self.waiting_since? + limits.ack_wait;
        Some(match self.ask {
            Some((at, _)) => due.max(at),
            None => due,
        })
    }
}
