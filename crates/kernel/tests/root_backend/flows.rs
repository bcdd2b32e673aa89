//! Packets of flows by their state, releases.

use super::*;

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
    let answer = answer_to(bench, &release.encode(&Key::new(signed_by)))?;
    Some(ReleaseAnswer::decode(&answer, &keys()).unwrap())
}

/// What goes back to the proxy that sent a message.
pub(super) fn answer_to(bench: &mut Bench, message: &[u8]) -> Option<Vec<u8>> {
    let (verdict, _, _, after) = bench.ingress(&udp_frame(PROXY, NODE, message));
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
    Some(udp.payload().to_vec())
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
    let mut behind = Release {
        boundary: Seq(1040),
        requests: 2,
        ..release()
    };
    let ReleaseAnswer { outcome, .. } = ask(&mut bench, &behind, MESSAGE_KEY).unwrap();
    assert_eq!(
        outcome,
        Outcome::Unknown,
        "the request in between has met the fence"
    );
    behind.force = true;
    let ReleaseAnswer { outcome, .. } = ask(&mut bench, &behind, MESSAGE_KEY).unwrap();
    assert_eq!(outcome, Outcome::Released { ack: Seq(777) });
}

/// A segment of the flow's server.
fn answer(flags: &'static str, payload: &[u8]) -> Vec<u8> {
    let segment = Tcp {
        from: at(VIP),
        to: at(CLIENT),
        seq: 500,
        ack: Some(1018),
        flags,
        options: vec![],
        payload: payload.to_vec(),
    };
    segment.frame()
}

#[test]
fn an_answer_begins_only_while_the_proxy_cannot_take_the_node_for_dead() {
    let mut bench = Bench::new();
    // `serving` names no proxy: all zero.
    let proxy = "::".parse().unwrap();
    let leases = bench.backend.leases().unwrap();
    let say = |bench: &mut Bench| {
        let (verdict, _) = bench.backend.test_egress(&answer("P", b"HTTP")).unwrap();
        (verdict, bench.watch.moved().join(" "))
    };
    bench.hold(serving(1));
    assert_eq!(say(&mut bench), (NEXT, String::new()), "no heartbeats");
    let minute = std::time::Duration::from_secs(60);
    let now = baton_kernel::monotonic();
    leases.grant(proxy, now + minute).unwrap();
    assert_eq!(say(&mut bench), (NEXT, String::new()));
    leases.grant(proxy, now).unwrap();
    assert_eq!(say(&mut bench), dropped("no_lease"));
    // Once the client has something of it, no other server can get the request.
    bench.verdict(
        &Tcp {
            ack: Some(501),
            payload: vec![],
            ..request(1018)
        }
        .frame(),
    );
    assert_eq!(say(&mut bench), (NEXT, String::new()));
}

#[test]
fn the_kernels_own_reset_of_a_bind_is_a_refusal() {
    let mut bench = Bench::new();
    bench.hold(served_flow {
        state: served_state::ADOPTING,
        ..serving(1)
    });
    bench.backend.test_egress(&answer("R", b"")).unwrap();
    let mut told = Vec::new();
    bench.told.drain(&mut told);
    assert_eq!(
        told.iter().map(|told| told.what).collect::<Vec<_>>(),
        [REFUSED]
    );
    assert_eq!(bench.watch.moved().join(" "), "dropped/adoption_refused");
    assert_eq!(bench.held().state, served_state::REFUSED);
}
