//! Who is there: heartbeats sent and heard, and what follows from silence.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use baton_wire::{Accepts, Finding, Heartbeat, Role, State};

/// So many heartbeats in a row are missed by a node that is out.
const MISSED: u32 = 3;

/// A node that has yet to be heard for the first time has at least so long: a lost question for its link-layer address is asked again after a
/// second (`retrans_time_ms`), and nothing is known against it.
const FIRST_HEARING: Duration = Duration::from_secs(3);

/// An echo that is older than so many intervals, and than this time, proves nothing: the heartbeat may be a recorded one.
const FRESH: u32 = 4;
const FRESH_AT_LEAST: Duration = Duration::from_secs(1);

/// Sequence numbers of one start of a node are no farther from the clock than this.
const DRIFT: Duration = Duration::from_secs(10);

/// Nodes that are not configured are spoken to while they speak, and forgotten after this time.
const REMEMBER: Duration = Duration::from_secs(60);

/// Nodes that are known without being configured.
const MAX_LEARNED: usize = 64;

/// What this node says of itself, and what it hears of others. Times are those of a monotonic clock.
#[derive(Debug)]
pub struct Members {
    own: Heartbeat,
    /// Of sequence numbers.
    base: u64,
    beat_at: Duration,
    due: Duration,
    peers: BTreeMap<IpAddr, Peer>,
}

/// A node, as the others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing was heard of it yet, and it has had no time to be heard.
    Presumed,
    /// Heard.
    Alive,
    /// Nothing was heard of it since this node began.
    NeverHeard,
    /// Three heartbeats in a row were missed.
    Silent,
    /// Heard again, but not taken in yet: [`Members::admit`].
    Returning,
}

impl Standing {
    /// Whether the node may be given something.
    pub fn is_in(self) -> bool {
        matches!(self, Standing::Presumed | Standing::Alive)
    }
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// What its kernel takes over.
    pub accepts: Accepts,
    /// What is in the way of its services.
    pub findings: Vec<Finding>,
    /// What it is doing.
    pub state: State,
    /// How much of its own capacity is available (per mille).
    pub workload: u16,
    /// What it is.
    pub role: Role,
    /// Of its configuration of the cluster.
    pub digest: u64,
    /// A proxy: those that it takes for live. A back end: those that it hears.
    pub nodes: Vec<IpAddr>,
}

/// What a heartbeat did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing: it is old, or from a node that is none of ours.
    Ignored,
    /// It may be a recorded one, and counts for nothing but that it is answered.
    Unproved,
    /// The node is there.
    Proved {
        /// The standing or what the node says of itself has changed.
        changed: bool,
        /// Until then the node does not take this one for dead.
        lease: Duration,
    },
}

#[derive(Debug)]
struct Peer {
    /// By the configuration.
    expected: bool,
    /// When it was first known.
    since: Duration,
    heard: Option<Duration>,
    /// Its newest sequence number, and when it came.
    newest: Option<(u64, Duration)>,
    interval: Duration,
    said: Option<Said>,
    standing: Standing,
}

impl Members {
    /// A node that knows no other. `own`: what it says of itself. `base`: a random number.
    pub fn new(own: Heartbeat, base: u64, now: Duration) -> Members {
        Members {
            own,
            base,
            beat_at: now,
            due: now,
            peers: BTreeMap::new(),
        }
    }

    /// Exactly these nodes are expected to be there; what is known of those that were before stays known.
    pub fn expect(&mut self, now: Duration, nodes: impl IntoIterator<Item = IpAddr>) {
        for peer in self.peers.values_mut() {
            peer.expected = false;
        }
        for node in nodes {
            let peer = self.peers.entry(node).or_insert_with(|| Peer::new(now));
            peer.expected = true;
        }
        if self.own.role == Role::Proxy {
            self.peers.retain(|_, peer| peer.expected);
        }
        self.due = now;
    }

    /// From now on says this of itself.
    pub fn say(&mut self, accepts: Accepts, findings: Vec<Finding>) {
        self.own.accepts = accepts;
        self.own.findings = findings;
    }

    /// From now on says whether it shall be given nothing new, and whether it is about to end.
    pub fn set_duty(&mut self, draining: bool, leaving: bool) {
        let state = &mut self.own.state;
        if (state.draining, state.leaving) != (draining, leaving) {
            (state.draining, state.leaving) = (draining, leaving);
            self.due = Duration::ZERO;
            self.beat_at = Duration::ZERO;
        }
    }

    /// From now on says whether it knows enough to be given its part.
    pub fn set_ready(&mut self, ready: bool) {
        self.own.state.ready = ready;
    }

    /// From now on has this configuration of the cluster.
    pub fn set_digest(&mut self, digest: u64) {
        self.own.digest = digest;
    }

    /// From now on speaks so often.
    pub fn set_interval(&mut self, interval: Duration) {
        if self.own.interval != interval {
            self.own.interval = interval;
            self.due = Duration::ZERO;
        }
    }

    /// A node says that it is there.
    pub fn hear(&mut self, now: Duration, message: Heartbeat) -> Heard {
        let is_proof = self.proves(now, &message);
        let sent_at = now.saturating_sub(self.age(now, message.echo));
        if !self.peers.contains_key(&message.node) && !self.learn(now, &message) {
            return Heard::Ignored;
        }
        let detection = self.detection(message.interval);
        let decides = self.own.role == Role::Proxy;
        let Some(peer) = self.peers.get_mut(&message.node) else {
            return Heard::Ignored;
        };
        match peer.order(now, message.sequence) {
            Order::Older => return Heard::Ignored,
            Order::OtherStart { silence } if !is_proof && silence < detection => {
                return Heard::Ignored;
            }
            Order::Newer | Order::OtherStart { .. } => {}
        }
        peer.newest = Some((message.sequence, now));
        if !is_proof {
            return Heard::Unproved;
        }
        let before = (peer.standing, peer.said.take());
        peer.heard = Some(now);
        peer.interval = message.interval;
        peer.standing = match peer.standing {
            Standing::Presumed | Standing::Alive => Standing::Alive,
            _ if decides => Standing::Returning,
            _ => Standing::Alive,
        };
        peer.said = Some(Said {
            accepts: message.accepts,
            findings: message.findings,
            state: message.state,
            workload: message.workload,
            role: message.role,
            digest: message.digest,
            nodes: message.nodes,
        });
        Heard::Proved {
            changed: before.0 != peer.standing || before.1 != peer.said,
            lease: sent_at + MISSED * message.interval,
        }
    }

    /// A node that is heard again may be given something again: all that was given to others meanwhile is settled.
    pub fn admit(&mut self, node: IpAddr) {
        if let Some(peer) = self.peers.get_mut(&node)
            && peer.standing == Standing::Returning
        {
            peer.standing = Standing::Alive;
        }
    }

    /// Appends to `out` what is to be sent now, and to whom. Whether the standing of a node has changed.
    pub fn tick(&mut self, now: Duration, out: &mut Vec<(IpAddr, Heartbeat)>) -> bool {
        if now < self.due {
            return false;
        }
        let late = now.saturating_sub(self.beat_at);
        if self.beat_at > Duration::ZERO && late > self.own.interval {
            // This node itself was held up: its silence is nobody's death.
            for peer in self.peers.values_mut() {
                peer.since += late;
                peer.heard = peer.heard.map(|heard| heard + late);
            }
        }
        let mut changed = false;
        let own = self.own.interval;
        for peer in self.peers.values_mut() {
            let expiry = peer.expiry(own);
            let next = match peer.standing {
                _ if now < expiry => continue,
                Standing::Presumed => Standing::NeverHeard,
                Standing::Alive | Standing::Returning => Standing::Silent,
                out => out,
            };
            changed |= next != peer.standing;
            peer.standing = next;
        }
        self.peers.retain(|_, peer| {
            let at = peer.newest.map_or(peer.since, |(_, at)| at);
            peer.expected || now < at + REMEMBER
        });
        if now >= self.beat_at {
            out.extend(
                self.peers
                    .iter()
                    .map(|(node, peer)| (*node, self.beat(now, peer))),
            );
            let on_time = self.beat_at + own;
            self.beat_at = if on_time > now { on_time } else { now + own };
        }
        let expiries = self.peers.values().filter(|peer| peer.can_expire());
        let expiries = expiries.map(|peer| peer.expiry(own));
        self.due = expiries.fold(self.beat_at, Duration::min);
        changed
    }

    /// When [`tick`](Members::tick) is to be called next.
    pub fn next_deadline(&self) -> Duration {
        self.due
    }

    /// The nodes that are known: their standing and what they say of themselves.
    pub fn all(&self) -> impl Iterator<Item = (IpAddr, Standing, Option<&Said>)> {
        self.peers
            .iter()
            .map(|(node, peer)| (*node, peer.standing, peer.said.as_ref()))
    }

    /// When a node was last heard.
    pub fn heard(&self, node: IpAddr) -> Option<Duration> {
        self.peers.get(&node)?.heard
    }

    fn beat(&self, now: Duration, peer: &Peer) -> Heartbeat {
        // To a back end a proxy's echo is a lease. One that is out gets none until its flows are settled.
        let grants = self.own.role != Role::Proxy || peer.standing.is_in();
        Heartbeat {
            sequence: self.sequence(now),
            echo: peer.newest.filter(|_| grants).map_or(0, |(echo, _)| echo),
            ..self.own.clone()
        }
    }

    fn sequence(&self, now: Duration) -> u64 {
        // 0 is no echo.
        self.base.wrapping_add(now.as_micros() as u64).max(1)
    }

    /// How long ago this node said what is echoed.
    fn age(&self, now: Duration, echo: u64) -> Duration {
        Duration::from_micros(self.sequence(now).wrapping_sub(echo))
    }

    fn proves(&self, now: Duration, message: &Heartbeat) -> bool {
        let limit = FRESH * self.own.interval.max(message.interval);
        message.echo != 0 && self.age(now, message.echo) <= limit.max(FRESH_AT_LEAST)
    }

    /// A back end learns the proxies from their heartbeats.
    fn learn(&mut self, now: Duration, message: &Heartbeat) -> bool {
        let welcome = self.own.role == Role::Backend
            && message.role == Role::Proxy
            && self.peers.len() < MAX_LEARNED;
        if welcome {
            self.peers.insert(message.node, Peer::new(now));
        }
        welcome
    }

    fn detection(&self, interval: Duration) -> Duration {
        detection(self.own.interval.max(interval))
    }
}

/// How a sequence number stands to the newest of its node.
enum Order {
    Newer,
    Older,
    /// Of another start of the node, or recorded. `silence`: since the newest.
    OtherStart {
        silence: Duration,
    },
}

impl Peer {
    fn new(now: Duration) -> Peer {
        Peer {
            expected: false,
            since: now,
            heard: None,
            newest: None,
            interval: Duration::ZERO,
            said: None,
            standing: Standing::Presumed,
        }
    }

    fn order(&self, now: Duration, sequence: u64) -> Order {
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

    fn can_expire(&self) -> bool {
        !matches!(self.standing, Standing::NeverHeard | Standing::Silent)
    }

    fn expiry(&self, own: Duration) -> Duration {
        let silence = detection(own.max(self.interval));
        match self.heard {
            Some(heard) => heard + silence,
            None => self.since + silence.max(FIRST_HEARING),
        }
    }
}

/// Half an interval more than three: heartbeats are late now and then.
fn detection(interval: Duration) -> Duration {
    MISSED * interval + interval / 2
}
