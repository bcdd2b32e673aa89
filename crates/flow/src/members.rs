//! Who is there: heartbeats sent and heard, and what follows from silence.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use baton_packet::Seq;
use baton_wire::{Accepts, Finding, Heartbeat, MAX_PROXIES, Role, State};

use crate::clock::ClusterClock;
use crate::lease::{Granter, leases};
use crate::ownership::owners;
use crate::peer::{Order, Peer, detection};
use crate::quorum::{Poll, Set, Vote, Witness};
use crate::{PeerId, View};

/// So many heartbeats in a row are missed by a node that is out.
pub(crate) const MISSED: u32 = 3;

/// An echo that is older than so many intervals, and than this time, proves nothing: the heartbeat may be a recorded one.
const FRESH: u32 = 4;
const FRESH_AT_LEAST: Duration = Duration::from_secs(1);

/// Nodes that are not configured are spoken to while they speak, and forgotten after this time.
const REMEMBER: Duration = Duration::from_secs(60);

/// Nodes that are known without being configured.
const MAX_LEARNED: usize = 64;

/// What this node says of itself, and what it hears of others. Times are those of a monotonic clock.
///
/// A proxy looks at [`view`](Members::view) after every [`hear`](Members::hear), [`tick`](Members::tick) and change; a back end, at the same
/// times, at [`leases`](Members::leases); a balancer at [`all`](Members::all).
#[derive(Debug)]
pub struct Members {
    own: Heartbeat,
    /// Of sequence numbers.
    base: u64,
    started: Duration,
    beat_at: Duration,
    due: Duration,
    peers: BTreeMap<IpAddr, Peer>,
    clock: ClusterClock,
    /// The newest time of the cluster clock that was seen in a header, and when.
    seen: Option<(u64, Duration)>,
    /// Since when this node says what it says of its state.
    changed_at: Duration,
    live: Set,
    view: View,
    /// The newest term in which something may have been decided.
    decided_in: Option<u32>,
}

impl Members {
    /// A node that knows no other. `own`: what it says of itself; of a proxy, its `clock` is Unix time (ms) now. `base`: a random number.
    pub fn new(mut own: Heartbeat, base: u64, now: Duration) -> Members {
        own.state.ready = own.role != Role::Proxy;
        let clock = ClusterClock::new(own.clock, now);
        let view = View::alone(clock.now_ms(now) as u32);
        Members {
            own,
            base,
            started: now,
            beat_at: now,
            due: now,
            peers: BTreeMap::new(),
            decided_in: None,
            view,
            clock,
            seen: None,
            changed_at: now,
            live: 0,
        }
    }

    /// Exactly these nodes are expected to be there; what is known of those that were before stays known. A proxy that is not alone is told
    /// all configured proxies, itself included; at most [`MAX_PROXIES`] count.
    pub fn expect(&mut self, now: Duration, nodes: impl IntoIterator<Item = (IpAddr, Role)>) {
        for peer in self.peers.values_mut() {
            peer.expected = false;
        }
        let mut proxies = Vec::new();
        for (node, role) in nodes {
            if role == Role::Proxy {
                proxies.push(node);
            }
            if node != self.own.node {
                let known = self.peers.entry(node);
                let peer = known.or_insert_with(|| Peer::new(now, role));
                peer.expected = true;
                peer.role = role;
            }
        }
        if self.own.role == Role::Proxy {
            self.peers.retain(|_, peer| peer.expected);
        }
        proxies.sort();
        proxies.dedup();
        proxies.truncate(MAX_PROXIES);
        self.share(now, &proxies);
        self.due = now;
    }

    /// From now on says this of itself.
    pub fn say(&mut self, accepts: Accepts, findings: Vec<Finding>) {
        self.own.accepts = accepts;
        self.own.findings = findings;
    }

    /// How much of this node's capacity is available (per mille).
    pub fn set_workload(&mut self, workload: u16) {
        self.own.workload = workload;
    }

    /// Digest of the part of this node's configuration that all nodes have in common.
    pub fn set_digest(&mut self, digest: u64) {
        self.own.digest = digest;
    }

    /// This node shall give its part to others, or is about to end. A proxy decides nothing from then on.
    pub fn set_duty(&mut self, now: Duration, draining: bool, leaving: bool) {
        let state = &mut self.own.state;
        if (state.draining, state.leaving) != (draining, leaving) {
            (state.draining, state.leaving) = (draining, leaving);
            self.change(now);
            self.judge(now);
        }
    }

    /// A balancer: from now on says whether it can do its part. (A proxy finds out by itself.)
    pub fn set_ready(&mut self, ready: bool) {
        if self.own.role == Role::Balancer {
            self.own.state.ready = ready;
        }
    }

    /// A back end has seen this time (ms) in a header.
    pub fn set_seen_clock(&mut self, now: Duration, clock_ms: u64) {
        self.seen = Some((clock_ms, now));
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
        let silence_of_the_dead = detection(self.own.interval.max(message.interval));
        let decides = self.own.role == Role::Proxy && message.role == Role::Backend;
        let lists_own = message.nodes.contains(&self.own.node) && sent_at >= self.changed_at;
        let Some(peer) = self.peers.get_mut(&message.node) else {
            return Heard::Ignored;
        };
        if peer.role != message.role {
            return Heard::Ignored;
        }
        match peer.order(now, message.sequence) {
            Order::Older => return Heard::Ignored,
            Order::OtherStart { silence } if !is_proof && silence < silence_of_the_dead => {
                return Heard::Ignored;
            }
            Order::OtherStart { .. } => peer.forget_lease(),
            Order::Newer => {}
        }
        peer.newest = Some((message.sequence, now));
        if !is_proof {
            return Heard::Unproved;
        }
        let before = (peer.standing, peer.said.take());
        peer.heard = Some(now);
        peer.proved = message.sequence;
        peer.interval = message.interval;
        peer.standing = match peer.standing {
            Standing::Presumed | Standing::Alive => Standing::Alive,
            _ if decides => Standing::Returning,
            _ => Standing::Alive,
        };
        let lease = peer.renew(now, sent_at, MISSED * message.interval, lists_own);
        let said = Said {
            accepts: message.accepts,
            findings: message.findings,
            state: message.state,
            workload: message.workload,
            role: message.role,
            digest: message.digest,
            nodes: message.nodes,
        };
        let is_same = |old: Said| old.is_same(&said);
        let changed = before.0 != peer.standing || !before.1.is_some_and(is_same);
        peer.said = Some(said);
        self.set_clock(now, message.node, message.role, message.clock);
        self.judge(now);
        Heard::Proved { changed, lease }
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
        if self.is_cut_off(now) {
            let backends = self.peers.values_mut();
            let backends = backends.filter(|peer| peer.role == Role::Backend);
            backends.for_each(|peer| peer.excused = now);
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
        self.judge(now);
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

    /// What a proxy decides, and until when.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The cluster clock: of a proxy.
    pub fn clock(&self) -> &ClusterClock {
        &self.clock
    }

    /// What this node says of its own state. A proxy that is not yet ready should answer no SYN: its clock may still jump.
    pub fn state(&self) -> State {
        self.own.state
    }

    /// Until when the flows of each proxy may be answered: for the kernel's map `leases` of a back end.
    pub fn leases(&self, now: Duration) -> Vec<(IpAddr, Duration)> {
        let proxies = self.peers.iter().filter(|(_, p)| p.role == Role::Proxy);
        let granters: Vec<_> = proxies
            .map(|(node, peer)| {
                let said = peer.said.as_ref();
                let majority = said.filter(|said| !said.state.minority);
                Granter {
                    proxy: *node,
                    lease: peer.lease,
                    lists: majority.map(|said| said.nodes.clone()),
                }
            })
            .collect();
        leases(now, &granters)
    }

    /// The nodes that are known: their standing and what they say of themselves.
    pub fn all(&self) -> impl Iterator<Item = (IpAddr, Standing, Option<&Said>)> {
        self.of(|_| true)
    }

    /// The back ends among them.
    pub fn agents(&self) -> impl Iterator<Item = (IpAddr, Standing, Option<&Said>)> {
        self.of(|role| role == Role::Backend)
    }

    fn of(
        &self,
        is_meant: impl Fn(Role) -> bool,
    ) -> impl Iterator<Item = (IpAddr, Standing, Option<&Said>)> {
        let meant = move |(_, peer): &(&IpAddr, &Peer)| is_meant(peer.role);
        let known = self.peers.iter().filter(meant);
        known.map(|(node, peer)| (*node, peer.standing, peer.said.as_ref()))
    }

    /// When a node was last heard.
    pub fn heard(&self, node: IpAddr) -> Option<Duration> {
        self.peers.get(&node)?.heard
    }

    /// Nodes whose configuration is another one than this one's, as far as it is the cluster's.
    pub fn differing(&self) -> impl Iterator<Item = IpAddr> {
        let own = self.own.digest;
        let differs = move |said: &Said| ![0, own].contains(&said.digest) && own != 0;
        let all = self.all();
        let differing = all.filter(move |(_, _, said)| said.is_some_and(differs));
        differing.map(|(node, ..)| node)
    }

    fn beat(&self, now: Duration, peer: &Peer) -> Heartbeat {
        // To a back end a proxy's echo is a lease. One that is out gets none until its flows are settled.
        let grants =
            self.own.role != Role::Proxy || peer.role != Role::Backend || peer.standing.is_in();
        let echo = match peer.standing {
            // What is echoed to a node that is taken for live is why it is.
            Standing::Alive => peer.proved,
            _ => peer.newest.map_or(0, |(newest, _)| newest),
        };
        let carried_on = |(clock, at): (u64, Duration)| {
            clock.saturating_add(now.saturating_sub(at).as_millis() as u64)
        };
        Heartbeat {
            sequence: self.sequence(now),
            echo: if grants { echo } else { 0 },
            clock: match self.own.role {
                Role::Proxy => self.clock.now_ms(now),
                Role::Backend | Role::Balancer => self.seen.map_or(0, carried_on),
            },
            ..self.own.clone()
        }
    }

    /// This node's state is another one from now on: what others said of it was about the one before.
    fn change(&mut self, now: Duration) {
        self.changed_at = now;
        self.peers.values_mut().for_each(|peer| peer.listed = None);
        self.speak(now);
    }

    /// To be said at once, not with the next heartbeat.
    fn speak(&mut self, now: Duration) {
        self.beat_at = self.beat_at.min(now);
        self.due = self.due.min(now);
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

    /// Back ends and balancers learn the proxies from their heartbeats.
    fn learn(&mut self, now: Duration, message: &Heartbeat) -> bool {
        let welcome = self.own.role != Role::Proxy
            && message.role == Role::Proxy
            && message.node != self.own.node
            && self.peers.len() < MAX_LEARNED;
        if welcome {
            let peer = Peer::new(now, message.role);
            self.peers.insert(message.node, peer);
        }
        welcome
    }

    /// The configured proxies have changed, or not.
    fn share(&mut self, now: Duration, proxies: &[IpAddr]) {
        if self.own.role == Role::Proxy && *self.view.proxies != *proxies {
            if now > self.started && now < self.view.until {
                self.decided_in = Some(self.view.term);
            }
            let place = proxies.iter().position(|proxy| *proxy == self.own.node);
            self.view = View {
                proxies: proxies.into(),
                own: place.map(|place| PeerId(place as u16)),
                ..View::alone(self.next_term(now))
            };
            self.live = 0;
            if place.is_some() {
                self.view.until = Duration::ZERO;
            }
        }
        self.judge(now);
    }

    /// Draws the conclusions from what is known now.
    fn judge(&mut self, now: Duration) {
        let heard = self.heard_proxies();
        if self.own.role == Role::Proxy && !self.own.state.ready && self.is_complete(now) {
            self.own.state.ready = true;
            self.change(now);
        }
        if self.own.state.ready && self.is_complete(now) {
            self.clock.settle();
        }
        if self.own.role != Role::Proxy {
            return self.list(now, heard, false);
        }
        let Some(PeerId(own)) = self.view.own else {
            return;
        };
        let poll = self.poll(now, own as u8);
        let alive = self.places(|peer| peer.standing == Standing::Alive) | 1 << own;
        let list = self.members(poll.heard);
        let minority = !poll.is_quorum(alive);
        self.list(now, list, minority);
        let (live, until) = poll.conclude();
        let is_gap = self.view.until <= now && until > now;
        if live != self.live || is_gap {
            self.view.term = self.next_term(now);
        }
        if live != self.live || self.view.owners.is_empty() {
            self.live = live;
            self.view.live = (0..self.view.proxies.len() as u16)
                .filter(|place| live & 1 << place != 0)
                .map(PeerId)
                .collect();
            let places = &self.view.live;
            let place = |index| {
                places
                    .get(usize::from(index))
                    .map_or(u8::MAX, |p| p.0 as u8)
            };
            let owners = owners(&self.members(live));
            self.view.owners = owners.into_iter().map(place).collect();
        }
        self.view.until = until;
        if until > now {
            self.decided_in = Some(self.view.term);
        }
    }

    /// Whether this proxy rather than all others is gone: it hears nobody, or no majority. It must not come back and reset the flows of servers
    /// that it has not heard meanwhile.
    fn is_cut_off(&self, now: Duration) -> bool {
        let newest = self.peers.values().filter_map(|peer| peer.heard).max();
        let hears = newest.is_some_and(|heard| now < heard + self.own.interval * 3 / 2);
        self.view.own.is_some() && is_open(self.own.state) && (!hears || now >= self.view.until)
    }

    /// Whether all that are expected are heard, or have had the time that it takes to find out that they are not there. Before, this node does
    /// not know what it may have said before its start.
    fn is_complete(&self, now: Duration) -> bool {
        let all = self.peers.values().map(|peer| peer.interval);
        let longest = all.fold(self.own.interval, Duration::max);
        let mut expected = self.peers.values().filter(|peer| peer.expected);
        now >= self.started + detection(longest)
            || expected.all(|peer| peer.standing == Standing::Alive)
    }

    fn poll(&self, now: Duration, own: u8) -> Poll {
        let is_open = is_open(self.own.state) as Set;
        let heard = self.places(|peer| {
            let is_alive = peer.standing == Standing::Alive;
            is_alive && peer.said.as_ref().is_some_and(|s| self::is_open(s.state))
        });
        let proxies = self.view.proxies.iter().zip(0u8..);
        let others = proxies.filter_map(|(node, place)| Some((self.peers.get(node)?, place)));
        let votes = others.filter_map(|(peer, proxy)| {
            let said = peer.said.as_ref()?;
            (said.state.ready && !said.state.minority).then(|| Vote {
                proxy,
                until: peer.lease,
                lists: self.set(&said.nodes, peer.listed.is_some(), own),
                since: peer.listed,
            })
        });
        let backends = || self.peers.values().filter(|p| p.role == Role::Backend);
        let witnesses = backends().filter_map(|peer| {
            let said = peer.said.as_ref()?;
            Some(Witness {
                until: peer.lease,
                hears: self.set(&said.nodes, peer.listed.is_some(), own),
                since: peer.listed,
            })
        });
        let all = self.peers.values().map(|peer| peer.interval);
        Poll {
            now,
            proxies: self.view.proxies.len() as u8,
            own,
            is_ready: self.own.state.ready,
            heard: heard | is_open << own,
            own_since: self.changed_at,
            votes: votes.collect(),
            witnesses: witnesses.collect(),
            backends: backends().count(),
            detection: detection(all.fold(self.own.interval, Duration::max)),
            before: self.live,
        }
    }

    /// Those of the configured proxies that are in a list. This one counts only if what it says now was heard.
    fn set(&self, nodes: &[IpAddr], lists_own: bool, own: u8) -> Set {
        let places = self.view.proxies.iter().zip(0u8..);
        let listed = places.filter(|(node, place)| *place != own && nodes.contains(node));
        listed.fold(Set::from(lists_own) << own, |set, (_, place)| {
            set | 1 << place
        })
    }

    fn places(&self, is_in: impl Fn(&Peer) -> bool) -> Set {
        let places = self.view.proxies.iter().zip(0u8..);
        places
            .filter(|(node, _)| self.peers.get(*node).is_some_and(&is_in))
            .fold(0, |set, (_, place)| set | 1 << place)
    }

    fn members(&self, set: Set) -> Vec<IpAddr> {
        let places = self.view.proxies.iter().zip(0u8..);
        let members = places.filter(|(_, place)| set & 1 << place != 0);
        members.map(|(node, _)| *node).collect()
    }

    /// The proxies that a back end or a balancer hears.
    fn heard_proxies(&self) -> Vec<IpAddr> {
        let heard = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.role == Role::Proxy && peer.standing == Standing::Alive);
        heard.map(|(node, _)| *node).take(MAX_PROXIES).collect()
    }

    /// What this node says of others: told at once if it has changed.
    fn list(&mut self, now: Duration, nodes: Vec<IpAddr>, minority: bool) {
        if self.own.nodes != nodes || self.own.state.minority != minority {
            self.own.nodes = nodes;
            self.own.state.minority = minority;
            self.speak(now);
        }
    }

    /// One in which nothing was decided yet, for entries are told apart by it. (Before anything was decided the clock may still jump.)
    fn next_term(&self, now: Duration) -> u32 {
        let clock = self.clock.now_ms(now) as u32;
        let next = match self.decided_in {
            Some(last) if !Seq(clock).after(Seq(last)) => last.wrapping_add(1),
            _ => clock,
        };
        next.max(1)
    }

    /// A node has shown its clock.
    fn set_clock(&mut self, now: Duration, node: IpAddr, role: Role, clock_ms: u64) {
        let reference = self.reference();
        match role {
            Role::Proxy if reference == Some(node) => self.clock.follow(now, clock_ms),
            Role::Backend if reference.is_none_or(|first| first == self.own.node) => {
                self.clock.exceed(now, clock_ms);
            }
            _ => {}
        }
    }

    /// The proxy whose clock counts: the first that is ready; if none is, the first of all.
    fn reference(&self) -> Option<IpAddr> {
        let ready = |peer: &Peer| peer.said.as_ref().is_some_and(|s| s.state.ready);
        let alive = |peer: &Peer| peer.standing == Standing::Alive;
        let first = |counts: &dyn Fn(&Peer) -> bool, own: bool| {
            let mut proxies = self.view.proxies.iter();
            proxies.find(|node| match self.peers.get(*node) {
                Some(peer) => counts(peer),
                None => own,
            })
        };
        first(&|peer| alive(peer) && ready(peer), self.own.state.ready)
            .or_else(|| first(&alive, true))
            .copied()
    }
}

/// Whether a proxy takes part.
fn is_open(state: State) -> bool {
    state.ready && !state.draining && !state.leaving
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
    /// The proxies that it hears; a proxy lists itself too, unless it gives its part away.
    pub nodes: Vec<IpAddr>,
}

impl Said {
    /// Whether a proxy that says this takes part: it may be given packets, and flows to decide.
    pub fn is_available(&self) -> bool {
        is_open(self.state)
    }

    /// But for what changes all the time.
    fn is_same(&self, other: &Said) -> bool {
        let same = (self.accepts, &self.findings, self.state, self.digest);
        same == (other.accepts, &other.findings, other.state, other.digest)
    }
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
        /// Until then the node does not take this one for dead. (Back ends go by [`Members::leases`].)
        lease: Duration,
    },
}
