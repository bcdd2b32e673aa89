//! Flows: whatever clients, servers and the kernel do, in whatever order, the owner keeps its rules. They are those of
//! `docs/architecture.md`: the table is the truth, a flow moves only when it may, only bytes that start exactly at a
//! boundary are parsed, each request goes where it routes to, nothing is held without bound or for ever.

mod rules;
mod script;
mod stream;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use baton_flow::{
    Action, Choice, ClientOptions, Decide, Entry, Event, Limits, Now, Owner, PoolId, ServerId,
    Table, Target, View,
};
use baton_packet::{Flags, FlowKey, RequestHead, Segment, Timestamps};
use baton_wire::{Notice, Outcome, Release, ReleaseAnswer};
use bytes::Bytes;

use rules::{Allowed, Before};
use script::{Budget, Client, Kernel, Script, Server, Step, Tale};
use stream::{ACK, Stream};

const VIP: u16 = 3;
/// After so long nobody waits for anything any more.
const FOR_EVER: Duration = Duration::from_secs(200);
/// Deadlines within that time: every one of them is one of few.
const MAX_TICKS: usize = 20_000;

/// A [`Script`].
pub fn run(data: &[u8]) {
    let Ok(script) = Script::arbitrary_take_rest(Unstructured::new(data)) else {
        return;
    };
    let mut world = World::new(&script);
    for step in script.steps.iter().take(400) {
        world.step(step);
    }
    world.pass(FOR_EVER);
    assert_eq!(
        (world.owner.pending(), world.owner.held_bytes()),
        (0, 0),
        "something stays for ever"
    );
    world.table.0.clear();
    world.pass(FOR_EVER);
    assert_eq!(world.owner.unanswered_bytes(), 0, "without a flow");
}

struct World {
    owner: Owner,
    table: Entries,
    now: Now,
    stream: Stream,
    /// Connections that each flow's client has had before the present one.
    lives: [u32; 3],
    decide: ByPath,
    /// What a server was asked when it was heard again.
    owed: Vec<Release>,
    /// Binds whose server has said *closed*, by epoch.
    closed: HashSet<(FlowKey, u32)>,
    /// The limit, and what was held at last: it stays when the limit becomes less.
    max_held: usize,
    held: usize,
    unanswered: usize,
}

impl World {
    fn new(script: &Script) -> World {
        World {
            owner: Owner::new(limits(&script.budget), View::alone(1)),
            table: Entries::default(),
            now: Now {
                mono: Duration::from_secs(1000),
                clock_ms: 0xffff_f000,
            },
            stream: Stream::new(&script.messages),
            lives: [0; 3],
            decide: ByPath::default(),
            owed: Vec::new(),
            closed: HashSet::new(),
            held: 0,
            unanswered: 0,
            max_held: limits(&script.budget).max_held_bytes,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Client(client) => self.client(client),
            Step::Server(server) => self.server(server),
            Step::Kernel { flow, change } => self.kernel(key(*flow), change),
            Step::Health { server } => {
                let (pool, place) = (u16::from(server % 4) + 1, u16::from(server / 4 % 2));
                self.health(ServerId(10 * place + pool));
            }
            Step::Time { ms } => self.pass(Duration::from_millis(u64::from(*ms))),
            Step::Budget(budget) => {
                let limits = limits(budget);
                self.max_held = limits.max_held_bytes;
                self.owner.reconfigure(limits);
            }
        }
    }

    fn client(&mut self, client: &Client) {
        let life = &mut self.lives[usize::from(client.flow % 3)];
        let again = u32::from(client.anew && *life < 8);
        *life += again;
        let fresh = client.fresh || again == 1;
        let key = key(client.flow);
        let entry = self.table.0.get(&key);
        let life = match entry {
            Some(entry) if !fresh => stream::life(entry.first_seq),
            _ => *life,
        };
        let at = if fresh {
            0
        } else {
            // Most of what a client sends is what is expected.
            let expected = entry.map_or(0, |entry| self.stream.place(next_request(entry)));
            (expected + isize::from(client.ahead)).max(0) as usize
        };
        let payload = self.stream.bytes(at, usize::from(client.length));
        let ack = match entry {
            Some(entry) if !fresh => entry.newest_ack + u32::from(client.acknowledges),
            _ => ACK + life * stream::APART,
        };
        let flags = match client.flags {
            // An ordinary segment is worth more tries than one with strange flags.
            0..200 => Flags::ACK | Flags::PSH,
            200..230 => Flags::ACK | Flags::FIN,
            odd => Flags(odd.wrapping_mul(37)) - Flags::URG,
        };
        let timestamps = client.timestamps.then_some(Timestamps {
            value: u32::from(client.ack_clock),
            echo: self.now.clock_ms.wrapping_sub(u32::from(client.ack_clock)),
        });
        let segment = Segment {
            seq: self.stream.seq(life, at),
            ack,
            flags,
            window: 500,
            timestamps,
            traffic_class: 0,
            hop_limit: 60,
            payload: Bytes::copy_from_slice(payload),
        };
        let options = ClientOptions {
            mss: 1460,
            wscale: Some(7),
            sack: true,
            timestamps: client.timestamps,
        };
        self.handle(Event::Segment {
            key,
            vip: VIP,
            segment,
            fresh: fresh.then_some(options),
            doubt: false,
        });
    }

    fn server(&mut self, server: &Server) {
        match *server {
            Server::Answers {
                flow,
                outcome,
                ack,
                stale,
            } => {
                let key = key(flow);
                let Some(entry) = self.table.0.get(&key).copied() else {
                    return;
                };
                self.handle(Event::Answer(ReleaseAnswer {
                    key,
                    epoch: entry.epoch.wrapping_sub(u32::from(stale & 1)),
                    seq: entry.bind_seq + u32::from(stale >> 1 & 1),
                    boundary: entry.boundary + u32::from(stale >> 2 & 1),
                    requests: entry.requests,
                    bodiless: entry.bodiless,
                    outcome: outcome.at(entry.newest_ack + u32::from(ack)),
                }));
            }
            Server::Tells { flow, what, stale } => {
                let key = key(flow);
                let Some(entry) = self.table.0.get(&key).copied() else {
                    return;
                };
                self.handle(Event::Notice(Notice {
                    what: what.into(),
                    key,
                    epoch: entry.epoch.wrapping_sub(u32::from(stale & 1)),
                    seq: entry.bind_seq + u32::from(stale >> 1 & 1),
                    ack: match what {
                        Tale::Taken => entry.boundary - u32::from(stale >> 2 & 1),
                        _ => entry.bind_ack,
                    },
                }));
            }
            Server::Settles { outcome, ack } => {
                if let Some(request) = self.owed.pop() {
                    let outcome = outcome.at(request.ack + u32::from(ack));
                    self.handle(Event::Answer(request.answer(outcome)));
                }
            }
        }
    }

    /// A server that is out gets nothing again before it has let go of what it had.
    fn health(&mut self, server: ServerId) {
        if self.decide.out.insert(server) {
            for key in (0..3).map(key) {
                self.handle(Event::Lost {
                    key,
                    holder: Target::Server(server),
                });
            }
            return;
        }
        let mut out = Vec::new();
        if self.owner.settle(server, &mut out) {
            assert!(out.is_empty());
            self.decide.out.remove(&server);
        }
        self.owed.clear();
        for action in out {
            match action {
                Action::Release { to, request } if to == server && request.force => {
                    self.owed.push(request);
                }
                other => panic!("{other:?} to settle {server:?}"),
            }
        }
    }

    /// What the kernel writes into its table by itself.
    fn kernel(&mut self, key: FlowKey, change: &Kernel) {
        if let Kernel::Forgets = change {
            self.table.0.remove(&key);
        }
        let Some(entry) = self.table.0.get_mut(&key) else {
            return;
        };
        match *change {
            Kernel::Forgets => {}
            Kernel::Closing => entry.closing = true,
            Kernel::Reused => entry.reused = true,
            Kernel::Acknowledged { bytes, window, rtt } => {
                entry.seen = self.now.mono;
                entry.newest_ack += u32::from(bytes);
                entry.confirmed |=
                    entry.bound.is_some() && entry.newest_ack.after(entry.header_ack);
                entry.window = window;
                entry.min_rtt_ms = rtt.map(u32::from);
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let before = Before::new(&event, &self.table.0);
        if let Event::Answer(answer) = &event
            && answer.outcome == Outcome::Closed
        {
            self.closed.insert((answer.key, answer.epoch));
        }
        let mut out = Vec::new();
        let (table, decide) = (&self.table, &mut self.decide);
        self.owner.handle(self.now, event, table, decide, &mut out);
        self.settle(before, &out);
    }

    /// Lets time pass, with a tick at every deadline on the way.
    fn pass(&mut self, time: Duration) {
        let end = self.now.mono + time;
        for _ in 0..MAX_TICKS {
            let next = self.owner.next_deadline().filter(|at| *at <= end);
            let step = next.unwrap_or(end).saturating_sub(self.now.mono);
            self.now.mono += step;
            self.now.clock_ms = self.now.clock_ms.wrapping_add(step.as_millis() as u32);
            let mut out = Vec::new();
            let (table, decide) = (&self.table, &mut self.decide);
            self.owner.tick(self.now, table, decide, &mut out);
            self.settle(Before::default(), &out);
            let due = self.owner.next_deadline();
            assert!(due.is_none_or(|at| at > self.now.mono), "not done");
            if next.is_none() {
                return;
            }
        }
        panic!("no end of ticks");
    }

    /// Carries out what concerns the table, and checks everything.
    fn settle(&mut self, mut before: Before, actions: &[Action]) {
        let table = &mut self.table.0;
        let allowed = Allowed {
            closed: &self.closed,
            out: &self.decide.out,
        };
        rules::check(&mut before, actions, table, &self.stream, &allowed);
        let (held, unanswered) = (self.owner.held_bytes(), self.owner.unanswered_bytes());
        // What was kept in case its server dies is held when that has died.
        let most = self.max_held.max(self.held);
        assert!(held <= most, "{held} bytes held");
        let most = (self.max_held / 4).max(self.unanswered);
        assert!(unanswered <= most, "{unanswered} bytes unanswered");
        self.held = held + unanswered;
        self.unanswered = unanswered;
        assert!(held >= 256 * self.owner.pending(), "flows cost nothing");
    }
}

fn limits(budget: &Budget) -> Limits {
    Limits {
        ack_wait: Duration::from_millis(5),
        head_wait: Duration::from_millis(20),
        release_timeout: Duration::from_secs(3),
        max_head_bytes: 64 + usize::from(budget.head),
        max_held_bytes: 256 + usize::from(budget.held) * 64,
        promised_wscale: 10,
    }
}

fn key(flow: u8) -> FlowKey {
    match flow % 3 {
        0 => FlowKey::new(
            ([192, 0, 2, 1], 40_000).into(),
            ([198, 51, 100, 7], 80).into(),
        ),
        1 => FlowKey::new(
            ([192, 0, 2, 1], 40_001).into(),
            ([198, 51, 100, 7], 80).into(),
        ),
        _ => FlowKey::new(
            ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 1).into(),
            ([0xfd77, 0, 0, 0, 0, 0, 0, 0x10], 80).into(),
        ),
    }
}

fn next_request(entry: &Entry) -> baton_packet::Seq {
    match entry.bound {
        Some(_) => entry.boundary,
        None => entry.bind_seq,
    }
}

#[derive(Default)]
struct Entries(HashMap<FlowKey, Entry>);

impl Table for Entries {
    fn entry(&self, key: &FlowKey) -> Option<Entry> {
        self.0.get(key).copied()
    }

    fn recall(&self, _: u64) -> Option<Bytes> {
        None
    }
}

/// `/3...` goes to server 3, or 13, 23 ... if that one is excluded or another of them is present; all else to the relay.
#[derive(Default)]
struct ByPath {
    out: HashSet<ServerId>,
}

impl Decide for ByPath {
    fn decide(
        &mut self,
        vip: u16,
        head: &RequestHead,
        _: IpAddr,
        _: &ClientOptions,
        present: Option<ServerId>,
        excluded: &[ServerId],
    ) -> Choice {
        assert_eq!(vip, VIP);
        let Some(pool) = stream::pool(head) else {
            return Choice {
                to: Target::Relay,
                pool: None,
            };
        };
        let fits = |server: &ServerId| {
            server.0 % 10 == pool && !excluded.contains(server) && !self.out.contains(server)
        };
        let others = (0..).map(|i| ServerId(10 * i + pool));
        let server = present.into_iter().chain(others).find(fits);
        Choice {
            to: server.map_or(Target::Relay, Target::Server),
            pool: server.map(|_| PoolId(usize::from(pool))),
        }
    }

    fn is_out(&self, holder: Target) -> bool {
        matches!(holder, Target::Server(server) if self.out.contains(&server))
    }

    fn holders(&self) -> Vec<Target> {
        Vec::new()
    }
}
