//! SYN, cookie, first request.

use super::*;

/// Behind a balancer the frame's sender is not on the way to the client.
#[test]
fn behind_other_nodes_answers_go_by_the_routes() {
    let mut bench = Bench::new();
    let syn = Tcp::syn(CLIENT, VIP).frame();
    let (_, back, _, _) = bench.run(&syn);
    bench.proxy.set_settings(&Settings {
        answers_by_route: true,
        ..settings()
    });
    let (verdict, routed, moved, _) = bench.run(&syn);
    assert_eq!((verdict, moved), (REDIRECT, vec!["answered/syn".into()]));
    assert_eq!(routed[..12], syn[..12], "the kernel writes link addresses");
    assert_ne!(back[..12], syn[..12]);
    tcp_of(&routed);
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
            [2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
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
            (verdict, moved, punts[0].fresh, punts[0].doubt),
            (DROP, vec!["punted/no_flow".to_string()], None, true)
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
    assert_eq!(bench.verdict(&other.frame()), asked());
}
