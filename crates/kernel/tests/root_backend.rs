//! `bpf/backend.bpf.c`, packet by packet. Adoption itself needs a real ingress and is the lab's to test; here are all the refusals before it, the
//! release, the fence, and the framing of answers.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use baton_kernel::abi::{served_flow, served_state};
use baton_kernel::{Backend, Events, Service, Told};
use baton_packet::{FlowKey, Seq};
use baton_wire::{Bind, Key, Keys, Outcome, Release, ReleaseAnswer, Scales};
use common::*;
use proptest::prelude::*;

const CLIENT: &str = "10.77.0.1:40000";
const VIP: &str = "10.77.0.10:80";
const PROXY: &str = "10.77.0.11:6950";
const NODE: &str = "10.77.0.21:6950";
const REFUSED: u8 = 3;
const NO_LISTENER: u8 = 1;

struct Bench {
    backend: Backend,
    watch: Watch,
    told: Events<Told>,
}

impl Bench {
    fn new() -> Bench {
        let backend = Backend::load(&settings(), 1024).unwrap();
        backend
            .set_services(&[Service {
                vip: at(VIP),
                listen: at("127.0.0.1:1"),
            }])
            .unwrap();
        Bench {
            watch: Watch::new(backend.counters().unwrap()),
            told: backend.told().unwrap().open().unwrap(),
            backend,
        }
    }

    fn ingress(&mut self, frame: &[u8]) -> (i32, String, Vec<Told>, Vec<u8>) {
        let (verdict, after) = self.backend.test_ingress(frame).unwrap();
        let mut told = Vec::new();
        self.told.drain(&mut told);
        (verdict, self.watch.moved().join(" "), told, after)
    }

    fn verdict(&mut self, frame: &[u8]) -> (i32, String) {
        let (verdict, moved, ..) = self.ingress(frame);
        (verdict, moved)
    }

    fn hold(&self, flow: served_flow) {
        self.backend.put_flow(&key(), &flow).unwrap();
    }

    fn held(&self) -> served_flow {
        self.backend.flow(&key()).unwrap()
    }
}

fn key() -> FlowKey {
    FlowKey::new(at(CLIENT), at(VIP))
}

fn keys() -> Keys {
    Keys {
        current: Key::new(MESSAGE_KEY),
        previous: Some(Key::new(OLD_KEY)),
    }
}

fn request(seq: u32) -> Tcp {
    Tcp {
        seq,
        ack: Some(500),
        flags: "P",
        payload: b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        ..Tcp::new(CLIENT, VIP)
    }
}

fn bind() -> Bind {
    Bind {
        timestamps: false,
        sack: true,
        scales: Some(Scales {
            client: 7,
            server: 10,
        }),
        pinned: false,
        mss: 1460,
        epoch: 100,
        seq: Seq(1000),
        ack: Seq(500),
        boundary: Seq(1018),
        requests: 1,
        bodiless: 0,
        clock: settings().clock.now_ms() as u32,
    }
}

fn bind_frame(bind: &Bind, signed_by: [u8; 16], packet: &Tcp) -> Vec<u8> {
    let header = bind.encode(&Key::new(signed_by), &FlowKey::new(packet.from, packet.to));
    udp_frame(PROXY, NODE, &[&header[..], &packet.ip()].concat())
}

fn serving(requests: u32) -> served_flow {
    let mut flow = served_flow {
        state: served_state::HELD,
        epoch: 100,
        seq: 1000,
        ack: 500,
        boundary: 1018,
        requests,
        ..Default::default()
    };
    flow.framing.next = 500;
    flow.framing.names = 3;
    flow
}

fn dropped(reason: &str) -> (i32, String) {
    (DROP, format!("dropped/{reason}"))
}

#[test]
fn a_genuine_bind_gets_as_far_as_the_listener() {
    let mut bench = Bench::new();
    for (signed_by, reason) in [
        (MESSAGE_KEY, "adoption_refused"),
        (OLD_KEY, "repeated_bind"),
    ] {
        let (verdict, moved, told, _) =
            bench.ingress(&bind_frame(&bind(), signed_by, &request(1000)));
        assert_eq!((verdict, moved), dropped(reason));
        let [told] = &told[..] else {
            panic!("{told:?}")
        };
        assert_eq!(
            (told.what, told.reason, told.key, told.epoch, told.seq),
            (REFUSED, NO_LISTENER, key(), 100, Seq(1000))
        );
        assert_eq!(told.proxy, at(PROXY).ip());
        assert_eq!(
            bench.held().state,
            served_state::REFUSED,
            "and stays refused: the request may be elsewhere by now"
        );
    }
}

#[test]
fn a_forged_bind_is_refused() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.verdict(&bind_frame(&bind(), *b"not a cluster ke", &request(1000))),
        dropped("bad_tag")
    );
    let good = bind_frame(&bind(), MESSAGE_KEY, &request(1000));
    let header = 14 + 20 + 8;
    for at in (header + 4..header + 48).chain([
        header + 48 + 12,
        header + 48 + 15,
        header + 48 + 20,
        header + 48 + 21,
    ]) {
        let mut forged = good.clone();
        forged[at] ^= 1;
        let (verdict, moved) = bench.verdict(&forged);
        assert_eq!(
            (verdict, moved.as_str()),
            (DROP, "dropped/bad_tag"),
            "byte {}",
            at - header
        );
    }
    let elsewhere = Tcp {
        to: at("10.77.0.99:80"),
        ..request(1000)
    };
    assert_eq!(
        bench.verdict(&bind_frame(&bind(), MESSAGE_KEY, &elsewhere)),
        dropped("no_service")
    );
    for cut in 4..good.len() - header - 18 {
        let (verdict, moved) = bench.verdict(&udp_frame(PROXY, NODE, &good[header..header + cut]));
        assert_eq!(
            (verdict, moved.as_str()),
            (DROP, "dropped/malformed"),
            "cut at {cut}"
        );
    }
}

#[test]
fn only_the_first_segment_makes_a_socket() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.verdict(&bind_frame(&bind(), MESSAGE_KEY, &request(1001))),
        dropped("not_the_first_segment")
    );
    let syn = Tcp {
        flags: "S",
        payload: vec![],
        ..request(1000)
    };
    assert_eq!(
        bench.verdict(&bind_frame(&bind(), MESSAGE_KEY, &syn)),
        dropped("malformed")
    );
}

#[test]
fn a_recorded_bind_is_refused() {
    let mut bench = Bench::new();
    bench.verdict(&bind_frame(&bind(), MESSAGE_KEY, &request(1000)));
    let old = Bind {
        clock: bind().clock.wrapping_sub(60_000),
        ..bind()
    };
    assert_eq!(
        bench.verdict(&bind_frame(&old, MESSAGE_KEY, &request(1000))),
        dropped("stale_bind")
    );
    bench.hold(serving(1));
    let older = Bind {
        epoch: 99,
        ..bind()
    };
    assert_eq!(
        bench.verdict(&bind_frame(&older, MESSAGE_KEY, &request(1000))),
        dropped("stale_bind")
    );
    bench.hold(served_flow {
        state: served_state::FENCED,
        ..serving(1)
    });
    assert_eq!(
        bench.verdict(&bind_frame(&bind(), MESSAGE_KEY, &request(1000))),
        dropped("repeated_bind")
    );
}

#[test]
fn the_place_of_a_bind_is_adopted_once_whatever_its_epoch() {
    let mut bench = Bench::new();
    let again = bind_frame(
        &Bind {
            epoch: 200,
            ..bind()
        },
        MESSAGE_KEY,
        &request(1000),
    );
    for state in [served_state::ENDED, served_state::FENCED] {
        bench.hold(served_flow {
            state,
            ..serving(1)
        });
        assert_eq!(bench.verdict(&again), dropped("repeated_bind"));
    }
    bench.hold(serving(1));
    assert_eq!(bench.verdict(&again), (NEXT, "passed/header".into()));
    assert_eq!(bench.held().epoch, 200, "a proxy that forgot the flow");
}

#[test]
fn a_proxy_whose_clock_went_back_hears_of_it() {
    let mut bench = Bench::new();
    bench.verdict(&bind_frame(&bind(), MESSAGE_KEY, &request(1000)));
    let behind = Bind {
        clock: bind().clock.wrapping_sub(60_000),
        epoch: 101,
        ..bind()
    };
    let (_, moved, told, _) = bench.ingress(&bind_frame(&behind, MESSAGE_KEY, &request(1000)));
    assert_eq!(moved, "dropped/stale_bind");
    assert_eq!((told[0].what, told[0].epoch), (REFUSED, 101));
    let other = Bind { ..behind }.encode(&Key::new(MESSAGE_KEY), &key());
    let from_other = [&other[..], &request(1000).ip()].concat();
    let (_, moved, ..) = bench.ingress(&udp_frame("10.77.0.12:6950", NODE, &from_other));
    assert_ne!(moved, "dropped/stale_bind", "each proxy has its own clock");
}

#[test]
fn a_header_of_a_held_flow_moves_its_state_forward_only() {
    let mut bench = Bench::new();
    bench.hold(serving(1));
    let later = Bind {
        requests: 3,
        boundary: Seq(2000),
        bodiless: 0b10,
        ..bind()
    };
    let (verdict, moved, _, after) =
        bench.ingress(&bind_frame(&later, MESSAGE_KEY, &request(1018)));
    assert_eq!((verdict, moved.as_str()), (NEXT, "passed/header"));
    assert_eq!(
        after,
        request(1018).frame(),
        "the client's packet, as it was"
    );
    let flow = bench.held();
    assert_eq!(
        (flow.requests, flow.boundary, flow.bodiless),
        (3, 2000, 0b10)
    );
    bench.verdict(&bind_frame(
        &Bind {
            requests: 2,
            boundary: Seq(1500),
            ..bind()
        },
        MESSAGE_KEY,
        &request(1018),
    ));
    assert_eq!(
        (bench.held().requests, bench.held().boundary),
        (3, 2000),
        "an overtaken header changes nothing"
    );
}

#[test]
fn packets_of_flows_by_their_state() {
    let mut bench = Bench::new();
    let packet = request(1018).frame();
    assert_eq!(bench.verdict(&packet), dropped("unknown_flow"));
    assert_eq!(
        bench.verdict(
            &Tcp {
                flags: "S",
                ack: None,
                payload: vec![],
                ..request(1)
            }
            .frame()
        ),
        dropped("syn")
    );
    assert_eq!(
        bench.verdict(
            &Tcp {
                to: at("10.77.0.21:22"),
                ..request(1)
            }
            .frame()
        ),
        (NEXT, String::new())
    );
    bench.hold(serving(1));
    assert_eq!(bench.verdict(&packet), (NEXT, "passed/held".into()));
    let mut forward = vec![b'B', b'T', 1, 2, 0, 0, 0, 0];
    forward.extend(request(1018).ip());
    let (verdict, moved, _, after) = bench.ingress(&udp_frame(PROXY, NODE, &forward));
    assert_eq!(
        (verdict, moved.as_str(), after),
        (NEXT, "passed/held_encapsulated", packet.clone())
    );
    bench.hold(served_flow {
        state: served_state::FENCED,
        ..serving(1)
    });
    assert_eq!(bench.verdict(&packet), dropped("fenced"));
    let answer = Tcp {
        from: at(VIP),
        to: at(CLIENT),
        ..request(500)
    }
    .frame();
    assert_eq!(
        bench.backend.test_egress(&answer).unwrap().0,
        DROP,
        "nothing leaves a fenced flow"
    );
    bench.watch.moved();
    bench.hold(served_flow {
        state: served_state::ENDED,
        ..serving(1)
    });
    assert_eq!(bench.verdict(&packet), (NEXT, "passed/held".into()));
}

#[test]
fn notices_and_answers_are_for_user_space() {
    let mut bench = Bench::new();
    for kind in [4, 5, 99] {
        assert_eq!(
            bench.verdict(&udp_frame(PROXY, NODE, &[b'B', b'T', 1, kind, 0, 0, 0, 0])),
            (NEXT, String::new())
        );
    }
    assert_eq!(
        bench.verdict(&udp_frame(PROXY, "10.77.0.21:53", b"BT\x01\x01")),
        (NEXT, String::new())
    );
}

fn release() -> Release {
    Release {
        key: key(),
        epoch: 100,
        seq: Seq(1000),
        boundary: Seq(1018),
        requests: 1,
        bodiless: 0,
        ack: Seq(500),
        force: false,
    }
}

/// What the agent answers to a release.
fn ask(bench: &mut Bench, release: &Release, signed_by: [u8; 16]) -> Option<ReleaseAnswer> {
    let (verdict, _, _, after) = bench.ingress(&udp_frame(
        PROXY,
        NODE,
        &release.encode(&Key::new(signed_by)),
    ));
    if verdict == DROP {
        return None;
    }
    assert_eq!(verdict, REDIRECT);
    let sliced = etherparse::SlicedPacket::from_ethernet(&after).unwrap();
    let Some(etherparse::TransportSlice::Udp(udp)) = sliced.transport else {
        panic!("{after:02x?}")
    };
    let Some(etherparse::NetSlice::Ipv4(ip)) = sliced.net else {
        panic!("{after:02x?}")
    };
    assert_eq!(
        udp.to_header().checksum,
        udp.to_header()
            .calc_checksum_ipv4(&ip.header().to_header(), udp.payload())
            .unwrap()
    );
    assert_eq!(
        (ip.header().destination_addr(), udp.destination_port()),
        ([10, 77, 0, 11].into(), 6950)
    );
    Some(ReleaseAnswer::decode(udp.payload(), &keys()).unwrap())
}

#[test]
fn a_release_of_what_has_no_socket() {
    let mut bench = Bench::new();
    assert_eq!(
        ask(&mut bench, &release(), MESSAGE_KEY).unwrap().outcome,
        Outcome::Unknown
    );
    bench.hold(serving(1));
    assert_eq!(
        ask(&mut bench, &release(), OLD_KEY).unwrap().outcome,
        Outcome::Closed,
        "the server's program has closed it"
    );
    assert_eq!(
        ask(
            &mut bench,
            &Release {
                epoch: 101,
                ..release()
            },
            MESSAGE_KEY
        )
        .unwrap()
        .outcome,
        Outcome::Unknown
    );
    assert!(ask(&mut bench, &release(), *b"not a cluster ke").is_none());
    bench.hold(served_flow {
        state: served_state::FENCED,
        released_at: 777,
        ..serving(1)
    });
    let ReleaseAnswer { outcome, .. } = ask(&mut bench, &release(), MESSAGE_KEY).unwrap();
    assert_eq!(
        outcome,
        Outcome::Released { ack: Seq(777) },
        "asked again it says so again"
    );
}

/// One answer as a server may write it.
#[derive(Clone, Debug)]
enum Answer {
    Length(usize),
    Chunked(Vec<usize>),
    ToHead(usize),
    NoBody(u16),
    AfterInterim(usize),
}

fn answer_bytes(answer: &Answer) -> Vec<u8> {
    let body = |n: usize| {
        (0..n)
            .map(|i| b"Content-Length: 9\r\n\r\nHTTP/1.1 200"[i % 33])
            .collect::<Vec<u8>>()
    };
    match answer {
        Answer::Length(n) => [format!("HTTP/1.1 200 OK\r\nServer: x\r\ncontent-LENGTH:  {n}\r\nX-Content-Length: 5\r\n\r\n").into_bytes(), body(*n)].concat(),
        Answer::Chunked(sizes) => {
            let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n".to_vec();
            for (i, n) in sizes.iter().enumerate() {
                bytes.extend(format!("{n:X}{}\r\n", if i % 2 == 1 { ";ext=1" } else { "" }).into_bytes());
                bytes.extend(body(*n));
                bytes.extend(b"\r\n");
            }
            bytes.extend(if sizes.len() % 2 == 1 { &b"0\r\nTrailer: yes\r\n\r\n"[..] } else { b"0\r\n\r\n" });
            bytes
        }
        Answer::ToHead(n) => format!("HTTP/1.1 200 OK\r\nContent-Length: {n}\r\n\r\n").into_bytes(),
        Answer::NoBody(status) => format!("HTTP/1.1 {status} X\r\nContent-Length: 10\r\n\r\n").into_bytes(),
        Answer::AfterInterim(n) => [b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), answer_bytes(&Answer::Length(*n))].concat(),
    }
}

fn any_answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        (0..3000usize).prop_map(Answer::Length),
        proptest::collection::vec(1..800usize, 0..5).prop_map(Answer::Chunked),
        (0..3000usize).prop_map(Answer::ToHead),
        prop_oneof![Just(204u16), Just(304)].prop_map(Answer::NoBody),
        (0..50usize).prop_map(Answer::AfterInterim),
    ]
}

thread_local!(static BENCH: Bench = Bench::new());

fn send(bench: &Bench, seq: u32, payload: &[u8]) {
    let segment = Tcp {
        from: at(VIP),
        to: at(CLIENT),
        seq,
        ack: Some(1018),
        flags: "P",
        options: vec![],
        payload: payload.to_vec(),
    };
    assert_eq!(bench.backend.test_egress(&segment.frame()).unwrap().0, NEXT);
}

const OPAQUE: u8 = 1;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// However answers are cut into segments, and sent again: the framing knows where they end, not a byte earlier.
    #[test]
    fn the_framing_finds_the_end(answers in proptest::collection::vec(any_answer(), 1..6), cuts in proptest::collection::vec(1..1400usize, 1..40), again in any::<u8>()) {
        BENCH.with(|bench| {
            let mut bodiless = 0u32;
            for answer in &answers {
                bodiless = bodiless << 1 | u32::from(matches!(answer, Answer::ToHead(_)));
            }
            let start = 0xffff_ff00u32;
            let mut flow = serving(answers.len() as u32);
            flow.bodiless = bodiless;
            flow.framing.next = start;
            bench.hold(flow);
            let bytes: Vec<u8> = answers.iter().flat_map(answer_bytes).collect();
            let (mut at, mut cuts) = (0, cuts.iter().cycle());
            while at < bytes.len() {
                let end = (at + cuts.next().unwrap()).min(bytes.len());
                prop_assert!((bench.held().framing.answers as usize) < answers.len() || bench.held().framing.next != start.wrapping_add(bytes.len() as u32));
                send(bench, start.wrapping_add(at as u32), &bytes[at..end]);
                if again as usize % 3 == at % 3 {
                    send(bench, start.wrapping_add(at as u32), &bytes[at..end]);
                }
                at = end;
            }
            let flow = bench.held();
            prop_assert_eq!(flow.flags & OPAQUE, 0);
            prop_assert_eq!(flow.framing.answers as usize, answers.len());
            prop_assert_eq!(flow.framing.next, start.wrapping_add(bytes.len() as u32));
            prop_assert_eq!((flow.framing.phase, flow.framing.column), (0, 0));
            Ok(())
        })?;
    }

    /// What it does not understand is never taken for complete.
    #[test]
    fn the_framing_gives_up_for_good(noise in proptest::collection::vec(any::<u8>(), 1..300)) {
        BENCH.with(|bench| {
            bench.hold(serving(1));
            send(bench, 500, &noise);
            let flow = bench.held();
            prop_assert!(flow.framing.answers == 0);
            send(bench, 500 + noise.len() as u32, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            prop_assert!(bench.held().flags & OPAQUE != 0 || bench.held().framing.answers == 0);
            Ok(())
        })?;
    }
}

#[test]
fn what_has_no_known_end_is_opaque() {
    let bench = Bench::new();
    for head in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\n",
    ] {
        bench.hold(serving(1));
        send(&bench, 500, head.as_bytes());
        assert_ne!(bench.held().flags & OPAQUE, 0, "{head}");
    }
    bench.hold(serving(1));
    send(&bench, 600, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_ne!(bench.held().flags & OPAQUE, 0, "bytes that were not seen");
    bench.hold(serving(0));
    send(
        &bench,
        500,
        b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
    );
    assert_ne!(
        bench.held().flags & OPAQUE,
        0,
        "an answer that nobody asked for"
    );
}

#[test]
fn both_fins_end_a_flow() {
    let mut bench = Bench::new();
    bench.hold(serving(1));
    bench.verdict(
        &Tcp {
            flags: "F",
            payload: vec![],
            ..request(1018)
        }
        .frame(),
    );
    let fin = Tcp {
        from: at(VIP),
        to: at(CLIENT),
        seq: 500,
        ack: Some(1019),
        flags: "F",
        options: vec![],
        payload: vec![],
    };
    bench.backend.test_egress(&fin.frame()).unwrap();
    assert_eq!(bench.held().state, served_state::ENDED);
    bench.hold(serving(1));
    bench
        .backend
        .test_egress(&Tcp { flags: "R", ..fin }.frame())
        .unwrap();
    assert_eq!(bench.held().state, served_state::ENDED);
}
