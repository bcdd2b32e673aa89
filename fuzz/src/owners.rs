//! Several proxies, at one of them: whatever it is asked to keep, told, and made the owner of, in whatever order, it decides nothing that is not its
//! own, holds no more than it may, and nothing for ever.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use baton_flow::{
    Action, Choice, ClientOptions, Decide, Entry, Event, Limits, Now, Owner, PeerId, SLOTS,
    ServerId, Table, Target, View,
};
use baton_packet::{Flags, FlowKey, RequestHead, Segment, Seq, Timestamps};
use baton_wire::{Ask, Fate, Known, Scales};
use bytes::Bytes;

const FIRST: Seq = Seq(0xffff_fff0);
const ACK: Seq = Seq(0xffff_ff00);
const STREAM: &[u8] = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nPOST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123456789GET /2 HTTP/1.1\r\n";
const MAX_HELD: usize = 256 << 10;
/// After so long nobody waits for anything any more.
const FOR_EVER: Duration = Duration::from_secs(200);

#[derive(Arbitrary, Debug)]
enum Step {
    Segment {
        at: u8,
        length: u8,
        acknowledges: u16,
        fresh: bool,
        doubt: bool,
    },
    Truth {
        server: u8,
        fate: u8,
        epoch: i8,
        from: u8,
        boundary: u8,
        requests: u8,
        next: u16,
        is_old: bool,
    },
    Keep {
        at: u8,
        length: u8,
        end: u8,
        is_bound: bool,
    },
    Kept {
        end: u8,
    },
    View {
        is_own: bool,
        decides: bool,
        is_new: bool,
    },
    Forget,
    Out {
        server: u8,
    },
    Time {
        ms: u16,
    },
}

/// Steps.
pub fn run(data: &[u8]) {
    let Ok(steps) = Vec::<Step>::arbitrary_take_rest(Unstructured::new(data)) else {
        return;
    };
    let mut world = World::new();
    for step in steps.iter().take(300) {
        world.step(step);
    }
    world.pass(FOR_EVER);
    world.table.0.clear();
    world.follow(true, true, true);
    world.pass(FOR_EVER);
    assert_eq!((world.owner.pending(), world.owner.held_bytes()), (0, 0));
}

struct World {
    owner: Owner,
    view: View,
    table: Entries,
    decide: ByPath,
    now: Now,
    /// The newest question.
    ask: Ask,
}

impl World {
    fn new() -> World {
        let view = view(1, true, true);
        let limits = Limits {
            ack_wait: Duration::from_millis(5),
            head_wait: Duration::from_millis(20),
            release_timeout: Duration::from_secs(3),
            max_head_bytes: 1024,
            max_held_bytes: MAX_HELD,
            promised_wscale: 10,
        };
        World {
            owner: Owner::new(limits, view.clone()),
            view,
            table: Entries::default(),
            decide: ByPath([false; 3]),
            now: Now {
                mono: Duration::from_secs(1000),
                clock_ms: 0xffff_f000,
            },
            ask: Ask {
                key: key(),
                nonce: 0,
            },
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Segment {
                at,
                length,
                acknowledges,
                fresh,
                doubt,
            } => {
                let at = if fresh { 0 } else { at };
                let mut segment = segment(at, length);
                if !fresh {
                    segment.ack += u32::from(acknowledges);
                }
                self.handle(Event::Segment {
                    key: key(),
                    vip: 0,
                    segment,
                    fresh: fresh.then_some(options()),
                    doubt,
                });
            }
            Step::Truth {
                server,
                fate,
                epoch,
                from,
                boundary,
                requests,
                next,
                is_old,
            } => {
                let present = self.table.0.get(&key()).map_or(0, |entry| entry.epoch);
                let known = Known {
                    timestamps: true,
                    sack: true,
                    scales: Some(Scales {
                        client: 7,
                        server: 10,
                    }),
                    pinned: boundary == u8::MAX,
                    mss: 1460,
                    epoch: present.wrapping_add_signed(epoch.into()),
                    seq: FIRST + u32::from(from),
                    ack: ACK + u32::from(from),
                    boundary: FIRST + u32::from(boundary),
                    requests: requests.into(),
                    bodiless: 0,
                    next: ACK + u32::from(next),
                };
                let fate = match fate % 5 {
                    0 => Fate::Held(known),
                    1 => Fate::Released(known),
                    2 => Fate::Ended(known),
                    3 => Fate::Forgotten,
                    _ => Fate::Unknown,
                };
                let mut truth = self.ask.answer(fate);
                truth.nonce = truth.nonce.wrapping_add(is_old.into());
                let from = Target::Server(ServerId(u16::from(server % 3)));
                self.handle(Event::Truth { from, truth });
            }
            Step::Keep {
                at,
                length,
                end,
                is_bound,
            } => {
                let present = self.table.0.get(&key()).copied();
                let entry = present.unwrap_or_else(|| entry(is_bound, self.now.mono));
                self.handle(Event::Keep {
                    from: PeerId(0),
                    key: key(),
                    entry: Entry { term: 0, ..entry },
                    segment: segment(at, length),
                    end: FIRST + u32::from(end),
                });
            }
            Step::Kept { end } => self.handle(Event::Kept {
                key: key(),
                end: FIRST + u32::from(end),
            }),
            Step::View {
                is_own,
                decides,
                is_new,
            } => self.follow(is_own, decides, is_new),
            Step::Forget => {
                self.table.0.remove(&key());
            }
            Step::Out { server } => {
                let out = &mut self.decide.0[usize::from(server % 3)];
                *out = !*out;
            }
            Step::Time { ms } => self.pass(Duration::from_millis(ms.into())),
        }
    }

    fn follow(&mut self, is_own: bool, decides: bool, is_new: bool) {
        let term = self.view.term + u32::from(is_new || !decides);
        self.view = view(term, is_own, decides);
        self.owner.follow(self.view.clone());
    }

    fn handle(&mut self, event: Event) {
        let mut out = Vec::new();
        let (table, decide) = (&self.table, &mut self.decide);
        self.owner.handle(self.now, event, table, decide, &mut out);
        self.settle(&out);
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now.mono + time;
        for _ in 0..20_000 {
            let next = self.owner.next_deadline().filter(|at| *at <= end);
            let step = next.unwrap_or(end).saturating_sub(self.now.mono);
            self.now.mono += step;
            self.now.clock_ms = self.now.clock_ms.wrapping_add(step.as_millis() as u32);
            let mut out = Vec::new();
            let (table, decide) = (&self.table, &mut self.decide);
            self.owner.tick(self.now, table, decide, &mut out);
            self.settle(&out);
            let due = self.owner.next_deadline();
            assert!(due.is_none_or(|at| at > self.now.mono), "not done");
            if next.is_none() {
                return;
            }
        }
        panic!("no end of ticks");
    }

    fn settle(&mut self, actions: &[Action]) {
        let may_decide = self.view.decides(self.now.mono) && self.view.is_own(&key());
        for action in actions {
            match action {
                Action::Count(_) | Action::Kept { .. } => {}
                Action::Pass { to, .. } | Action::Keep { to, .. } if !may_decide => {
                    assert_eq!(*to, PeerId(0), "to whoever owns it");
                }
                Action::Ask { ask, .. } => self.ask = *ask,
                _ if !may_decide => panic!("{action:?} is not its own"),
                Action::Put(key, entry) => {
                    assert_eq!(entry.term, self.view.term);
                    self.table.0.insert(*key, *entry);
                }
                Action::Pass { .. } => panic!("to itself"),
                Action::Keep { to, .. } => assert_eq!(*to, PeerId(0), "the successor"),
                Action::Bind { .. }
                | Action::Forward { .. }
                | Action::Release { .. }
                | Action::Say { .. }
                | Action::Reset { .. }
                | Action::Learn(_) => {}
            }
        }
        assert!(self.owner.held_bytes() <= MAX_HELD);
    }
}

/// Of the second of two.
fn view(term: u32, is_own: bool, decides: bool) -> View {
    let proxies: [IpAddr; 2] = [[10, 77, 0, 11].into(), [10, 77, 0, 12].into()];
    View {
        term,
        until: if decides {
            Duration::MAX
        } else {
            Duration::ZERO
        },
        proxies: proxies.into(),
        own: Some(PeerId(1)),
        live: vec![PeerId(0), PeerId(1)],
        owners: vec![u8::from(is_own); SLOTS].into(),
    }
}

fn segment(at: u8, length: u8) -> Segment {
    let start = usize::from(at).min(STREAM.len());
    let end = (start + usize::from(length)).min(STREAM.len());
    Segment {
        seq: FIRST + start as u32,
        ack: ACK,
        flags: Flags::ACK | Flags::PSH,
        window: 500,
        timestamps: Some(Timestamps { value: 1, echo: 2 }),
        traffic_class: 0,
        hop_limit: 60,
        payload: Bytes::from_static(&STREAM[start..end]),
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

fn entry(is_bound: bool, now: Duration) -> Entry {
    Entry {
        bound: is_bound.then_some(Target::Server(ServerId(1))),
        pinned: false,
        confirmed: false,
        reused: false,
        closing: false,
        reset: false,
        epoch: u32::from(is_bound),
        boundary: FIRST + u32::from(is_bound) * 28,
        bind_seq: FIRST,
        bind_ack: ACK,
        unconfirmed: FIRST,
        header_end: FIRST + 28,
        header_ack: ACK,
        requests: 1,
        bodiless: 0,
        newest_ack: ACK,
        newest_tsval: 1,
        min_rtt_ms: None,
        window: 500,
        options: options(),
        vip: 0,
        first_seq: FIRST,
        first_ack: ACK,
        seen: now,
        claimed: false,
        known: 0,
        term: 0,
    }
}

fn key() -> FlowKey {
    FlowKey::new(
        ([192, 0, 2, 1], 40_000).into(),
        ([198, 51, 100, 7], 80).into(),
    )
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

/// `/1` goes to server 1, `/2` to server 2, all else to server 0; to the relay if that is out. Whether each is out.
struct ByPath([bool; 3]);

impl Decide for ByPath {
    fn decide(
        &mut self,
        _: u16,
        head: &RequestHead,
        _: IpAddr,
        _: &ClientOptions,
        _: Option<ServerId>,
        excluded: &[ServerId],
    ) -> Choice {
        let server = ServerId(match head.path.as_str() {
            "/1" => 1,
            "/2" => 2,
            _ => 0,
        });
        let to = Target::Server(server);
        let is_good = !self.is_out(to) && !excluded.contains(&server);
        Choice {
            to: if is_good { to } else { Target::Relay },
            pool: None,
        }
    }

    fn is_out(&self, holder: Target) -> bool {
        matches!(holder, Target::Server(ServerId(server)) if self.0[usize::from(server)])
    }

    fn holders(&self) -> Vec<Target> {
        let servers = (0..3).map(|server| Target::Server(ServerId(server)));
        servers.filter(|server| !self.is_out(*server)).collect()
    }
}
