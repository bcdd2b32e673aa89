//! Heads in pieces: what is acknowledged, and what becomes of it.

use super::*;

fn acknowledgements(actions: &[Action]) -> Vec<Segment> {
    let acknowledgement = |action: &Action| match action {
        Action::Say { segment, .. } => Some(segment.clone()),
        _ => None,
    };
    actions.iter().filter_map(acknowledgement).collect()
}

/// Half of a first head has been acknowledged.
fn half() -> Bench {
    let mut bench = expected();
    bench.send(FIRST, b"GET /");
    bench.pass(limits().ack_wait);
    bench
}

#[test]
fn the_first_piece_is_acknowledged_as_a_server_would() {
    let mut bench = expected();
    bench.send(FIRST, b"GET /");
    let actions = bench.pass(limits().ack_wait);
    let expected = Segment {
        seq: ACK,
        ack: FIRST + 5,
        flags: Flags::ACK,
        window: 64,
        timestamps: Some(Timestamps {
            value: bench.now.clock_ms,
            echo: 77,
        }),
        traffic_class: 0,
        hop_limit: 64,
        payload: Bytes::new(),
    };
    assert_eq!(acknowledgements(&actions), [expected]);
    assert_eq!(
        brief(&bench.pass(limits().ack_wait)),
        "",
        "once, until more comes"
    );
}

#[test]
fn without_options_the_acknowledgement_has_none() {
    let mut bench = expected();
    bench.entry_mut().options = ClientOptions {
        wscale: None,
        timestamps: false,
        ..options()
    };
    let piece = Segment {
        timestamps: None,
        ..bench.segment(FIRST, b"GET /")
    };
    bench.handle(later(piece));
    let found = acknowledgements(&bench.pass(limits().ack_wait));
    assert_eq!((found[0].window, found[0].timestamps), (65535, None));
}

#[test]
fn a_later_piece_is_acknowledged_once_the_server_has_all_before_it() {
    let mut bench = expected();
    let upload = post("/1", b"0123456789");
    bench.send(FIRST, &upload);
    bench.confirm();
    let boundary = bench.entry().boundary;
    bench.send(boundary, b"GET /");
    let asked = bench.pass(limits().ack_wait);
    assert_eq!(brief(&asked), "bind and ask 1 59..59");
    let Event::Notice(notice) = bench.notice(What::Taken) else {
        unreachable!()
    };
    let missing = Notice {
        ack: boundary - 1,
        ..notice
    };
    assert_eq!(
        brief(&bench.handle(Event::Notice(missing))),
        "",
        "an acknowledgement would cover the upload's last byte"
    );
    assert_eq!(
        brief(&bench.pass(Duration::from_millis(14))),
        "",
        "the question takes its time"
    );
    let told = acknowledgements(&bench.handle(Event::Notice(notice)));
    assert_eq!(
        (told[0].seq, told[0].ack),
        (bench.entry().newest_ack, boundary + 5)
    );
    let echo = bench.now.clock_ms.wrapping_sub(24);
    assert!(
        Seq(told[0].timestamps.unwrap().value).at_or_before(Seq(echo + 24)),
        "nothing newer than the client has seen"
    );
}

#[test]
fn a_lost_acknowledgement_is_given_again() {
    let mut bench = half();
    let again = bench.send(FIRST, b"GET /");
    assert_eq!(brief(&again), "say 0/5");
}

#[test]
fn a_bind_is_sent_again_until_an_answer_is_acknowledged() {
    let mut bench = half();
    let first = bench.send(FIRST + 5, &get("/1")[5..]);
    assert_eq!(brief(&first), "+first_bind, put 1<28 #1, bind 1 0..28");
    let mut pauses = Vec::new();
    for _ in 0..6 {
        let before = bench.now.mono;
        let told = loop {
            let next = bench.owner.next_deadline().unwrap();
            let told = brief(&bench.pass(next - bench.now.mono));
            if !told.is_empty() {
                break told;
            }
        };
        assert_eq!(told, "bind and ask 1 0..28");
        pauses.push((bench.now.mono - before).as_millis());
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1600, 1600]);
    bench.confirm();
    assert_eq!(brief(&bench.pass(Duration::from_secs(70))), "");
    assert_eq!(bench.owner.held_bytes(), 0);
}

#[test]
fn a_repeated_bind_tells_the_same_round_trip_and_the_newest_clock() {
    let mut bench = half();
    let binds = |actions: &[Action]| match actions {
        [
            ..,
            Action::Bind {
                header, segment, ..
            },
        ] => (*header, segment.timestamps.unwrap()),
        _ => panic!("{}", brief(actions)),
    };
    let (header, sent) = binds(&bench.send(FIRST + 5, &get("/1")[5..]));
    bench.entry_mut().newest_tsval = 99;
    let (later, again) = binds(&bench.pass(Duration::from_millis(100)));
    assert_eq!(
        later.clock.wrapping_sub(again.echo),
        header.clock.wrapping_sub(sent.echo)
    );
    assert_eq!((again.value, later.epoch), (99, header.epoch));
}

#[test]
fn a_slow_answer_costs_one_repetition() {
    let mut bench = half();
    bench.send(FIRST + 5, &get("/1")[5..]);
    bench.pass(Duration::from_millis(100));
    bench.handle(bench.notice(What::Taken));
    assert_eq!(brief(&bench.pass(Duration::from_secs(70))), "");
    assert_eq!(bench.owner.held_bytes(), 0);
}

#[test]
fn what_a_server_refuses_goes_to_another_at_once_and_the_relay_has_the_last_word() {
    let mut bench = half();
    bench.send(FIRST + 5, &get("/1")[5..]);
    let mut tried = Vec::new();
    for _ in 0..4 {
        tried.push(bench.entry().bound.unwrap());
        bench.handle(bench.notice(What::Refused { reason: 1 }));
    }
    let server = |number| Target::Server(ServerId(number));
    assert_eq!(tried, [server(1), server(11), server(21), Target::Relay]);
    assert!(bench.entry().reset, "a relay that refuses is the end");
}

#[test]
fn acknowledged_bytes_wait_as_long_as_their_server_is_busy() {
    let mut bench = expected();
    bench.send(FIRST, &get("/1"));
    bench.confirm();
    bench.send(bench.entry().boundary, b"GET /");
    bench.pass(limits().ack_wait);
    bench.handle(bench.notice(What::Taken));
    bench.send(bench.entry().boundary + 5, &get("/2")[5..]);
    for _ in 0..400 {
        bench.handle(bench.answer(Outcome::Busy));
        bench.pass(Duration::from_millis(250));
    }
    let released = bench.handle(bench.answer(Outcome::Released { ack: ACK + 100 }));
    assert_eq!(
        brief(&released),
        "+released, +rebind, put 2<56 #1, bind 2 28..56"
    );
}

#[test]
fn a_head_that_ends_too_early_is_not_waited_for() {
    let mut bench = expected();
    let piece = bench.segment(FIRST, b"GET / HT");
    let actions = bench.handle(later(Segment {
        flags: piece.flags | Flags::FIN,
        ..piece
    }));
    assert_eq!(
        brief(&actions),
        "+bad_head, +to_relay, bind relay 0..8, put relay pinned"
    );
}

#[test]
fn a_whole_request_needs_no_room() {
    let mut bench = Bench::new(Limits {
        max_held_bytes: 0,
        ..limits()
    });
    bench.expect();
    assert_eq!(
        brief(&bench.send(FIRST, &get("/1"))),
        "+first_bind, put 1<28 #1, bind 1 0..28"
    );
    bench.expect();
    assert_eq!(brief(&bench.send(FIRST, b"GET /")), "+over_limit");
    assert_eq!(bench.owner.held_bytes(), 0);
}

#[test]
fn a_server_that_is_out_with_half_a_next_head_acknowledged_costs_a_reset() {
    let mut bench = expected();
    bench.send(FIRST, &get("/1"));
    let boundary = bench.entry().boundary;
    bench.send(boundary, b"GET /");
    bench.pass(limits().ack_wait);
    bench.handle(bench.notice(What::Taken));
    bench.decide.out.push(ServerId(1));
    let actions = bench.handle(Event::Lost {
        key: key(),
        holder: Target::Server(ServerId(1)),
    });
    assert!(
        brief(&actions).contains("+reset"),
        "another server could be asked for the first request, but not for the second: {}",
        brief(&actions)
    );
}

#[test]
fn whole_requests_behind_a_hole_in_a_body_are_not_taken_for_pieces() {
    let mut bench = expected();
    let upload = post("/1", &[b'x'; 100]);
    let (head, behind) = (upload.len() - 100, upload.len() as u32);
    bench.send(FIRST + behind, &get("/1"));
    let actions = bench.send(FIRST, &upload[..head]);
    assert_eq!(
        brief(&actions),
        "+first_bind, bind 1 0..50, put 1<150 #1, +stay, put 1<178 #2, bind 1 150..178"
    );
    assert_eq!(bench.owner.held_bytes(), 0);
}

/// The client had not yet heard of the acknowledgement when it sent the request again as a whole, and hears of it before it does so once more.
#[test]
fn what_the_kernel_has_taken_meanwhile_is_delivered_all_the_same() {
    let mut bench = expected();
    bench.send(FIRST, &get("/1"));
    bench.confirm();
    let boundary = bench.entry().boundary;
    bench.send(boundary, b"GET /");
    bench.pass(limits().ack_wait);
    bench.handle(bench.notice(What::Taken));
    let entry = bench.entry_mut();
    (entry.boundary, entry.requests, entry.confirmed) = (boundary + 28, 2, false);
    (entry.unconfirmed, entry.header_end) = (boundary, boundary + 28);
    let rest = bench.send(boundary + 5, &get("/1")[5..]);
    assert_eq!(brief(&rest), "+sent_again, bind 1 33..56");
    assert_eq!(
        brief(&bench.pass(Duration::from_millis(100))),
        "bind and ask 1 28..33"
    );
    bench.handle(bench.notice(What::Taken));
    assert_eq!(bench.owner.held_bytes(), 0);
}
