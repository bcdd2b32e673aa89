//! Binds, up to the adoption.

use super::*;

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
