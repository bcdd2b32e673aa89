//! `bpf/proxy.bpf.c`, packet by packet: every row of its decision table, and what hostile lengths and options do.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use baton_kernel::abi::{flow_entry, flow_flags, flow_state, offer};
use baton_kernel::{Events, Proxy, Punt, Server, Via, Vip};
use baton_packet::FlowKey;
use common::*;
use etherparse::TcpOptionElement as Opt;
use proptest::prelude::*;

const CLIENT: &str = "10.77.0.1:40000";
const VIP: &str = "10.77.0.10:80";
const CLIENT6: &str = "[fd77::1]:40000";
const VIP6: &str = "[fd77::10]:80";

struct Bench {
    proxy: Proxy,
    watch: Watch,
    punts: Events<Punt>,
}

impl Bench {
    fn new() -> Bench {
        let proxy = Proxy::load(&settings(), 1024).unwrap();
        let vip = |index, at_: &str| Vip {
            index,
            at: at(at_),
            mss: 1384,
            offers: offer::ALL,
        };
        proxy.set_vips(&[vip(0, VIP), vip(1, VIP6)]).unwrap();
        let server = Server {
            address: at("10.77.0.21:1").ip(),
            source: at("10.77.0.11:1").ip(),
            ifindex: 1,
            via: Via::Neighbour,
        };
        proxy.set_server(0, Some(server)).unwrap();
        proxy
            .set_server(
                1,
                Some(Server {
                    via: Via::Udp,
                    ..server
                }),
            )
            .unwrap();
        Bench {
            watch: Watch::new(proxy.counters().unwrap()),
            punts: proxy.punts().unwrap().open().unwrap(),
            proxy,
        }
    }

    /// Verdict, frame after, what was counted, what was punted.
    fn run(&mut self, frame: &[u8]) -> (i32, Vec<u8>, Vec<String>, Vec<Punt>) {
        let (verdict, after) = self.proxy.test_run(frame).unwrap();
        let mut punts = Vec::new();
        self.punts.drain(&mut punts);
        (verdict, after, self.watch.moved(), punts)
    }

    /// Verdict and the one counter that moved.
    fn verdict(&mut self, frame: &[u8]) -> (i32, String) {
        let (verdict, _, moved, _) = self.run(frame);
        (verdict, moved.join(" "))
    }

    /// Shakes hands; returns the segment that would carry the first request.
    fn shake(&mut self, syn: &Tcp) -> Tcp {
        let (verdict, answer, _, _) = self.run(&syn.frame());
        assert_eq!(verdict, REDIRECT);
        let (header, _) = tcp_of(&answer);
        let options = timestamps_of(&header)
            .map(|(value, _)| vec![Opt::Noop, Opt::Noop, Opt::Timestamp(78, value)])
            .unwrap_or_default();
        Tcp {
            seq: syn.seq + 1,
            ack: Some(header.sequence_number.wrapping_add(1)),
            flags: "P",
            options,
            payload: b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            ..syn.clone()
        }
    }

    fn bind(&self, entry: flow_entry) -> FlowKey {
        let key = FlowKey::new(at(CLIENT), at(VIP));
        self.proxy.flows().put(&key, &entry).unwrap();
        key
    }
}

fn dropped(reason: &str) -> (i32, String) {
    (DROP, format!("dropped/{reason}"))
}

fn bound(boundary: u32) -> flow_entry {
    flow_entry {
        state: flow_state::BOUND,
        flags: flow_flags::CONFIRMED,
        boundary,
        newest_ack: 500,
        header_ack: 500,
        min_rtt_ms: u32::MAX,
        offers: offer::ALL,
        ..flow_entry::default()
    }
}

fn data(seq: u32, length: usize) -> Tcp {
    Tcp {
        seq,
        ack: Some(500),
        flags: "P",
        payload: vec![b'x'; length],
        ..Tcp::new(CLIENT, VIP)
    }
}

#[test]
fn a_syn_is_answered_from_its_own_frame() {
    let mut bench = Bench::new();
    for (from, to) in [(CLIENT, VIP), (CLIENT6, VIP6)] {
        let (verdict, answer, moved, punts) = bench.run(&Tcp::syn(from, to).frame());
        assert_eq!(
            (verdict, moved),
            (REDIRECT, vec!["answered/syn".to_string()])
        );
        assert!(punts.is_empty());
        assert_eq!(
            answer[..12],
            [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2],
            "link addresses swapped"
        );
        let (tcp, payload) = tcp_of(&answer);
        assert!(tcp.syn && tcp.ack && !tcp.ece && !tcp.cwr && !tcp.ns && payload.is_empty());
        assert_eq!(
            (
                tcp.source_port,
                tcp.destination_port,
                tcp.acknowledgment_number
            ),
            (80, 40000, 1001)
        );
        let options: Vec<_> = tcp.options_iterator().map(Result::unwrap).collect();
        let Opt::Timestamp(clock, echo) = options[2] else {
            panic!("{options:?}")
        };
        assert_eq!(echo, 77);
        assert_ne!(clock, 0);
        assert_eq!(
            [&options[..2], &options[3..]].concat(),
            [
                Opt::MaximumSegmentSize(1384),
                Opt::SelectiveAcknowledgementPermitted,
                Opt::Noop,
                Opt::WindowScale(10)
            ]
        );
    }
    assert!(
        bench.proxy.flows().all().unwrap().is_empty(),
        "nothing is kept before a request"
    );
}

#[test]
fn only_what_was_offered_is_answered() {
    let every = [
        Opt::MaximumSegmentSize(1460),
        Opt::SelectiveAcknowledgementPermitted,
        Opt::Timestamp(7, 0),
        Opt::WindowScale(3),
    ];
    let mut bench = Bench::new();
    for subset in 0..16usize {
        let offered: Vec<_> = (0..4)
            .filter(|i| subset >> i & 1 == 1)
            .map(|i| every[i].clone())
            .collect();
        let syn = Tcp {
            options: offered.clone(),
            ..Tcp::syn(CLIENT, VIP)
        };
        let (verdict, answer, _, _) = bench.run(&syn.frame());
        assert_eq!(verdict, REDIRECT, "{offered:?}");
        let (tcp, _) = tcp_of(&answer);
        let kinds = |options: &[Opt]| {
            let mut kinds: Vec<u8> = options
                .iter()
                .filter_map(|o| match o {
                    Opt::MaximumSegmentSize(_) => Some(2),
                    Opt::WindowScale(_) => Some(3),
                    Opt::SelectiveAcknowledgementPermitted => Some(4),
                    Opt::Timestamp(..) => Some(8),
                    _ => None,
                })
                .collect();
            kinds.sort_unstable();
            kinds
        };
        let answered: Vec<_> = tcp.options_iterator().map(Result::unwrap).collect();
        assert_eq!(
            kinds(&answered),
            kinds(&offered),
            "{offered:?} -> {answered:?}"
        );
    }
}

#[test]
fn ecn_and_reserved_bits_are_not_answered() {
    let (verdict, answer, _, _) = Bench::new().run(
        &Tcp {
            flags: "SEW",
            ..Tcp::syn(CLIENT, VIP)
        }
        .frame(),
    );
    assert_eq!(verdict, REDIRECT);
    assert_eq!(answer[14 + 20 + 12] & 0x0f, 0);
    assert_eq!(answer[14 + 20 + 13], 0x12, "SYN and ACK, nothing else");
}

#[test]
fn the_first_request_is_punted_with_what_the_client_offered() {
    let mut bench = Bench::new();
    for (from, to, vip) in [(CLIENT, VIP, 0), (CLIENT6, VIP6, 1)] {
        let request = bench.shake(&Tcp::syn(from, to));
        let (verdict, _, moved, punts) = bench.run(&request.frame());
        assert_eq!(
            (verdict, moved),
            (DROP, vec!["punted/first_request".to_string()])
        );
        let [punt] = &punts[..] else {
            panic!("{punts:?}")
        };
        assert_eq!((punt.vip, punt.key), (vip, FlowKey::new(at(from), at(to))));
        assert_eq!(punt.packet, request.ip());
        let fresh = punt.fresh.unwrap();
        assert_eq!(
            (fresh.mss, fresh.wscale, fresh.sack, fresh.timestamps),
            (1460, Some(7), true, true)
        );
        assert_eq!(
            bench.proxy.flows().entry(&punt.key).unwrap().state,
            flow_state::PENDING
        );
        // What follows while user space thinks is punted too, in whatever order; what carries nothing is not.
        let later = Tcp {
            seq: request.seq + 5000,
            ..request.clone()
        };
        let (_, _, moved, punts) = bench.run(&later.frame());
        assert_eq!(
            (moved, punts.len(), punts[0].fresh.is_none()),
            (vec!["punted/undecided".to_string()], 1, true)
        );
        assert_eq!(
            bench.verdict(
                &Tcp {
                    payload: vec![],
                    ..request
                }
                .frame()
            ),
            dropped("undecided")
        );
    }
}

#[test]
fn the_cookie_carries_every_option() {
    let mut bench = Bench::new();
    for (number, (mss, told)) in [
        (500, 536),
        (536, 536),
        (1219, 536),
        (1300, 1300),
        (1459, 1440),
        (9000, 8940),
    ]
    .into_iter()
    .enumerate()
    {
        for wscale in [None, Some(0), Some(10), Some(14)] {
            for sack in [false, true] {
                let mut options = vec![Opt::MaximumSegmentSize(mss)];
                options.extend(wscale.map(Opt::WindowScale));
                options.extend(sack.then_some(Opt::SelectiveAcknowledgementPermitted));
                let from = format!(
                    "10.77.0.1:{}",
                    41000
                        + number * 8
                        + usize::from(sack)
                        + wscale.map_or(0, |w| 2 + usize::from(w)) * 100
                );
                let request = bench.shake(&Tcp {
                    options,
                    ..Tcp::syn(&from, VIP)
                });
                let (_, _, _, punts) = bench.run(&request.frame());
                let fresh = punts[0].fresh.unwrap();
                assert_eq!(
                    (fresh.mss, fresh.wscale, fresh.sack, fresh.timestamps),
                    (told, wscale, sack, false)
                );
            }
        }
    }
}

#[test]
fn a_wrong_cookie_gets_nothing() {
    let mut bench = Bench::new();
    let request = bench.shake(&Tcp::syn(CLIENT, VIP));
    for forged in [
        Tcp {
            ack: request.ack.map(|a| a.wrapping_add(1 << 12)),
            ..request.clone()
        },
        Tcp {
            ack: request.ack.map(|a| a ^ 1 << 7),
            ..request.clone()
        },
        Tcp {
            seq: request.seq + 1,
            ..request.clone()
        },
        Tcp {
            from: at("10.77.0.2:40000"),
            ..request.clone()
        },
        Tcp {
            from: at("10.77.0.1:40001"),
            ..request.clone()
        },
    ] {
        let (verdict, _, moved, punts) = bench.run(&forged.frame());
        assert_eq!(
            (verdict, moved, punts.len()),
            (DROP, vec!["dropped/bad_cookie".to_string()], 0)
        );
    }
    assert!(bench.proxy.flows().all().unwrap().is_empty());
}

#[test]
fn cookies_of_the_previous_key_are_honoured() {
    let mut bench = Bench::new();
    let request = bench.shake(&Tcp::syn(CLIENT, VIP));
    let mut rotated = settings();
    rotated.cookie_keys = [*b"cookie key 00002", COOKIE_KEY];
    bench.proxy.set_settings(&rotated);
    assert_eq!(
        bench.verdict(&request.frame()),
        (DROP, "punted/first_request".into())
    );
    rotated.cookie_keys = [*b"cookie key 00003", *b"cookie key 00002"];
    bench.proxy.set_settings(&rotated);
    let other = Tcp {
        from: at("10.77.0.1:40009"),
        ..request
    };
    assert_eq!(bench.verdict(&other.frame()), dropped("bad_cookie"));
}

#[test]
fn without_an_entry() {
    let mut bench = Bench::new();
    let plain = Tcp {
        ack: Some(7),
        ..Tcp::new(CLIENT, VIP)
    };
    assert_eq!(bench.verdict(&plain.frame()), dropped("handshake_ack"));
    assert_eq!(
        bench.verdict(
            &Tcp {
                flags: "F",
                ..plain.clone()
            }
            .frame()
        ),
        dropped("no_flow")
    );
    assert_eq!(
        bench.verdict(
            &Tcp {
                flags: "R",
                ..plain.clone()
            }
            .frame()
        ),
        dropped("no_flow")
    );
    assert_eq!(
        bench.verdict(
            &Tcp {
                flags: "RP",
                payload: vec![1; 9],
                ..plain.clone()
            }
            .frame()
        ),
        dropped("no_flow")
    );
    assert_eq!(
        bench.verdict(
            &Tcp {
                ack: None,
                ..plain.clone()
            }
            .frame()
        ),
        dropped("bad_flags")
    );
    assert_eq!(
        bench.verdict(
            &Tcp {
                flags: "SF",
                ..plain.clone()
            }
            .frame()
        ),
        dropped("bad_flags")
    );
    assert_eq!(
        bench.verdict(
            &Tcp {
                flags: "S",
                ..plain.clone()
            }
            .frame()
        ),
        dropped("bad_flags")
    );
    assert_eq!(
        bench.verdict(
            &Tcp {
                payload: vec![1],
                ..Tcp::syn(CLIENT, VIP)
            }
            .frame()
        ),
        dropped("syn_with_payload")
    );
    // Another port, another host, another protocol: the host's business.
    assert_eq!(
        bench.verdict(&Tcp::syn(CLIENT, "10.77.0.10:22").frame()),
        (NEXT, String::new())
    );
    assert_eq!(
        bench.verdict(&Tcp::syn(CLIENT, "10.77.0.99:80").frame()),
        (NEXT, String::new())
    );
    assert_eq!(
        bench.verdict(&udp_frame(CLIENT, VIP, b"hello")),
        (NEXT, String::new())
    );
}

#[test]
fn a_bound_flow() {
    let mut bench = Bench::new();
    bench.bind(bound(2000));
    let forwarded = || (REDIRECT, "forwarded/bound".to_string());
    assert_eq!(
        bench.verdict(&data(1000, 0).frame()),
        forwarded(),
        "an acknowledgement"
    );
    assert_eq!(
        bench.verdict(&data(1000, 1000).frame()),
        forwarded(),
        "up to the boundary"
    );
    assert_eq!(
        bench.verdict(
            &Tcp {
                flags: "F",
                ..data(2000, 0)
            }
            .frame()
        ),
        forwarded(),
        "FIN"
    );
    let punted = || (DROP, "punted/boundary".to_string());
    assert_eq!(
        bench.verdict(
            &Tcp {
                flags: "F",
                ..data(2100, 0)
            }
            .frame()
        ),
        punted(),
        "a FIN behind a request that waits"
    );
    assert_eq!(
        bench.verdict(&data(2000, 1).frame()),
        punted(),
        "at the boundary"
    );
    assert_eq!(bench.verdict(&data(1999, 2).frame()), punted(), "across it");
    assert_eq!(
        bench.verdict(&data(9000, 10).frame()),
        punted(),
        "beyond it"
    );
    bench.bind(flow_entry {
        flags: flow_flags::CONFIRMED | flow_flags::PINNED,
        ..bound(2000)
    });
    assert_eq!(
        bench.verdict(&data(9000, 10).frame()),
        forwarded(),
        "pinned"
    );
    bench.bind(flow_entry {
        flags: flow_flags::LOCAL | flow_flags::PINNED,
        ..bound(2000)
    });
    assert_eq!(
        bench.verdict(&data(9000, 10).frame()),
        (NEXT, "passed/relay".into())
    );
    bench.bind(flow_entry {
        server: 7,
        ..bound(2000)
    });
    assert_eq!(bench.verdict(&data(1000, 0).frame()), dropped("no_server"));
}

#[test]
fn the_header_is_needed_until_confirmed() {
    let mut bench = Bench::new();
    let entry = flow_entry {
        flags: 0,
        unconfirmed: 1000,
        header_end: 1500,
        ..bound(100_000)
    };
    let key = bench.bind(entry);
    assert_eq!(
        bench.verdict(&data(1000, 200).frame()).1,
        "punted/unconfirmed"
    );
    assert_eq!(
        bench.verdict(&data(1499, 200).frame()).1,
        "punted/unconfirmed"
    );
    assert_eq!(
        bench.verdict(&data(1500, 200).frame()).1,
        "forwarded/bound",
        "the rest of an upload goes plain"
    );
    assert_eq!(bench.verdict(&data(800, 200).frame()).1, "forwarded/bound");
    assert_eq!(
        bench.proxy.flows().entry(&key).unwrap().flags & flow_flags::CONFIRMED,
        0
    );
    assert_eq!(
        bench
            .verdict(
                &Tcp {
                    ack: Some(501),
                    ..data(1000, 0)
                }
                .frame()
            )
            .1,
        "forwarded/bound"
    );
    assert_ne!(
        bench.proxy.flows().entry(&key).unwrap().flags & flow_flags::CONFIRMED,
        0
    );
    assert_eq!(bench.verdict(&data(1000, 200).frame()).1, "forwarded/bound");
}

#[test]
fn the_entry_remembers_the_newest() {
    let mut bench = Bench::new();
    let key = bench.bind(bound(100_000));
    let clock = settings().clock.now_ms() as u32;
    let stamped = |ack, value, echo| Tcp {
        ack: Some(ack),
        options: vec![Opt::Noop, Opt::Noop, Opt::Timestamp(value, echo)],
        ..data(1000, 0)
    };
    bench.run(&stamped(600, 9000, clock.wrapping_sub(50)).frame());
    let entry = bench.proxy.flows().entry(&key).unwrap();
    assert_eq!(
        (entry.newest_ack, entry.newest_tsval, entry.window),
        (600, 9000, 64000)
    );
    assert!(
        (50..1050).contains(&entry.min_rtt_ms),
        "{}",
        entry.min_rtt_ms
    );
    bench.run(&stamped(550, 8000, clock).frame());
    let after = bench.proxy.flows().entry(&key).unwrap();
    assert_eq!(
        (after.newest_ack, after.newest_tsval),
        (600, 9000),
        "an older one changes nothing"
    );
    bench.run(
        &Tcp {
            flags: "F",
            ..data(1000, 0)
        }
        .frame(),
    );
    assert_eq!(
        bench.proxy.flows().entry(&key).unwrap().state,
        flow_state::BOUND,
        "a FIN removes nothing"
    );
}

#[test]
fn a_port_used_again_begins_a_new_flow() {
    let mut bench = Bench::new();
    bench.bind(bound(2000));
    let request = bench.shake(&Tcp {
        seq: 7_000_000,
        ..Tcp::syn(CLIENT, VIP)
    });
    let acknowledgement = Tcp {
        flags: "",
        payload: vec![],
        ..request.clone()
    };
    assert_eq!(
        bench.verdict(&acknowledgement.frame()),
        dropped("handshake_ack"),
        "the old server would answer it with a reset"
    );
    let (_, _, moved, punts) = bench.run(&request.frame());
    assert_eq!(moved, ["punted/first_request"]);
    assert!(punts[0].fresh.is_some());
    assert_eq!(
        bench.proxy.flows().entry(&punts[0].key).unwrap().state,
        flow_state::BOUND,
        "the old entry is user space's to replace"
    );
    // A spoofed SYN alone changes nothing for the old connection.
    assert_eq!(bench.verdict(&data(1000, 500).frame()).1, "forwarded/bound");
}

#[test]
fn a_copy_of_the_first_segment_begins_nothing() {
    let mut bench = Bench::new();
    let syn = Tcp::syn(CLIENT, VIP);
    let request = bench.shake(&syn);
    bench.run(&request.frame());
    let key = FlowKey::new(at(CLIENT), at(VIP));
    let first = bench.proxy.flows().entry(&key).unwrap();
    // The flow has moved on to another server meanwhile.
    bench.bind(flow_entry {
        first_seq: first.first_seq,
        first_ack: first.first_ack,
        newest_ack: first.newest_ack.wrapping_add(500),
        ..bound(request.seq + 5000)
    });
    bench.run(&syn.frame());
    let (_, _, moved, punts) = bench.run(&request.frame());
    assert_eq!(
        (moved.join(" ").as_str(), punts.len()),
        ("forwarded/bound", 0)
    );
}

#[test]
fn what_a_blind_attacker_sends_is_not_parsed() {
    let mut bench = Bench::new();
    let key = bench.bind(bound(2000));
    for ack in [500 + (1 << 21), 500u32.wrapping_sub(1 << 21), 0x8000_0000] {
        let spoofed = Tcp {
            ack: Some(ack),
            ..data(2000, 1)
        };
        assert_eq!(bench.verdict(&spoofed.frame()), dropped("bad_ack"), "{ack}");
        bench.run(
            &Tcp {
                ack: Some(ack),
                ..data(1000, 0)
            }
            .frame(),
        );
        assert_eq!(
            bench.proxy.flows().entry(&key).unwrap().newest_ack,
            500,
            "nor remembered"
        );
    }
    for (seq, closes) in [(12_345, false), (2001, false), (2000, true)] {
        bench.bind(bound(2000));
        bench.run(
            &Tcp {
                flags: "R",
                ..data(seq, 0)
            }
            .frame(),
        );
        let closing = bench.proxy.flows().entry(&key).unwrap().flags & flow_flags::CLOSING != 0;
        assert_eq!(closing, closes, "RST at {seq}");
    }
}

#[test]
fn encapsulated_to_another_network() {
    let mut bench = Bench::new();
    bench.bind(flow_entry {
        server: 1,
        ..bound(2000)
    });
    let packet = data(1000, 64);
    let (verdict, after, moved, _) = bench.run(&packet.frame());
    assert_eq!(
        (verdict, moved),
        (REDIRECT, vec!["forwarded/bound_encapsulated".to_string()])
    );
    let sliced = etherparse::SlicedPacket::from_ethernet(&after).unwrap();
    let Some(etherparse::TransportSlice::Udp(udp)) = sliced.transport else {
        panic!("{after:02x?}")
    };
    assert_eq!(udp.destination_port(), 6950);
    assert_eq!(udp.payload()[..8], [b'B', b'T', 1, 2, 0, 0, 0, 0]);
    assert_eq!(
        udp.payload()[8..],
        packet.ip()[..],
        "the client's packet, unchanged"
    );
    let ip = etherparse::Ipv4HeaderSlice::from_slice(&after[14..]).unwrap();
    assert_eq!(ip.header_checksum(), ip.to_header().calc_header_checksum());
    assert_eq!(
        (ip.source(), ip.destination()),
        ([10, 77, 0, 11], [10, 77, 0, 21])
    );
}

#[test]
fn fragments_and_lies_about_lengths_are_dropped() {
    let mut bench = Bench::new();
    let good = Tcp {
        ack: Some(7),
        ..data(1000, 20)
    }
    .frame();
    let with = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        frame
    };
    assert_eq!(bench.verdict(&with(14 + 6, 0x20)), dropped("fragment"));
    assert_eq!(bench.verdict(&with(14 + 7, 0x08)), dropped("fragment"));
    assert_eq!(
        bench.verdict(&with(14 + 2, 0xff)),
        dropped("malformed"),
        "IP says more than there is"
    );
    assert_eq!(
        bench.verdict(&with(14 + 3, 30)),
        dropped("malformed"),
        "IP ends within the TCP header"
    );
    assert_eq!(
        bench.verdict(&with(14 + 20 + 12, 0xf0)),
        dropped("malformed"),
        "TCP header longer than the packet"
    );
    assert_eq!(
        bench.verdict(&with(14 + 20 + 12, 0x40)),
        dropped("malformed"),
        "TCP header shorter than a TCP header"
    );
    for cut in 34..good.len() {
        let (verdict, ..) = bench.run(&good[..cut]);
        assert!(
            verdict == DROP || verdict == NEXT,
            "cut at {cut}: {verdict}"
        );
    }
}

#[test]
fn a_full_table_refuses_new_flows() {
    let proxy = Proxy::load(&settings(), 2).unwrap();
    proxy
        .set_vips(&[Vip {
            index: 0,
            at: at(VIP),
            mss: 1384,
            offers: offer::ALL,
        }])
        .unwrap();
    let mut bench = Bench {
        watch: Watch::new(proxy.counters().unwrap()),
        punts: proxy.punts().unwrap().open().unwrap(),
        proxy,
    };
    let verdicts: Vec<_> = (0..200)
        .map(|i| {
            let request = bench.shake(&Tcp::syn(&format!("10.77.0.1:{}", 42000 + i), VIP));
            bench.watch.moved();
            bench.verdict(&request.frame()).1
        })
        .collect();
    assert!(verdicts.contains(&"dropped/flow_table_full".to_string()));
    assert!(bench.proxy.flows().all().unwrap().len() <= 128);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever a client sends, the program gives a verdict, keeps nothing, and answers nothing that is not TCP of its own.
    #[test]
    fn noise_keeps_nothing(noise in proptest::collection::vec(any::<u8>(), 20..200), options in proptest::collection::vec(any::<u8>(), 0..40), flags in any::<u8>()) {
        thread_local!(static BENCH: std::cell::RefCell<Bench> = std::cell::RefCell::new(Bench::new()));
        BENCH.with_borrow_mut(|bench| {
            let mut frame = Tcp { payload: noise.clone(), ..data(1, 0) }.frame();
            let header = 14 + 20;
            let room = options.len() / 4 * 4;
            frame[header + 12] = ((20 + room.min(noise.len() / 4 * 4)) as u8 / 4) << 4;
            frame[header + 13] = flags;
            for (i, b) in options.iter().take(room.min(noise.len())).enumerate() {
                frame[header + 20 + i] = *b;
            }
            let (verdict, after, _, punts) = bench.run(&frame);
            prop_assert!(punts.is_empty());
            prop_assert!(bench.proxy.flows().all().unwrap().is_empty());
            if verdict == REDIRECT {
                prop_assert_eq!(after[header + 13], 0x12);
            } else {
                prop_assert_eq!(verdict, DROP);
            }
            Ok(())
        })?;
    }
}
