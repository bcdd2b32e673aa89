//! What has an entry, and what has none.

use super::*;

#[test]
fn without_an_entry() {
    let mut bench = Bench::new();
    let plain = Tcp {
        ack: Some(7),
        ..Tcp::new(CLIENT, VIP)
    };
    assert_eq!(bench.verdict(&plain.frame()), asked());
    assert_eq!(
        bench.verdict(
            &Tcp {
                flags: "F",
                ..plain.clone()
            }
            .frame()
        ),
        asked()
    );
    assert_eq!(
        bench.verdict(
            &Tcp {
                flags: "R",
                ..plain.clone()
            }
            .frame()
        ),
        asked()
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
        asked()
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
        (49..1050).contains(&entry.min_rtt_ms), // two clocks, each cut to a millisecond
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
fn a_port_used_again_is_known_though_user_space_wrote_the_entry_after_the_syn() {
    let mut bench = Bench::new();
    let request = bench.shake(&Tcp {
        seq: 7_000_000,
        ..Tcp::syn(CLIENT, VIP)
    });
    let old = flow_entry {
        newest_ack: request.ack.unwrap() ^ 1 << 31,
        first_seq: 1000,
        newest_tsval: 77,
        ..bound(2000)
    };
    // A late segment of a connection before the one that is there is not of a new one.
    for present in [
        flow_entry {
            newest_tsval: 79,
            ..old
        },
        flow_entry {
            newest_tsval: 78,
            first_seq: 7_000_100,
            ..old
        },
    ] {
        bench.bind(present);
        assert_eq!(bench.verdict(&request.frame()), dropped("bad_ack"));
    }
    bench.bind(old);
    let acknowledgement = Tcp {
        flags: "",
        payload: vec![],
        ..request.clone()
    };
    assert_eq!(
        bench.verdict(&acknowledgement.frame()),
        dropped("handshake_ack")
    );
    let (_, _, moved, punts) = bench.run(&request.frame());
    assert_eq!(moved, ["punted/first_request"]);
    assert!(punts[0].fresh.is_some());
}
