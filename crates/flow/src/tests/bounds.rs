//! Nothing is waited for without end, tried without end, or held without limit.

use super::*;

#[test]
fn a_long_head_goes_to_the_relay() {
    let head = |padding: usize| {
        format!(
            "GET /1 HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "x".repeat(padding)
        )
        .into_bytes()
    };
    let most = limits().max_head_bytes - head(0).len();
    for (padding, target) in [
        (most, Target::Server(ServerId(1))),
        (most + 1, Target::Relay),
    ] {
        let mut bench = expected();
        bench.send(FIRST, &head(padding));
        assert_eq!(bench.entry().bound, Some(target));
    }
    let mut bench = expected();
    bench.send(FIRST, &head(most + 10)[..limits().max_head_bytes]);
    assert_eq!(bench.entry().bound, None, "it may still end");
    bench.send(FIRST + limits().max_head_bytes as u32, b"x");
    assert_eq!(bench.entry().bound, Some(Target::Relay), "no end in sight");
}

#[test]
fn a_lost_piece_of_a_head_has_time_to_come_again() {
    let mut bench = expected();
    bench.send(FIRST, b"GET /1 ");
    bench.send(FIRST + 17, &get("/1")[17..]);
    assert_eq!(
        brief(&bench.pass(Duration::from_millis(900))),
        "+acknowledged, say 0/7"
    );
    assert_eq!(
        brief(&bench.send(FIRST + 7, &get("/1")[7..17])),
        "+first_bind, put 1<28 #1, bind 1 0..28"
    );
}

#[test]
fn a_slow_head_waits_for_the_release() {
    let mut bench = expected();
    bench.send(FIRST, &get("/1"));
    bench.confirm();
    bench.send(bench.entry().boundary, b"GET /2 ");
    assert_eq!(
        brief(&bench.pass(Duration::from_millis(19))),
        "bind and ask 1 28..28"
    );
    assert_eq!(
        brief(&bench.pass(Duration::from_millis(1))),
        "+slow_head, ask 1"
    );
    bench.send(bench.entry().boundary + 7, b"HTTP");
    let released = bench.handle(bench.answer(Outcome::Released { ack: ACK + 9 }));
    assert_eq!(
        brief(&released),
        "+released, +to_relay, bind relay 28..39, put relay pinned"
    );
}

#[test]
fn releases_are_asked_again_until_answered() {
    let mut bench = expected();
    bench.send(FIRST, &get("/1"));
    bench.confirm();
    bench.send(bench.entry().boundary, &get("/2"));
    let mut pauses = Vec::new();
    for _ in 0..6 {
        let before = bench.now.mono;
        let next = bench.owner.next_deadline().unwrap();
        assert_eq!(brief(&bench.pass(next - before)), "ask 1");
        pauses.push((next - before).as_millis());
    }
    assert_eq!(pauses, [20, 40, 80, 160, 160, 160]);
    bench.handle(bench.answer(Outcome::Busy));
    assert_eq!(
        bench.owner.next_deadline(),
        Some(bench.now.mono + Duration::from_millis(250))
    );
}

#[test]
fn a_server_that_stays_busy() {
    let mut bench = expected();
    bench.send(FIRST, &get("/1"));
    bench.confirm();
    bench.send(bench.entry().boundary, &get("/2"));
    let mut last = Vec::new();
    for _ in 0..241 {
        bench.handle(bench.answer(Outcome::Busy));
        last = bench.pass(Duration::from_millis(250));
    }
    assert_eq!(
        (brief(&last), bench.owner.pending()),
        (String::new(), 0),
        "forgotten after a minute"
    );
    assert_eq!(
        bench.entry().bound,
        Some(Target::Server(ServerId(1))),
        "its answer goes on"
    );
    // The last release was answered after all.
    let released = bench.handle(bench.answer(Outcome::Released { ack: ACK + 9 }));
    assert_eq!(brief(&released), "+released, put undecided@28");
    assert_eq!(
        brief(&bench.send(bench.entry().bind_seq, &get("/1"))),
        "+first_bind, put 1<56 #1, bind 1 28..56"
    );
    assert_eq!(bench.entry().bind_ack, ACK + 9);
}

#[test]
fn a_refused_request_is_decided_again_at_most_three_times() {
    let mut bench = expected();
    let mut tried = Vec::new();
    let mut epochs = Vec::new();
    for _ in 0..4 {
        bench.send(FIRST, &get("/1"));
        tried.push(bench.entry().bound.unwrap());
        epochs.push(bench.entry().epoch);
        bench.handle(bench.notice(What::Refused { reason: 2 }));
    }
    let server = |number| Target::Server(ServerId(number));
    assert_eq!(tried, [server(1), server(11), server(21), Target::Relay]);
    assert!(epochs.is_sorted_by(|a, b| a < b), "{epochs:?}");
    assert!(bench.entry().reset, "a relay that refuses is the end");
}

#[test]
fn refusals_are_forgotten_once_a_server_has_taken_the_flow() {
    let mut bench = expected();
    bench.send(FIRST, &get("/1"));
    bench.handle(bench.notice(What::Refused { reason: 2 }));
    bench.send(FIRST, &get("/1"));
    bench.confirm();
    bench.send(bench.entry().boundary, &get("/2"));
    bench.handle(bench.answer(Outcome::Released { ack: ACK + 9 }));
    bench.confirm();
    bench.send(bench.entry().boundary, &get("/1"));
    bench.handle(bench.answer(Outcome::Released { ack: ACK + 10 }));
    assert_eq!(bench.entry().bound, Some(Target::Server(ServerId(1))));
}

#[test]
fn held_bytes_are_bounded_and_a_small_request_finds_room() {
    let limit = 400_000;
    let mut bench = Bench::new(Limits {
        max_held_bytes: limit,
        ..limits()
    });
    let send = |bench: &mut Bench, port: u16, bytes: usize| {
        bench.expect();
        let entry = bench.entry();
        let key = FlowKey::new(
            ([192, 0, 2, 1], port).into(),
            ([198, 51, 100, 7], 80).into(),
        );
        bench.entries.0.insert(key, entry);
        let segment = bench.segment(FIRST, &[b"GET /1".as_slice(), &vec![b'x'; bytes]].concat());
        let actions = bench.handle(Event::Segment {
            key,
            vip: VIP,
            segment,
            fresh: None,
            doubt: false,
        });
        assert!(bench.owner.held_bytes() <= limit);
        counts(&actions, Counter::OverLimit)
    };
    let dropped: usize = (1..=1000).map(|port| send(&mut bench, port, 2000)).sum();
    assert!(dropped > 500 && bench.owner.pending() > 50);
    assert_eq!(bench.owner.pending() + dropped, 1000);
    assert_eq!(
        (2001..2100)
            .map(|port| send(&mut bench, port, 100))
            .sum::<usize>(),
        0
    );
    bench.pass(Duration::from_millis(20));
    // All were acknowledged, and went to the relay: now that has to confirm them.
    bench.pass(Duration::from_secs(61));
    assert_eq!((bench.owner.pending(), bench.owner.held_bytes()), (0, 0));
}

#[test]
fn who_holds_a_little_may_not_hold_much_by_beginning_anew() {
    let mut bench = Bench::new(Limits {
        max_held_bytes: 64 * 1000,
        ..limits()
    });
    let first = bench.segment(FIRST, b"GET");
    bench.handle(fresh(first));
    let long = [b"GET /1".as_slice(), &[b'x'; 2000]].concat();
    let other = bench.segment(FIRST + 70_000, &long);
    let again = bench.handle(fresh(other));
    assert_eq!(counts(&again, Counter::OverLimit), 1);
    assert_eq!(bench.owner.held_bytes(), 0);
}

#[test]
fn what_fills_a_hole_goes_before_what_is_behind_it() {
    let mut bench = Bench::new(Limits {
        max_held_bytes: 64 * 3000,
        ..limits()
    });
    bench.expect();
    bench.send(FIRST + 100, &[b'x'; 2700]);
    assert_eq!(
        brief(&bench.send(FIRST, &get("/1"))),
        "+first_bind, put 1<28 #1, bind 1 0..28"
    );
}

#[test]
fn bytes_behind_a_hole_are_soon_forgotten() {
    let mut bench = expected();
    bench.send(FIRST + 10, b"abc");
    assert_eq!(brief(&bench.pass(Duration::from_millis(999))), "");
    assert_eq!(brief(&bench.pass(Duration::from_millis(1))), "+forgotten");
}

#[test]
fn one_flow_cannot_hold_much() {
    let mut bench = expected();
    bench.send(FIRST, &get("/1"));
    bench.confirm();
    bench.send(bench.entry().boundary, &get("/2"));
    let mut at = bench.entry().boundary + 28;
    for _ in 0..1200 {
        bench.send(at, &[b'x'; 1000]);
        at += 1000;
    }
    assert!(
        bench.owner.held_bytes() <= 1024 * 1024 + 256,
        "{}",
        bench.owner.held_bytes()
    );
    assert!(bench.owner.held_bytes() > 1000 * 1024);
}
