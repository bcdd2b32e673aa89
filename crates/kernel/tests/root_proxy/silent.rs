//! Connections that say nothing, close unused, or were reset: answered from the packet alone (H13, H9); cookies that expire and that are
//! guessed (H16).

use super::*;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::time::Duration;

/// One slot of the cookie's clock.
const SLOT: Duration = Duration::from_millis(1 << 18);

/// What an answer says: flags, sequence and acknowledgement number.
fn said(frame: &[u8]) -> (String, u32, u32) {
    let (tcp, payload) = tcp_of(frame);
    assert!(payload.is_empty());
    let flags = [
        (tcp.syn, 'S'),
        (tcp.fin, 'F'),
        (tcp.rst, 'R'),
        (tcp.ack, 'A'),
    ];
    let flags = flags.iter().filter(|(on, _)| *on).map(|(_, name)| name);
    assert_eq!((tcp.source_port, tcp.destination_port), (80, 40000));
    (
        flags.collect(),
        tcp.sequence_number,
        tcp.acknowledgment_number,
    )
}

/// The request that would be the connection's first, without it.
fn quiet(request: &Tcp, flags: &'static str) -> Tcp {
    Tcp {
        flags,
        payload: vec![],
        ..request.clone()
    }
}

fn probe(request: &Tcp, garbage: usize) -> Tcp {
    Tcp {
        seq: request.seq - 1,
        payload: vec![0; garbage],
        ..quiet(request, "")
    }
}

#[test]
fn a_keepalive_probe_is_answered_and_nothing_is_kept() {
    let mut bench = Bench::new();
    for (from, to) in [(CLIENT, VIP), (CLIENT6, VIP6)] {
        for options in [Tcp::syn(from, to).options, vec![]] {
            let syn = Tcp {
                options: options.clone(),
                ..Tcp::syn(from, to)
            };
            let request = bench.shake(&syn);
            for garbage in [0, 1] {
                let (verdict, answer, moved, punts) = bench.run(&probe(&request, garbage).frame());
                assert_eq!(
                    (verdict, moved),
                    (REDIRECT, vec!["answered/keepalive".to_string()])
                );
                assert!(punts.is_empty());
                assert_eq!(
                    said(&answer),
                    ("A".into(), request.ack.unwrap(), request.seq)
                );
                assert_eq!(answer[..6], [2, 0, 0, 0, 0, 1], "back to who sent it");
                let (tcp, _) = tcp_of(&answer);
                assert_eq!(
                    tcp.window_size,
                    if options.is_empty() { 65535 } else { 64 },
                    "64 KB, as the SYN-ACK said"
                );
                let echo = timestamps_of(&tcp).map(|(_, echo)| echo);
                assert_eq!(echo, (!options.is_empty()).then_some(78));
            }
            let two = probe(&request, 2);
            assert_eq!(bench.verdict(&two.frame()), asked());
        }
    }
    assert!(bench.proxy.flows().all().unwrap().is_empty());
}

#[test]
fn a_connection_closed_unused_is_closed_by_both() {
    let mut bench = Bench::new();
    for (from, to) in [(CLIENT, VIP), (CLIENT6, VIP6)] {
        let request = bench.shake(&Tcp::syn(from, to));
        for _ in 0..2 {
            let (verdict, answer, moved, _) = bench.run(&quiet(&request, "F").frame());
            assert_eq!(
                (verdict, moved),
                (REDIRECT, vec!["answered/fin".to_string()])
            );
            assert_eq!(
                said(&answer),
                ("FA".into(), request.ack.unwrap(), request.seq + 1)
            );
        }
        let last = Tcp {
            seq: request.seq + 1,
            ack: request.ack.map(|a| a.wrapping_add(1)),
            ..quiet(&request, "")
        };
        assert_eq!(bench.verdict(&last.frame()), dropped("handshake_ack"));
        let elsewhere = Tcp {
            seq: request.seq + 7,
            ..quiet(&request, "F")
        };
        assert_eq!(bench.verdict(&elsewhere.frame()), asked());
        let forged = Tcp {
            ack: request.ack.map(|a| a ^ 1 << 20),
            ..quiet(&request, "F")
        };
        assert_eq!(bench.verdict(&forged.frame()), asked());
    }
    assert!(bench.proxy.flows().all().unwrap().is_empty());
}

#[test]
fn a_silent_connection_on_addresses_used_before() {
    let mut bench = Bench::new();
    bench.bind(flow_entry {
        first_seq: 777,
        first_ack: 888,
        ..bound(2000)
    });
    let request = bench.shake(&Tcp::syn(CLIENT, VIP));
    let counted = |moved: &str| (REDIRECT, moved.to_string());
    assert_eq!(
        bench.verdict(&probe(&request, 1).frame()),
        counted("answered/keepalive")
    );
    assert_eq!(
        bench.verdict(&quiet(&request, "F").frame()),
        counted("answered/fin")
    );
    // The connection that has the entry: its probes go to its server.
    let own = flow_entry {
        first_seq: request.seq,
        first_ack: request.ack.unwrap(),
        flags: flow_flags::CONFIRMED | flow_flags::REUSED,
        ..bound(2000)
    };
    bench.bind(own);
    assert_eq!(
        bench.verdict(&probe(&request, 1).frame()),
        counted("forwarded/bound")
    );
}

#[test]
fn a_cookie_that_has_expired_is_answered_with_a_reset() {
    let mut bench = Bench::new();
    let request = bench.shake(&Tcp::syn(CLIENT, VIP));
    let after = |bench: &mut Bench, slots: u32, packet: &Tcp| {
        let mut later = settings();
        later.clock = later.clock.later(SLOT * slots);
        bench.proxy.set_settings(&later);
        let (_, answer, moved, _) = bench.run(&packet.frame());
        if moved == ["answered/expired_cookie"] {
            let (flags, seq, _) = said(&answer);
            assert_eq!((flags.as_str(), Some(seq)), ("R", packet.ack));
        }
        moved.join(" ")
    };
    for packet in [
        request.clone(),
        quiet(&request, "F"),
        probe(&request, 0),
        probe(&request, 1),
    ] {
        assert_eq!(after(&mut bench, 4, &packet), "answered/expired_cookie");
        assert_eq!(after(&mut bench, 30, &packet), "answered/expired_cookie");
        assert_eq!(after(&mut bench, 60, &packet), "punted/no_flow");
    }
    // What does not begin a connection says nothing about its age: it may have overtaken what does.
    let second = Tcp {
        seq: request.seq + 100,
        ..request.clone()
    };
    assert_eq!(after(&mut bench, 4, &second), "punted/no_flow");
    assert_eq!(
        after(&mut bench, 4, &quiet(&request, "R")),
        "punted/no_flow"
    );
    assert_eq!(after(&mut bench, 3, &request), "punted/first_request");
    assert_eq!(bench.proxy.flows().all().unwrap().len(), 1);
}

/// Forged first segments make no entries; while there are many, only young cookies are good.
#[test]
fn guesses_are_dropped_and_shorten_the_cookies_life() {
    let mut cpu = CpuSet::new();
    cpu.set(0).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cpu).unwrap(); // what is counted is a CPU's
    let mut bench = Bench::new();
    let requests: Vec<Tcp> = (0..3)
        .map(|n| bench.shake(&Tcp::syn(&format!("10.77.0.1:{}", 43000 + n), VIP)))
        .collect();
    let at_age = |bench: &mut Bench, slots: u32, packet: &Tcp| {
        let mut later = settings();
        later.clock = later.clock.later(SLOT * slots);
        bench.proxy.set_settings(&later);
        bench.watch.moved();
        bench.verdict(&packet.frame()).1
    };
    let guess = |bench: &mut Bench| {
        for n in 0..1500u32 {
            let forged = Tcp {
                ack: Some(n << 12),
                ..requests[0].clone()
            };
            bench.proxy.test_run(&forged.frame()).unwrap();
        }
    };
    guess(&mut bench);
    assert!(bench.proxy.flows().all().unwrap().is_empty());
    assert_eq!(
        at_age(&mut bench, 2, &requests[0]),
        "dropped/bad_cookie",
        "old while somebody guesses"
    );
    assert_eq!(
        at_age(&mut bench, 1, &requests[1]),
        "punted/first_request",
        "young"
    );
    std::thread::sleep(Duration::from_millis(2300));
    assert_eq!(
        at_age(&mut bench, 2, &requests[2]),
        "punted/first_request",
        "once it is over"
    );
}

#[test]
fn what_was_reset_is_reset_again() {
    let mut bench = Bench::new();
    let key = bench.bind(flow_entry {
        state: flow_state::RESET,
        first_seq: 1000,
        first_ack: 500,
        ..bound(2000)
    });
    for packet in [
        data(1000, 0),
        data(1999, 1),
        data(2000, 900),
        data(1000, 20),
        Tcp {
            flags: "F",
            ..data(2000, 0)
        },
    ] {
        for ack in [500, 12345] {
            let packet = Tcp {
                ack: Some(ack),
                ..packet.clone()
            };
            let (verdict, answer, moved, _) = bench.run(&packet.frame());
            assert_eq!(
                (verdict, moved),
                (REDIRECT, vec!["answered/reset".to_string()])
            );
            let (flags, seq, _) = said(&answer);
            assert_eq!((flags.as_str(), seq), ("R", ack), "where the client is");
        }
    }
    let reset = Tcp {
        flags: "R",
        ..data(2000, 0)
    };
    assert_eq!(bench.verdict(&reset.frame()), dropped("no_flow"));
    // The client begins anew on the same addresses.
    let request = bench.shake(&Tcp {
        seq: 70_000,
        ..Tcp::syn(CLIENT, VIP)
    });
    assert_eq!(
        bench.verdict(&request.frame()),
        (DROP, "punted/first_request".into())
    );
    assert!(bench.proxy.flows().entry(&key).is_some());
}
