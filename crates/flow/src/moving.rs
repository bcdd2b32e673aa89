use std::time::Duration;

use crate::Limits;
use crate::requests::Batch;

/// First pause between two releases, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(160);

/// A busy server says when it is ready; should that be lost, it is asked after this time.
const BUSY_PAUSE: Duration = Duration::from_millis(250);

/// A whole request waits until the server that has the flow lets go of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    /// What goes elsewhere then.
    pub(crate) batch: Batch,
    /// When the server was last heard, or first asked.
    heard: Duration,
    ask_at: Duration,
    pause: Duration,
    /// Since when the server says that it does not know the flow.
    unknown_since: Option<Duration>,
    /// The client was asked to acknowledge without delay.
    pub(crate) is_hurried: bool,
}

impl Move {
    /// To be asked for at once.
    pub(crate) fn new(batch: Batch, now: Duration) -> Move {
        Move {
            // By the time that it goes, other rules may have given its pool's number to another one.
            batch: Batch {
                pool: None,
                ..batch
            },
            heard: now,
            ask_at: now,
            pause: FIRST_PAUSE,
            unknown_since: None,
            is_hurried: false,
        }
    }

    /// A release was sent.
    pub(crate) fn asked(&mut self, now: Duration) {
        self.ask_at = now + self.pause;
        self.pause = (2 * self.pause).min(LONGEST_PAUSE);
    }

    /// The server is not ready.
    pub(crate) fn busy(&mut self, now: Duration) {
        *self = Move {
            heard: now,
            ask_at: now + BUSY_PAUSE,
            pause: FIRST_PAUSE,
            unknown_since: None,
            ..*self
        };
    }

    /// The server does not know the flow. `true` if it has said so long enough: a first such answer may have been given
    /// before the bind arrived, and have been late itself.
    pub(crate) fn unknown(&mut self, now: Duration) -> bool {
        let since = self.unknown_since.unwrap_or(now);
        self.busy(now);
        self.unknown_since = Some(since);
        now >= since + BUSY_PAUSE
    }

    /// The server says that it is ready.
    pub(crate) fn ready(&mut self, now: Duration) {
        *self = Move {
            heard: now,
            ask_at: now,
            pause: FIRST_PAUSE,
            ..*self
        };
    }

    /// Whether it is time to ask.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        now >= self.ask_at
    }

    /// Whether the server has been silent for too long.
    pub(crate) fn is_lost(&self, limits: &Limits, now: Duration) -> bool {
        now >= self.heard + limits.release_timeout
    }

    pub(crate) fn deadline(&self, limits: &Limits) -> Duration {
        self.ask_at.min(self.heard + limits.release_timeout)
    }
}
