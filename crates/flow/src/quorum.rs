//! Who may decide: no two proxies decide for one flow at a time, whatever is lost, delayed or cut.
//!
//! Each proxy says in its heartbeats which proxies it hears. A proxy leaves another one's flows to it unless a *quorum* of lists, its own among
//! them, does not have that one; and decides only while a quorum has it itself. What somebody was known to say counts for three intervals from
//! the moment that its echo proves. Two quorums have a node in common, and that one cannot have said both:
//!
//! - whoever echoes what a proxy said at some time keeps it in its list for three and a half intervals from then on;
//! - whoever was not in the list before counts on it only after that time, or when all live proxies have it, and so none leaves it out.

use std::time::Duration;

/// Proxies as bits, in the order of their addresses.
pub(crate) type Set = u32;

/// What a proxy says, as this one has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vote {
    /// Its place.
    pub(crate) proxy: u8,
    /// It counts until then.
    pub(crate) until: Duration,
    /// The proxies in its list.
    pub(crate) lists: Set,
    /// Since when this proxy is in it without a gap.
    pub(crate) since: Option<Duration>,
}

/// What a back end says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Witness {
    /// It counts until then.
    pub(crate) until: Duration,
    /// The proxies that it hears.
    pub(crate) hears: Set,
    /// Since when it hears this one without a gap.
    pub(crate) since: Option<Duration>,
}

/// All that this proxy knows.
#[derive(Debug)]
pub(crate) struct Poll {
    pub(crate) now: Duration,
    /// How many proxies are configured.
    pub(crate) proxies: u8,
    /// This one's place.
    pub(crate) own: u8,
    /// It is ready: its own list counts.
    pub(crate) is_ready: bool,
    /// Its own list.
    pub(crate) heard: Set,
    /// Since when it says of its state what it says now: others may go by what it said before.
    pub(crate) own_since: Duration,
    /// Of the other proxies; none of one that is not ready, or hears no majority.
    pub(crate) votes: Vec<Vote>,
    /// Of the back ends that say something.
    pub(crate) witnesses: Vec<Witness>,
    /// How many back ends are configured.
    pub(crate) backends: usize,
    /// Three and a half intervals.
    pub(crate) detection: Duration,
    /// Those that were live before.
    pub(crate) before: Set,
}

impl Poll {
    /// The proxies that own flows, and until when this one may decide.
    pub(crate) fn conclude(&self) -> (Set, Duration) {
        let mut live = self.heard;
        let mut until = Duration::MAX;
        for proxy in 0..self.proxies {
            let bit = 1 << proxy;
            if live & bit != 0 || proxy == self.own {
                continue;
            }
            // Once excluded it stays so until somebody hears it; meanwhile it may be that nothing can be decided.
            let is_listed = self.valid().any(|vote| vote.lists & bit != 0);
            let missing = self.lasts(|vote| vote.lists & bit == 0);
            if is_listed || missing.is_none() && self.before & bit != 0 {
                live |= bit;
            } else {
                until = until.min(missing.unwrap_or(Duration::ZERO));
            }
        }
        if !self.is_ready {
            return (live, Duration::ZERO);
        }
        let support = self.support(live).unwrap_or(Duration::ZERO);
        (live, until.min(support))
    }

    /// Whether these, which this proxy hears, are more than all others can be.
    pub(crate) fn is_quorum(&self, set: Set) -> bool {
        self.suffices(set, self.now)
    }

    /// Until when a quorum has this proxy in its lists.
    fn support(&self, live: Set) -> Option<Duration> {
        let own = 1 << self.own;
        let lists = |vote: &Vote| vote.lists & own != 0;
        let settled = self.lasts(|vote| {
            lists(vote) && vote.since.is_some_and(|at| at + self.detection <= self.now)
        });
        let all = (0..self.proxies)
            .filter(|proxy| *proxy != self.own && live & 1 << proxy != 0)
            .map(|proxy| {
                let mut votes = self.valid();
                votes
                    .find(|vote| vote.proxy == proxy && lists(vote))
                    .map(|vote| vote.until)
            })
            .try_fold(Duration::MAX, |first, until| Some(first.min(until?)));
        let agreed = self.lasts(lists).zip(all).map(|(a, b)| a.min(b));
        settled.max(agreed)
    }

    fn valid(&self) -> impl Iterator<Item = &Vote> {
        self.votes.iter().filter(|vote| vote.until > self.now)
    }

    /// Until when this proxy and those of whom this is true are a quorum; `None`: they are none.
    fn lasts(&self, counts: impl Fn(&Vote) -> bool) -> Option<Duration> {
        let votes: Vec<_> = self.valid().filter(|vote| counts(vote)).collect();
        let ends = votes.iter().map(|vote| vote.until);
        let ends = ends.chain(self.witnesses.iter().map(|witness| witness.until));
        let mut ends: Vec<_> = ends.filter(|end| *end > self.now).collect();
        ends.sort();
        let at = |time: Duration| {
            let others = votes.iter().filter(|vote| vote.until > time);
            let set = others.fold(1 << self.own, |set, vote| set | 1 << vote.proxy);
            self.suffices(set, time)
        };
        if !at(self.now) {
            return None;
        }
        let end = ends.into_iter().find(|end| !at(*end));
        Some(end.unwrap_or(Duration::MAX))
    }

    /// More than half of the configured proxies; or half of them, as the back ends say: at least half of these have heard this proxy for long, and
    /// the first proxy is among them; or more than half of these hear none of the others.
    fn suffices(&self, set: Set, time: Duration) -> bool {
        let (count, all) = (set.count_ones(), u32::from(self.proxies));
        if 2 * count != all {
            return 2 * count > all;
        }
        let valid = || self.witnesses.iter().filter(|witness| witness.until > time);
        let since = self.now.saturating_sub(self.detection);
        let is_settled = self.own_since <= since;
        if set & 1 != 0 {
            let hear = valid().filter(|witness| witness.since.is_some_and(|at| at <= since));
            is_settled && 2 * hear.count() >= self.backends
        } else {
            let alone = valid().filter(|witness| witness.hears & !set == 0);
            is_settled && 2 * alone.count() > self.backends
        }
    }
}
