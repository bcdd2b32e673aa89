//! What the tests share: one flow, a table, servers chosen by the path's first digit.

mod asking;
mod bounds;
mod clock;
mod cluster;
mod lease;
mod lessons;
mod losing;
mod members;
mod model;
mod ownership;
mod pairs;
mod pieces;
mod rules;
mod shares;
mod takeover;

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use baton_packet::{Flags, FlowKey, RequestHead, Segment, Seq, Timestamps};
use baton_policy::{PoolId, ServerId};
use baton_wire::{Notice, Outcome, ReleaseAnswer, What};
use bytes::Bytes;
use proptest::test_runner::{Config as ProptestConfig, RngSeed};

use crate::{
    Action, Choice, ClientOptions, Counter, Decide, Entry, Event, Limits, Now, Owner, Table,
    Target, View,
};

/// The client's first byte and what it acknowledges first; both wrap soon.
const FIRST: Seq = Seq(0xffff_ffe0);
const ACK: Seq = Seq(0xffff_fff0);
const VIP: u16 = 7;
const PROMISED_WSCALE: u8 = 10;
const TERM: u32 = 0x7fff_0000;

/// So many cases, the same ones each time: a test shall not depend on luck. Others, and more, by PROPTEST_RNG_SEED and PROPTEST_CASES.
fn same_each_time(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    }
}

fn key() -> FlowKey {
    FlowKey::new(
        "192.0.2.1:40000".parse().unwrap(),
        "198.51.100.7:80".parse().unwrap(),
    )
}

fn limits() -> Limits {
    Limits {
        ack_wait: Duration::from_millis(5),
        head_wait: Duration::from_millis(20),
        release_timeout: Duration::from_secs(3),
        max_head_bytes: 4096,
        max_held_bytes: 64 << 20,
        promised_wscale: PROMISED_WSCALE,
    }
}

fn options() -> ClientOptions {
    ClientOptions {
        mss: 1460,
        wscale: Some(7),
        sack: true,
        timestamps: true,
    }
}

/// `/3...` goes to server 3, or 13, 23 ... if that one is excluded or another of them is present; `/any` stays, and begins
/// at server 1 (11, 21 ...); all else goes to the relay.
#[derive(Debug, Default)]
struct ByPath {
    asked: usize,
    out: Vec<ServerId>,
    /// Who can be asked.
    holders: Vec<Target>,
    /// What it says of the pool of those that it does not send to the relay.
    pool: Option<PoolId>,
}

impl Decide for ByPath {
    fn decide(
        &mut self,
        vip: u16,
        head: &RequestHead,
        client: IpAddr,
        _options: &ClientOptions,
        present: Option<ServerId>,
        excluded: &[ServerId],
    ) -> Choice {
        self.asked += 1;
        assert_eq!((vip, client), (VIP, key().client().ip()));
        if head.path == "/any"
            && let Some(present) = present
        {
            return self.to(Target::Server(present));
        }
        let Some(pool) = pool(&head.path) else {
            return Choice {
                to: Target::Relay,
                pool: None,
            };
        };
        let usable = |server: &ServerId| !excluded.contains(server) && !self.out.contains(server);
        let stays = |server: &ServerId| server.0 % 10 == pool && usable(server);
        let other = || {
            (0..)
                .map(|i| ServerId(10 * i + pool))
                .find(|server| usable(server))
        };
        self.to(Target::Server(
            present.filter(stays).or_else(other).unwrap(),
        ))
    }

    fn is_out(&self, holder: Target) -> bool {
        matches!(holder, Target::Server(server) if self.out.contains(&server))
    }

    fn holders(&self) -> Vec<Target> {
        self.holders.clone()
    }
}

impl ByPath {
    fn to(&self, to: Target) -> Choice {
        Choice {
            to,
            pool: self.pool,
        }
    }
}

fn pool(path: &str) -> Option<u16> {
    if path == "/any" {
        return Some(1);
    }
    path.chars()
        .nth(1)
        .and_then(|digit| digit.to_digit(10))
        .map(|digit| digit as u16)
}

#[derive(Debug, Default)]
struct Entries(HashMap<FlowKey, Entry>, HashMap<u64, Bytes>);

impl Table for Entries {
    fn entry(&self, key: &FlowKey) -> Option<Entry> {
        self.0.get(key).copied()
    }

    fn recall(&self, known: u64) -> Option<Bytes> {
        self.1.get(&known).cloned()
    }
}

/// An owner with its table and clock.
struct Bench {
    owner: Owner,
    entries: Entries,
    decide: ByPath,
    now: Now,
    /// Of the entries that the kernel makes.
    term: u32,
}

impl Bench {
    fn new(limits: Limits) -> Bench {
        Bench {
            owner: Owner::new(limits, View::alone(TERM)),
            entries: Entries::default(),
            decide: ByPath::default(),
            now: Now {
                mono: Duration::from_secs(1000),
                clock_ms: 0x8000_0000,
            },
            term: TERM,
        }
    }

    /// Handles the event, carries out what concerns the table, and returns all actions.
    fn handle(&mut self, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        self.owner
            .handle(self.now, event, &self.entries, &mut self.decide, &mut out);
        self.settle(out)
    }

    /// Lets time pass, with a tick at every deadline on the way.
    fn pass(&mut self, time: Duration) -> Vec<Action> {
        let end = self.now.mono + time;
        let mut all = Vec::new();
        loop {
            let next = self.owner.next_deadline().filter(|at| *at <= end);
            let step = next.unwrap_or(end).saturating_sub(self.now.mono);
            self.now.mono += step;
            self.now.clock_ms = self.now.clock_ms.wrapping_add(step.as_millis() as u32);
            let mut out = Vec::new();
            self.owner
                .tick(self.now, &self.entries, &mut self.decide, &mut out);
            all.extend(self.settle(out));
            if next.is_none() {
                return all;
            }
        }
    }

    fn settle(&mut self, actions: Vec<Action>) -> Vec<Action> {
        for action in &actions {
            if let Action::Put(key, entry) = action {
                self.entries.0.insert(*key, *entry);
            }
        }
        actions
    }

    fn entry(&self) -> Entry {
        self.entries.0[&key()]
    }

    fn entry_mut(&mut self) -> &mut Entry {
        self.entries.0.get_mut(&key()).unwrap()
    }

    /// What the kernel does when the client acknowledges the answer to what the header was with.
    fn confirm(&mut self) {
        let entry = self.entry_mut();
        entry.newest_ack = entry.header_ack + 100;
        entry.confirmed = true;
    }

    /// The kernel has made an entry for the first segment.
    fn expect(&mut self) {
        let entry = Entry {
            bound: None,
            pinned: false,
            confirmed: false,
            reused: false,
            closing: false,
            reset: false,
            epoch: 0,
            boundary: Seq(0),
            bind_seq: FIRST,
            bind_ack: ACK,
            unconfirmed: Seq(0),
            header_end: Seq(0),
            header_ack: Seq(0),
            requests: 0,
            bodiless: 0,
            newest_ack: ACK,
            newest_tsval: 0,
            min_rtt_ms: None,
            window: 500,
            options: options(),
            vip: VIP,
            first_seq: FIRST,
            first_ack: ACK,
            seen: self.now.mono,
            claimed: false,
            known: 0,
            term: self.term,
        };
        self.entries.0.insert(key(), entry);
    }

    /// A segment at this place of the stream.
    fn segment(&self, seq: Seq, payload: &[u8]) -> Segment {
        Segment {
            seq,
            ack: self
                .entries
                .0
                .get(&key())
                .map_or(ACK, |entry| entry.newest_ack),
            flags: Flags::ACK | Flags::PSH,
            window: 500,
            timestamps: Some(Timestamps {
                value: 77,
                echo: self.now.clock_ms.wrapping_sub(5),
            }),
            traffic_class: 0,
            hop_limit: 60,
            payload: Bytes::copy_from_slice(payload),
        }
    }

    fn send(&mut self, seq: Seq, payload: &[u8]) -> Vec<Action> {
        let segment = self.segment(seq, payload);
        self.handle(later(segment))
    }

    fn answer(&self, outcome: Outcome) -> Event {
        let entry = self.entry();
        Event::Answer(ReleaseAnswer {
            key: key(),
            epoch: entry.epoch,
            seq: entry.bind_seq,
            boundary: entry.boundary,
            requests: entry.requests,
            bodiless: entry.bodiless,
            outcome,
        })
    }

    fn notice(&self, what: What) -> Event {
        let entry = self.entry();
        Event::Notice(Notice {
            what,
            key: key(),
            epoch: entry.epoch,
            seq: entry.bind_seq,
            // Only a bench's client says where it is; a server that has taken something has taken all.
            ack: match what {
                What::Taken => entry.boundary,
                _ => entry.bind_ack,
            },
        })
    }
}

/// The kernel has made an entry, and waits for a decision.
fn expected() -> Bench {
    let mut bench = Bench::new(limits());
    bench.expect();
    bench
}

/// The kernel punts a first segment.
fn fresh(segment: Segment) -> Event {
    Event::Segment {
        key: key(),
        vip: VIP,
        segment,
        fresh: Some(options()),
        doubt: false,
    }
}

/// The kernel punts a first segment of a connection that began in another term.
fn doubtful(segment: Segment) -> Event {
    Event::Segment {
        key: key(),
        vip: VIP,
        segment,
        fresh: Some(options()),
        doubt: true,
    }
}

/// The kernel punts another segment.
fn later(segment: Segment) -> Event {
    Event::Segment {
        key: key(),
        vip: VIP,
        segment,
        fresh: None,
        doubt: false,
    }
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Actions in short; places in the stream count from the client's first byte.
fn brief(actions: &[Action]) -> String {
    let name = |to: &Target| match to {
        Target::Server(server) => server.0.to_string(),
        Target::Relay => "relay".into(),
        Target::Peer(peer) => format!("peer {}", peer.0),
    };
    let range =
        |segment: &Segment| format!("{}..{}", segment.seq - FIRST, segment.payload_end() - FIRST);
    let all = actions
        .iter()
        .filter(|action| {
            let said_by_others = [Counter::ReleaseAsked, Counter::Repeated].map(Action::Count);
            !said_by_others.contains(action)
        })
        .map(|action| match action {
            Action::Put(_, entry) => match &entry.bound {
                None if entry.reset => "put reset".into(),
                None => format!("put undecided@{}", entry.bind_seq - FIRST),
                Some(to) if entry.pinned => format!("put {} pinned", name(to)),
                Some(to) => format!(
                    "put {}<{} #{}",
                    name(to),
                    entry.boundary - FIRST,
                    entry.requests
                ),
            },
            Action::Bind {
                to,
                header,
                segment,
                ..
            } => {
                let how = if header.tell { "bind and ask" } else { "bind" };
                format!("{how} {} {}", name(to), range(segment))
            }
            Action::Forward { to, segment, .. } => {
                format!("forward {} {}", name(to), range(segment))
            }
            Action::Release { to, request } if request.force => format!("force {}", to.0),
            Action::Release { to, .. } => format!("ask {}", to.0),
            Action::Say { segment, .. } => {
                let what = if segment.payload.is_empty() {
                    "say"
                } else {
                    "hurry"
                };
                format!("{what} {}/{}", segment.seq - ACK, segment.ack - FIRST)
            }
            Action::Reset { seq, ack, .. } => format!("reset {}/{}", *seq - ACK, *ack - FIRST),
            Action::Ask { to, .. } => format!("ask about it {}", name(to)),
            Action::Pass { to, segment, .. } => {
                format!("pass {} {}", to.0, range(segment))
            }
            Action::Keep {
                to, segment, end, ..
            } => format!("keep {} {}, told {}", to.0, range(segment), *end - FIRST),
            Action::Kept { to, end, .. } => format!("kept {} {}", to.0, *end - FIRST),
            Action::Learn(lesson) => format!("learn {}", lesson.request.len()),
            Action::Count(counter) => format!("+{}", counter.name()),
        });
    let mut once: Vec<(String, usize)> = Vec::new();
    for action in all {
        match once.last_mut().filter(|(last, _)| *last == action) {
            Some((_, times)) => *times += 1,
            None => once.push((action, 1)),
        }
    }
    let with_times = |(action, times): &(String, usize)| match times {
        1 => action.clone(),
        times => format!("{action} x{times}"),
    };
    once.iter().map(with_times).collect::<Vec<_>>().join(", ")
}

fn counts(actions: &[Action], counter: Counter) -> usize {
    actions
        .iter()
        .filter(|action| **action == Action::Count(counter))
        .count()
}
