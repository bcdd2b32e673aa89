use std::time::Duration;

use baton_wire::Role;

use crate::members::MISSED;
use crate::{Said, Standing};

/// A node that has yet to be heard for the first time has at least so long: a lost question for its link-layer address is asked again after a
/// second (`retrans_time_ms`), and nothing is known against it.
const FIRST_HEARING: Duration = Duration::from_secs(3);

/// Sequence numbers of one start of a node are no farther from the clock than this.
const DRIFT: Duration = Duration::from_secs(10);

/// What is known of another node.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) role: Role,
    /// By the configuration.
    pub(crate) expected: bool,
    /// When it was first known.
    pub(crate) since: Duration,
    pub(crate) heard: Option<Duration>,
    /// Its silence until then says nothing: this node itself was cut off.
    pub(crate) excused: Duration,
    /// Its newest sequence number, and when it came.
    pub(crate) newest: Option<(u64, Duration)>,
    /// The newest that came with a proof.
    pub(crate) proved: u64,
    pub(crate) interval: Duration,
    pub(crate) said: Option<Said>,
    pub(crate) standing: Standing,
    /// It does not take this node for dead before this time.
    pub(crate) lease: Duration,
    /// Since when it has this node in its list, as far as is known without a gap.
    pub(crate) listed: Option<Duration>,
}

/// How a sequence number stands to the newest of its node.
pub(crate) enum Order {
    Newer,
    Older,
    /// Of another start of the node, or recorded. `silence`: since the newest.
    OtherStart {
        silence: Duration,
    },
}

impl Peer {
    pub(crate) fn new(now: Duration, role: Role) -> Peer {
        Peer {
            role,
            expected: false,
            since: now,
            heard: None,
            excused: Duration::ZERO,
            newest: None,
            proved: 0,
            interval: Duration::ZERO,
            said: None,
            standing: Standing::Presumed,
            lease: Duration::ZERO,
            listed: None,
        }
    }

    pub(crate) fn order(&self, now: Duration, sequence: u64) -> Order {
        let Some((newest, at)) = self.newest else {
            return Order::Newer;
        };
        let silence = now.saturating_sub(at);
        let ahead = Duration::from_micros(sequence.wrapping_sub(newest));
        let behind = Duration::from_micros(newest.wrapping_sub(sequence));
        if behind <= silence + DRIFT {
            Order::Older
        } else if ahead <= silence + DRIFT {
            Order::Newer
        } else {
            Order::OtherStart { silence }
        }
    }

    /// It has heard what this node said at `sent_at`, and has it in its list, or not. Until when it cannot take it for dead.
    pub(crate) fn renew(
        &mut self,
        now: Duration,
        sent_at: Duration,
        lease: Duration,
        lists_own: bool,
    ) -> Duration {
        let has_gap = sent_at > self.lease;
        self.listed = self.listed.filter(|_| !has_gap).or(Some(now));
        self.listed = self.listed.filter(|_| lists_own);
        self.lease = self.lease.max(sent_at + lease);
        self.lease
    }

    /// It was started again, and has forgotten this node.
    pub(crate) fn forget_lease(&mut self) {
        self.lease = Duration::ZERO;
        self.listed = None;
    }

    pub(crate) fn can_expire(&self) -> bool {
        !matches!(self.standing, Standing::NeverHeard | Standing::Silent)
    }

    pub(crate) fn expiry(&self, own: Duration) -> Duration {
        let silence = detection(own.max(self.interval));
        match self.heard {
            Some(heard) => (heard + silence).max(self.excused + silence.max(FIRST_HEARING)),
            None => self.since + silence.max(FIRST_HEARING),
        }
    }
}

/// Half an interval more than three: heartbeats are late now and then.
pub(crate) fn detection(interval: Duration) -> Duration {
    MISSED * interval + interval / 2
}
