//! Which of several balancers has the addresses of the VIPs.
//!
//! The best of those that are there: one that is *ready* before one that is not, then the lowest address. Nothing is synchronised. While two
//! have the addresses, or none, no harm is done: a balancer spreads whatever reaches it, whether or not it has the addresses.
//!
//! Without flapping: one that comes back says that it is ready only after its proxies were heard for [`SEASON`] intervals without a gap, and
//! one that is better must have been so for [`YIELD`] before it is given way to: by then it knows, too.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::Standing;

/// Intervals that a balancer must have been able to work before it is ready, when another one is there that could do it.
const SEASON: u32 = 10;
/// The same when it is the first of those that are there, and no other is ready: long enough to hear the others.
const SETTLE: u32 = 4;
/// Half intervals for which a better one is watched.
const YIELD: u32 = 3;
/// How often a move is announced: announcements get lost.
const ANNOUNCEMENTS: u32 = 3;
/// And again every so many intervals, at least this time apart: what neighbours know of an address lasts while connections go on, though another
/// balancer has given it up long ago; it still spreads their packets, until it dies.
const REFRESH: u32 = 10;
const REFRESH_AT_LEAST: Duration = Duration::from_secs(1);

/// Another balancer, as this one hears it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rival {
    /// Its address.
    pub node: IpAddr,
    /// Whether it is there.
    pub standing: Standing,
    /// What it says of itself.
    pub ready: bool,
}

/// What is to be done with the addresses of the VIPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Take them, and tell the network.
    Take,
    /// They are here: tell the network again.
    Announce,
    /// Give them up.
    Yield,
}

/// This balancer's view. Times are those of a monotonic clock.
#[derive(Debug)]
pub struct Takeover {
    own: IpAddr,
    interval: Duration,
    able_since: Option<Duration>,
    ready: bool,
    holds: bool,
    /// Since when another one is better.
    outdone_since: Option<Duration>,
    started: Option<Duration>,
    heard: BTreeSet<IpAddr>,
    announcements: u32,
    announce_at: Duration,
}

impl Takeover {
    /// `interval`: of the heartbeats. `holds`: the addresses were left here by a process before.
    pub fn new(own: IpAddr, interval: Duration, holds: bool) -> Takeover {
        Takeover {
            own,
            interval,
            able_since: None,
            ready: false,
            holds,
            outdone_since: None,
            started: None,
            heard: BTreeSet::new(),
            announcements: 0,
            announce_at: Duration::ZERO,
        }
    }

    /// From now on heartbeats come so often.
    pub fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// What this balancer is to say of itself.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether it has the addresses.
    pub fn holds(&self) -> bool {
        self.holds
    }

    /// To be called at least once an interval. `able`: a proxy is there to give packets to.
    pub fn decide(&mut self, now: Duration, able: bool, rivals: &[Rival]) -> Option<Move> {
        self.prepare(now, able, rivals);
        let others_changed = self.meet(rivals);
        let rank = |ready: bool, node: IpAddr| (!ready, node);
        let is_outdone = rivals.iter().any(|rival| {
            rival.is_heard() && rank(rival.ready, rival.node) < rank(self.ready, self.own)
        });
        let started = *self.started.get_or_insert(now);
        let may_be_heard = rivals
            .iter()
            .any(|rival| rival.standing == Standing::Presumed)
            && now < started + SETTLE * self.interval;
        self.outdone_since = is_outdone.then(|| self.outdone_since.unwrap_or(now));
        match (self.holds, self.outdone_since) {
            // One that hears nobody is cut off.
            (false, None) if !may_be_heard && (able || !self.heard.is_empty()) => {
                self.holds = true;
                self.announcements = ANNOUNCEMENTS - 1;
                self.announce_at = now + self.interval;
                Some(Move::Take)
            }
            (true, Some(since)) if now >= since + self.interval * YIELD / 2 => {
                self.holds = false;
                Some(Move::Yield)
            }
            (true, None) => {
                if others_changed {
                    // One that is heard may have them as well, until it hears this one; to one that is not, packets may still go.
                    self.announcements = ANNOUNCEMENTS;
                    self.announce_at = now;
                }
                self.announce(now)
            }
            _ => None,
        }
    }

    fn announce(&mut self, now: Duration) -> Option<Move> {
        if now < self.announce_at {
            return None;
        }
        self.announcements = self.announcements.saturating_sub(1);
        self.announce_at = now
            + match self.announcements {
                0 => (REFRESH * self.interval).max(REFRESH_AT_LEAST),
                _ => self.interval,
            };
        Some(Move::Announce)
    }

    fn prepare(&mut self, now: Duration, able: bool, rivals: &[Rival]) {
        if !able {
            self.able_since = None;
            self.ready = false;
            return;
        }
        let since = *self.able_since.get_or_insert(now);
        let mut there = rivals.iter().filter(|rival| rival.standing.is_in());
        let is_first = there.all(|rival| rival.node > self.own && !rival.ready);
        let season = if is_first { SETTLE } else { SEASON };
        self.ready |= now >= since + season * self.interval;
    }

    /// Whether one is there that was not, or the other way round.
    fn meet(&mut self, rivals: &[Rival]) -> bool {
        let heard = rivals.iter().filter(|rival| rival.is_heard());
        let heard = heard.map(|rival| rival.node).collect();
        let before = std::mem::replace(&mut self.heard, heard);
        self.heard != before
    }
}

impl Rival {
    fn is_heard(&self) -> bool {
        matches!(self.standing, Standing::Alive | Standing::Returning)
    }
}
