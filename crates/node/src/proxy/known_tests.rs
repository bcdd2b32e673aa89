//! What the kernel decides by itself is what the owner would decide: same entry, same header, byte for byte.

use std::net::IpAddr;
use std::time::Duration;

use baton_flow::{
    Action, Choice, ClientOptions, Decide, Entry, Event, Limits, Now, Owner, PoolId, ServerId,
    Table, Target, View,
};
use baton_kernel::{Clock, Known, Membership, Pool, Proxy, Server, Settings, Sizes, Via, Vip, abi};
use baton_packet::{Flags, FlowKey, RequestHead, Segment, Seq, Timestamps};
use baton_wire::{BIND_LEN, Key};
use bytes::Bytes;

use super::entry;
use super::peers::Peers;

const REDIRECT: i32 = 7;
const DROP: i32 = 2;
const VIP: u16 = 3;
const POOL: u16 = 1;
const SLOT: u16 = 5;
const MESSAGE_KEY: [u8; 16] = *b"message key 0001";
/// Ethernet, IPv4 and UDP.
const OUTER: usize = 14 + 20 + 8;

struct Bench {
    proxy: Proxy,
    known: Known,
    term: u32,
    key: FlowKey,
    /// Where the client is in its stream.
    seq: Seq,
    ack: Seq,
}

impl Bench {
    fn new() -> Bench {
        let settings = Settings {
            message_keys: [MESSAGE_KEY; 2],
            cookie_keys: [*b"cookie key 00001"; 2],
            address: "10.77.0.11:6950".parse().unwrap(),
            clock: Clock::start(),
            answers_by_route: false,
        };
        let sizes = Sizes {
            flows: 64,
            known_requests: 64,
            known_key: *b"known requests 1",
        };
        let mut proxy = Proxy::load(&settings, sizes, None).unwrap();
        let key = FlowKey::new(
            "10.77.0.1:40000".parse().unwrap(),
            "10.77.0.10:80".parse().unwrap(),
        );
        let vip = Vip {
            index: VIP,
            at: key.vip(),
            mss: 1384,
            offers: abi::offer::ALL,
        };
        // Longer ago than a slot of cookies is.
        let term = (settings.clock.now_ms() as u32).wrapping_sub(300_000);
        let membership = Membership::alone(term);
        proxy.view().unwrap().show(&membership).unwrap();
        proxy.set_vips(&[vip]).unwrap();
        let server = Server {
            address: "10.77.0.21".parse().unwrap(),
            source: "10.77.0.11".parse().unwrap(),
            ifindex: 1,
            via: Via::Neighbour,
        };
        proxy.set_server(SLOT, Some(server)).unwrap();
        let mut known = proxy.known().unwrap();
        let pool = Pool {
            members: vec![SLOT],
            deck: vec![SLOT; 2],
        };
        known.renew(&[Pool::default(), pool]).unwrap();
        Bench {
            proxy,
            known,
            term,
            key,
            seq: Seq(0xffff_fff0),
            ack: Seq(0),
        }
    }

    fn learn(&self, request: &[u8]) {
        let hash = self.known.hash(request).unwrap();
        let is_head = request.starts_with(b"HEAD");
        self.known
            .learn(VIP, hash, request.len() as u16, POOL, is_head)
            .unwrap();
    }

    fn run(&self, segment: &Segment) -> (i32, Vec<u8>) {
        self.proxy
            .test_run(&frame(&segment.encode(&self.key)))
            .unwrap()
    }

    /// The handshake: afterwards the client knows the server's first byte.
    fn shake(&mut self, options: &[u8]) -> Segment {
        let mut ip = self.segment(b"").encode(&self.key);
        ip.truncate(40);
        ip[32] = ((20 + options.len()) as u8 / 4) << 4;
        ip[33] = Flags::SYN.0;
        ip[24..28].copy_from_slice(&(self.seq.0.wrapping_sub(1)).to_be_bytes());
        ip.extend_from_slice(options);
        let length = ip.len() as u16;
        ip[2..4].copy_from_slice(&length.to_be_bytes());
        let (verdict, answer) = self.proxy.test_run(&frame(&ip)).unwrap();
        assert_eq!(verdict, REDIRECT);
        let at = |from: usize| u32::from_be_bytes(answer[from..from + 4].try_into().unwrap());
        self.ack = Seq(at(14 + 24)) + 1;
        let clock = at(14 + 20 + 20 + 8); // timestamps are the second option, behind MSS and SACK
        let mut segment = self.segment(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        if let Some(timestamps) = &mut segment.timestamps {
            timestamps.echo = clock;
        }
        segment
    }

    fn segment(&self, payload: &[u8]) -> Segment {
        Segment {
            seq: self.seq,
            ack: self.ack,
            flags: Flags::ACK | Flags::PSH,
            window: 502,
            timestamps: Some(Timestamps { value: 77, echo: 0 }),
            traffic_class: 0,
            hop_limit: 64,
            payload: Bytes::copy_from_slice(payload),
        }
    }

    fn entry(&self) -> Option<Entry> {
        self.proxy
            .flows()
            .entry(&self.key)
            .map(|e| entry::from_kernel(&e, &Peers::default()))
    }

    /// The entry and the header that the owner makes of the same segment.
    fn owner(
        &self,
        before: Option<Entry>,
        segment: &Segment,
        fresh: Option<ClientOptions>,
        clock: u32,
    ) -> (Entry, [u8; BIND_LEN]) {
        let mut out = Vec::new();
        let event = Event::Segment {
            key: self.key,
            vip: VIP,
            segment: segment.clone(),
            fresh,
            doubt: false,
        };
        let now = Now {
            mono: Duration::ZERO,
            clock_ms: clock,
        };
        Owner::new(LIMITS, View::alone(self.term)).handle(
            now,
            event,
            &One(before),
            &mut Always,
            &mut out,
        );
        let put = out.iter().rev().find_map(|action| match action {
            Action::Put(_, entry) => Some(*entry),
            _ => None,
        });
        let header = out.iter().find_map(|action| match action {
            Action::Bind { header, .. } => Some(header.encode(&Key::new(MESSAGE_KEY), &self.key)),
            _ => None,
        });
        (put.unwrap(), header.unwrap())
    }
}

const LIMITS: Limits = Limits {
    head_wait: Duration::from_millis(20),
    ack_wait: Duration::from_millis(5),
    release_timeout: Duration::from_secs(3),
    max_head_bytes: 4096,
    max_held_bytes: 1 << 20,
    promised_wscale: abi::PROMISED_WSCALE,
};

/// Everything goes to the one server.
struct Always;

impl Decide for Always {
    fn decide(
        &mut self,
        _: u16,
        _: &RequestHead,
        _: IpAddr,
        _: &ClientOptions,
        _: Option<ServerId>,
        _: &[ServerId],
    ) -> Choice {
        Choice {
            to: Target::Server(ServerId(SLOT)),
            pool: Some(PoolId(usize::from(POOL))),
        }
    }

    fn is_out(&self, _: Target) -> bool {
        false
    }

    fn holders(&self) -> Vec<Target> {
        Vec::new()
    }
}

struct One(Option<Entry>);

impl Table for One {
    fn entry(&self, _: &FlowKey) -> Option<Entry> {
        self.0
    }

    fn recall(&self, _: u64) -> Option<Bytes> {
        None
    }
}

fn frame(ip: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 8, 0][..], ip].concat()
}

fn header_of(frame: &[u8]) -> ([u8; BIND_LEN], u32) {
    let header: [u8; BIND_LEN] = frame[OUTER..OUTER + BIND_LEN].try_into().unwrap();
    (
        header,
        u32::from_be_bytes(header[40..44].try_into().unwrap()),
    )
}

/// But for what the kernel alone knows.
fn comparable(entry: Entry) -> Entry {
    Entry {
        seen: Duration::ZERO,
        known: 0,
        ..entry
    }
}

const SYN_OPTIONS: [u8; 20] = [
    2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 77, 0, 0, 0, 0, 1, 3, 3, 7,
];

#[test]
fn a_first_and_later_requests_as_the_owner_would() {
    let mut bench = Bench::new();
    let first = bench.shake(&SYN_OPTIONS);
    bench.learn(&first.payload);
    let (verdict, out) = bench.run(&first);
    assert_eq!(verdict, REDIRECT);
    let (header, clock) = header_of(&out);
    let options = ClientOptions {
        mss: 1460,
        wscale: Some(7),
        sack: true,
        timestamps: true,
    };
    let (entry, expected) = bench.owner(None, &first, Some(options), clock);
    assert_eq!(header, expected);
    assert_eq!(comparable(bench.entry().unwrap()), comparable(entry));
    assert_eq!(
        out[OUTER + BIND_LEN..],
        frame(&first.encode(&bench.key))[14..],
        "the client's packet as it is"
    );
    assert_ne!(bench.entry().unwrap().known, 0);

    // Answered: the client acknowledges 1000 bytes, then sends its next request.
    for request in [
        &b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    ] {
        bench.learn(request);
        bench.seq = bench.entry().unwrap().boundary;
        bench.ack += 1000;
        bench.run(&bench.segment(b"")); // acknowledgement and window are noted, whoever decides
        let before = bench.entry();
        let segment = bench.segment(request);
        let (verdict, out) = bench.run(&segment);
        assert_eq!(verdict, REDIRECT);
        let (header, clock) = header_of(&out);
        let (entry, expected) = bench.owner(before, &segment, None, clock);
        assert_eq!(header, expected);
        assert_eq!(comparable(bench.entry().unwrap()), comparable(entry));
    }
}

/// Whether the kernel leaves the segment to user space.
fn is_punted(bench: &Bench, segment: &Segment) -> bool {
    bench.run(segment).0 == DROP
}

#[test]
fn user_space_decides_the_rest() {
    let mut bench = Bench::new();
    let first = bench.shake(&SYN_OPTIONS);
    assert!(is_punted(&bench, &first), "never seen");
    bench.proxy.flows().remove(&bench.key);

    bench.learn(&first.payload);
    let with = |flags| Segment {
        flags,
        ..first.clone()
    };
    assert!(is_punted(&bench, &with(first.flags | Flags::FIN)));
    bench.proxy.flows().remove(&bench.key);

    assert!(!is_punted(&bench, &first));
    let bound = bench.entry().unwrap();
    assert!(
        is_punted(&bench, &first),
        "sent again: with its header, by user space"
    );
    assert_eq!(bench.entry().unwrap().boundary, bound.boundary);

    bench.seq = bound.boundary;
    let next = bench.segment(&first.payload);
    let above = Segment {
        seq: next.seq + 1,
        ..next.clone()
    };
    assert!(is_punted(&bench, &above), "not at the boundary");
    let elsewhere = Pool {
        members: vec![SLOT + 1],
        deck: vec![],
    };
    bench.known.deal(POOL, &elsewhere).unwrap();
    assert!(is_punted(&bench, &next), "its server is not in the pool");
    bench
        .known
        .deal(
            POOL,
            &Pool {
                members: vec![SLOT],
                deck: vec![],
            },
        )
        .unwrap();
    let unclaimed = Entry {
        claimed: false,
        ..bench.entry().unwrap()
    };
    bench
        .proxy
        .flows()
        .put(&bench.key, &entry::to_kernel(&unclaimed, &Peers::default()))
        .unwrap();
    assert!(!is_punted(&bench, &next));
}

#[test]
fn the_same_addresses_again_once_the_client_has_closed() {
    let mut bench = Bench::new();
    let first = bench.shake(&SYN_OPTIONS);
    bench.learn(&first.payload);
    assert!(!is_punted(&bench, &first));
    let old = bench.entry().unwrap();

    bench.seq += 100_000;
    let again = bench.shake(&SYN_OPTIONS);
    assert!(
        is_punted(&bench, &again),
        "the old connection lives: its server must let go"
    );

    let closing = Entry {
        closing: true,
        ..old
    };
    bench
        .proxy
        .flows()
        .put(&bench.key, &entry::to_kernel(&closing, &Peers::default()))
        .unwrap();
    let again = bench.shake(&SYN_OPTIONS);
    let (verdict, out) = bench.run(&again);
    assert_eq!(verdict, REDIRECT);
    let (header, clock) = header_of(&out);
    let options = ClientOptions {
        mss: 1460,
        wscale: Some(7),
        sack: true,
        timestamps: true,
    };
    let (entry, expected) = bench.owner(Some(closing), &again, Some(options), clock);
    assert_eq!(header, expected);
    assert_eq!(comparable(bench.entry().unwrap()), comparable(entry));
    assert!(is_punted(&bench, &again), "once");
}

#[test]
fn decks_run_out_and_rules_end() {
    let mut bench = Bench::new();
    for card in 0..3 {
        bench.proxy.flows().remove(&bench.key);
        let first = bench.shake(&SYN_OPTIONS);
        bench.learn(&first.payload);
        assert_eq!(is_punted(&bench, &first), card == 2, "two cards were dealt");
    }
    assert!(bench.known.is_dealt(POOL));
    let deck = || Pool {
        members: vec![SLOT],
        deck: vec![SLOT],
    };
    bench.known.deal(POOL, &deck()).unwrap();
    bench.proxy.flows().remove(&bench.key);
    let first = bench.shake(&SYN_OPTIONS);
    assert!(!is_punted(&bench, &first));

    bench.known.renew(&[Pool::default(), deck()]).unwrap();
    bench.proxy.flows().remove(&bench.key);
    let first = bench.shake(&SYN_OPTIONS);
    assert!(
        is_punted(&bench, &first),
        "other rules: not seen under these"
    );
}

#[test]
fn a_client_that_thought_is_left_to_user_space() {
    let mut bench = Bench::new();
    let mut first = bench.shake(&SYN_OPTIONS);
    bench.learn(&first.payload);
    if let Some(timestamps) = &mut first.timestamps {
        timestamps.echo = timestamps.echo.wrapping_sub(400);
    }
    assert!(is_punted(&bench, &first));
}

#[test]
fn a_client_cannot_move_the_clock() {
    let mut bench = Bench::new();
    let mut first = bench.shake(&SYN_OPTIONS);
    bench.learn(&first.payload);
    if let Some(timestamps) = &mut first.timestamps {
        timestamps.echo = timestamps.echo.wrapping_add(60_000);
    }
    assert!(
        is_punted(&bench, &first),
        "agents would take all later binds for recorded ones"
    );
}

#[test]
fn what_user_space_has_begun_to_decide_it_decides() {
    let mut bench = Bench::new();
    let first = bench.shake(&SYN_OPTIONS);
    bench.learn(&first.payload);
    assert!(!is_punted(&bench, &first));
    bench.seq = bench.entry().unwrap().boundary;
    let next = bench.segment(&first.payload);
    let half = bench.segment(&first.payload[..9]);
    assert!(is_punted(&bench, &half));
    let held = bench.entry().unwrap();
    assert!(held.claimed);
    assert!(
        is_punted(&bench, &next),
        "the first half may be acknowledged, or another server be about to get it"
    );

    let decided = Entry {
        boundary: next.payload_end(),
        claimed: false,
        ..held
    };
    let put = |entry: &Entry| {
        bench
            .proxy
            .flows()
            .put(&bench.key, &entry::to_kernel(entry, &Peers::default()))
            .unwrap();
    };
    put(&decided);
    let third = Segment {
        seq: decided.boundary,
        ..next
    };
    put(&Entry {
        claimed: true,
        ..decided
    });
    assert!(is_punted(&bench, &third));
    put(&decided);
    assert!(!is_punted(&bench, &third));
}
