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
