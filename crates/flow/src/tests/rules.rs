//! What the brief form of `pairs.txt` does not show: headers, clocks, bodies, and stories of several steps.

use baton_wire::{Bind, Scales};

use super::*;

fn binds(actions: &[Action]) -> Vec<(Bind, Segment)> {
    let bind = |action: &Action| match action {
        Action::Bind {
            header, segment, ..
        } => Some((*header, segment.clone())),
        _ => None,
    };
    actions.iter().filter_map(bind).collect()
}

fn only_bind(actions: &[Action]) -> (Bind, Segment) {
    let all = binds(actions);
    assert_eq!(all.len(), 1, "{}", brief(actions));
    all[0].clone()
}

fn round_trip(header: &Bind, segment: &Segment) -> u32 {
    header.clock.wrapping_sub(segment.timestamps.unwrap().echo)
}

#[test]
fn first_bind_says_all_that_the_packet_does_not() {
    let mut bench = expected();
    let request = post("/1", b"12345");
    let sent = bench.segment(FIRST, &request[..request.len() - 2]);
    let (header, segment) = only_bind(&bench.handle(later(sent.clone())));
    assert_eq!(
        header,
        Bind {
            timestamps: true,
            sack: true,
            scales: Some(Scales {
                client: 7,
                server: PROMISED_WSCALE
            }),
            pinned: false,
            tell: false,
            mss: 1460,
            epoch: bench.now.clock_ms,
            seq: FIRST,
            ack: ACK,
            boundary: FIRST + request.len() as u32,
            requests: 1,
            bodiless: 0,
            clock: bench.now.clock_ms,
        }
    );
    assert_eq!(
        segment, sent,
        "the packet as it came: its round trip of 5 ms is plausible"
    );
    let entry = bench.entry();
    assert_eq!(
        (entry.unconfirmed, entry.header_end),
        (FIRST, FIRST + request.len() as u32 - 2)
    );
    assert_eq!((entry.header_ack, entry.confirmed), (ACK, false));
    assert_eq!((entry.window, entry.newest_tsval), (500, 77));
}

#[test]
fn offers_that_the_client_did_not_make() {
    let mut bench = expected();
    bench.entry_mut().options = ClientOptions {
        mss: 536,
        wscale: None,
        sack: false,
        timestamps: false,
    };
    let segment = Segment {
        timestamps: None,
        ..bench.segment(FIRST, &get("/1"))
    };
    let (header, segment) = only_bind(&bench.handle(later(segment)));
    assert_eq!(
        (header.timestamps, header.sack, header.scales, header.mss),
        (false, false, None, 536)
    );
    assert_eq!(segment.timestamps, None);
}

#[test]
fn think_time_is_not_told_as_round_trip() {
    for (age, told) in [
        (0, 1),
        (1, 1),
        (50, 50),
        (333, 333),
        (30_000, 333),
        (u32::MAX, 1),
    ] {
        let mut bench = expected();
        let segment = bench.segment(FIRST, &get("/1"));
        let echo = bench.now.clock_ms.wrapping_sub(age);
        let segment = Segment {
            timestamps: Some(Timestamps { value: 77, echo }),
            ..segment
        };
        let (header, segment) = only_bind(&bench.handle(later(segment)));
        assert_eq!(round_trip(&header, &segment), told, "TSecr {age} ms old");
        assert_eq!(segment.timestamps.unwrap().value, 77);
    }
}

#[test]
fn a_rebind_tells_the_newest_of_the_client_and_its_true_round_trip() {
    let mut bench = expected();
    bench.send(FIRST, &get("/1"));
    bench.confirm();
    let boundary = bench.entry().boundary;
    bench.send(boundary, &get("/2"));
    let old = bench.entry();
    *bench.entry_mut() = Entry {
        min_rtt_ms: Some(51),
        window: 9,
        newest_tsval: 99,
        ..old
    };
    bench.pass(Duration::from_millis(10));
    let (header, segment) =
        only_bind(&bench.handle(bench.answer(Outcome::Released { ack: ACK + 1234 })));
    assert_eq!(
        (header.seq, header.ack, header.requests),
        (boundary, ACK + 1234, 1)
    );
    assert_eq!(
        header.epoch, bench.now.clock_ms,
        "the clock at the bind, above the one before"
    );
    assert_eq!(
        (segment.seq, segment.ack, segment.window),
        (boundary, ACK + 1234, 9)
    );
    assert_eq!(segment.timestamps.unwrap().value, 99);
    assert_eq!(round_trip(&header, &segment), 51);
}

#[test]
fn a_stay_keeps_the_bind_and_the_timestamps() {
    let mut bench = expected();
    let (first, _) = only_bind(&bench.send(FIRST, &get("/1")));
    bench.confirm();
    bench.pass(Duration::from_secs(30));
    let boundary = bench.entry().boundary;
    let echo = bench.now.clock_ms.wrapping_sub(30_000);
    let segment = Segment {
        timestamps: Some(Timestamps { value: 78, echo }),
        ..bench.segment(boundary, &get("/1x"))
    };
    let (header, sent) = only_bind(&bench.handle(later(segment.clone())));
    let state = Bind {
        requests: 2,
        boundary: bench.entry().boundary,
        clock: bench.now.clock_ms,
        ..first
    };
    assert_eq!((header, sent), (state, segment));
    assert_eq!(bench.entry().boundary, boundary + get("/1x").len() as u32);
    assert!(
        !bench.entry().confirmed,
        "the server has not yet the new boundary"
    );
    assert_eq!(bench.entry().unconfirmed, boundary);
}

#[test]
fn what_is_not_confirmed_stays_so_when_more_is_sent() {
    let mut bench = expected();
    bench.send(FIRST, &get("/1"));
    let boundary = bench.entry().boundary;
    bench.send(boundary, &get("/1"));
    assert_eq!(bench.entry().unconfirmed, FIRST);
    let again = bench.send(FIRST, &get("/1"));
    assert_eq!(brief(&again), "+sent_again, bind 1 0..28");
    assert_eq!(
        binds(&again)[0].0.requests,
        2,
        "the header always tells the newest state"
    );
}

#[test]
fn heads_are_remembered() {
    let mut bench = expected();
    let head = |path: &str| format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
    let (header, _) = only_bind(&bench.send(FIRST, &[head("/1"), get("/1"), head("/1")].concat()));
    assert_eq!((header.requests, header.bodiless), (3, 0b101));
    let (header, _) =
        only_bind(&bench.send(bench.entry().boundary, &[get("/1"), head("/1")].concat()));
    assert_eq!((header.requests, header.bodiless), (5, 0b10101));
    bench.confirm();
    bench.send(bench.entry().boundary, &head("/2"));
    let (header, _) = only_bind(&bench.handle(bench.answer(Outcome::Released { ack: ACK + 9 })));
    assert_eq!(
        (header.requests, header.bodiless),
        (1, 1),
        "counted from the bind"
    );
}

#[test]
fn a_fin_reaches_the_server_with_the_last_byte() {
    let mut bench = expected();
    let both = [get("/1"), get("/2")].concat();
    let segment = bench.segment(FIRST, &both);
    let first = bench.handle(later(Segment {
        flags: segment.flags | Flags::FIN,
        ..segment
    }));
    assert!(!only_bind(&first).1.flags.contains(Flags::FIN));
    let second = bench.handle(bench.answer(Outcome::Released { ack: ACK + 9 }));
    assert!(only_bind(&second).1.flags.contains(Flags::FIN));
}

#[test]
fn a_fin_alone_goes_where_the_request_before_it_goes() {
    let mut bench = expected();
    bench.send(FIRST, &get("/1"));
    bench.confirm();
    let boundary = bench.entry().boundary;
    bench.send(boundary, &get("/2"));
    let fin = |seq| Segment {
        flags: Flags::ACK | Flags::FIN,
        ..bench.segment(seq, b"")
    };
    let (behind, at) = (fin(boundary + 28), fin(boundary));
    assert_eq!(brief(&bench.handle(later(behind))), "", "it waits");
    let moved = bench.handle(bench.answer(Outcome::Released { ack: ACK + 9 }));
    assert!(only_bind(&moved).1.flags.contains(Flags::FIN));
    assert!(matches!(
        bench.handle(later(at))[..],
        [Action::Bind { .. } | Action::Forward { .. }]
    ));
}

#[test]
fn a_head_in_pieces_in_any_order() {
    let mut bench = expected();
    let request = post("/1", b"body");
    assert_eq!(brief(&bench.send(FIRST + 20, &request[20..30])), "");
    assert_eq!(brief(&bench.send(FIRST + 40, &request[40..])), "");
    assert_eq!(brief(&bench.send(FIRST, &request[..25])), "");
    let (_, segment) = only_bind(&bench.send(FIRST + 28, &request[28..42]));
    assert_eq!(segment.payload, request);
    assert_eq!((bench.owner.held_bytes(), bench.owner.pending()), (0, 0));
}

#[test]
fn body_bytes_behind_a_hole_go_along() {
    let mut bench = expected();
    let request = post("/1", &[b'x'; 100]);
    let end = request.len() as u32;
    bench.send(
        FIRST + end - 10,
        &[&request[request.len() - 10..], b"GET /2"].concat(),
    );
    let actions = bench.send(FIRST, &request[..request.len() - 50]);
    let found: Vec<_> = binds(&actions)
        .iter()
        .map(|(_, s)| (s.seq - FIRST, s.payload.len()))
        .collect();
    assert_eq!(found, [(0, request.len() - 50), (end as i32 - 10, 10)]);
    assert_eq!(bench.entry().header_end, bench.entry().boundary);
    assert_eq!(
        bench.owner.held_bytes(),
        256 + 6,
        "the next request's beginning is kept"
    );
}

#[test]
fn only_bytes_at_the_boundary_are_parsed() {
    let mut bench = expected();
    let upload = post("/1", &get("/2"));
    bench.send(FIRST, &upload[..upload.len() - get("/2").len()]);
    bench.confirm();
    let boundary = bench.entry().boundary;
    let body = bench.send(boundary - get("/2").len() as u32, &get("/2"));
    assert_eq!(
        brief(&body),
        format!(
            "forward 1 {}..{}",
            boundary - get("/2").len() as u32 - FIRST,
            boundary - FIRST
        )
    );
    let asked = bench.decide.asked;
    bench.send(boundary + 1, &get("/2"));
    assert_eq!(
        bench.decide.asked, asked,
        "a request behind a hole is no request yet"
    );
}

#[test]
fn a_body_without_known_end_pins_the_flow() {
    let huge = format!(
        "PUT /1 HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        1u64 << 30
    );
    let tunnel = "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    for head in [
        huge.as_str(),
        tunnel,
        "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
    ] {
        let mut bench = expected();
        let all = [head.as_bytes(), b"abc"].concat();
        let actions = bench.send(FIRST, &all);
        if head.starts_with("CONNECT") {
            assert_eq!(
                brief(&actions),
                "+to_relay, bind relay 0..38, put relay pinned"
            );
            continue;
        }
        let (header, segment) = only_bind(&actions);
        assert!(header.pinned && bench.entry().pinned);
        assert_eq!(segment.payload, all, "what follows the head goes along");
    }
}

#[test]
fn a_long_body_is_followed() {
    let mut bench = expected();
    let head = format!(
        "PUT /1 HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        (1u32 << 30) - 1000
    );
    bench.send(FIRST, head.as_bytes());
    assert!(!bench.entry().pinned);
    assert_eq!(
        bench.entry().boundary,
        FIRST + head.len() as u32 + (1 << 30) - 1000
    );
}

#[test]
fn port_reuse() {
    let mut bench = expected();
    bench.send(FIRST, &get("/1"));
    bench.confirm();
    let old = bench.entry();
    let anew = Segment {
        ack: Seq(5),
        ..bench.segment(Seq(9), &get("/1"))
    };
    let actions = bench.handle(fresh(anew.clone()));
    let Action::Release { request, .. } = &actions[1] else {
        panic!("{}", brief(&actions))
    };
    assert_eq!(
        (request.epoch, request.seq, request.force),
        (old.epoch, old.bind_seq, true)
    );
    assert_eq!(
        bench.entry().epoch,
        old.epoch + 1,
        "the clock stands still in this test"
    );
    assert_eq!(
        (bench.entry().bind_seq, bench.entry().bind_ack),
        (Seq(9), Seq(5))
    );
    let again = bench.handle(fresh(anew.clone()));
    assert_eq!(
        brief(&again).split(',').next(),
        Some("+sent_again"),
        "the same first segment again begins nothing"
    );

    bench.entry_mut().closing = true;
    let third = Segment {
        seq: Seq(1 << 20),
        ..anew
    };
    assert!(
        !brief(&bench.handle(fresh(third))).contains("force"),
        "it has closed: nothing to remove"
    );
}

#[test]
fn epochs_grow_also_when_the_clock_does_not() {
    let mut entry = expected().entry();
    assert_eq!(entry.next_epoch(0), 1, "0 says: never bound");
    assert_eq!(entry.next_epoch(0xffff_fff0), 0xffff_fff0);
    entry.epoch = 0xffff_fff0;
    assert_eq!(entry.next_epoch(0xffff_ffe0), 0xffff_fff1);
    assert_eq!(entry.next_epoch(5), 5, "the clock wraps");
}

#[test]
fn no_acknowledgement_confirms_a_stay() {
    let mut bench = expected();
    bench.send(FIRST, &get("/1"));
    bench.confirm();
    let boundary = bench.entry().boundary;
    bench.send(boundary, &get("/1"));
    let entry = bench.entry();
    assert!(!entry.confirmed && entry.unconfirmed == boundary);
    let far = entry.newest_ack + (1 << 30);
    assert!(
        entry.header_ack.after(far),
        "answers to earlier requests may still be on their way"
    );
    let (header, _) = only_bind(&bench.send(boundary, &get("/1")));
    assert_eq!(header.requests, 2, "sent again with its header");
}

#[test]
fn only_a_late_unknown_is_believed() {
    let mut bench = expected();
    bench.send(FIRST, &get("/1"));
    bench.confirm();
    let unknown = bench.notice(What::Unknown);
    assert_eq!(
        brief(&bench.handle(unknown.clone())),
        "+stale",
        "it may be about a segment that overtook the bind"
    );
    bench.now.clock_ms += 1000;
    assert!(brief(&bench.handle(unknown)).starts_with("+unknown_flow, +reset"));
}

#[test]
fn a_fin_that_goes_with_its_request_is_an_end() {
    let mut bench = expected();
    let segment = bench.segment(FIRST, &get("/1"));
    bench.handle(later(Segment {
        flags: segment.flags | Flags::FIN,
        ..segment
    }));
    assert!(bench.entry().closing, "the kernel does not see it pass");
    let mut bench = expected();
    bench.send(FIRST, &get("/1"));
    assert!(!bench.entry().closing);
}

#[test]
fn what_was_reset_is_over_until_the_client_begins_anew() {
    let mut bench = expected();
    bench.send(FIRST, &get("/1"));
    bench.confirm();
    bench.pass(Duration::from_secs(2));
    let told = bench.handle(bench.notice(What::Unknown));
    assert_eq!(
        brief(&told),
        "+unknown_flow, +reset, reset 100/28, put reset"
    );
    let over = bench.entry();
    assert!(over.reset && over.closing && over.bound.is_none());
    assert_eq!(over.seen, bench.now.mono, "kept as long as one that closes");
    let copy = bench.segment(FIRST, &get("/1"));
    let copy = Segment { ack: ACK, ..copy };
    assert_eq!(
        brief(&bench.handle(fresh(copy))),
        "+no_entry",
        "executed before"
    );
    let anew = bench.segment(FIRST + 9999, &get("/1"));
    bench.handle(fresh(anew));
    assert!(!bench.entry().reset && bench.entry().bound.is_some());
}

/// The request waits until the client acknowledges the answer before it, and the client has no reason to do that soon.
#[test]
fn a_client_is_hurried_once_for_each_request_that_waits() {
    let mut bench = expected();
    bench.send(FIRST, &get("/1"));
    bench.confirm();
    let mut told = bench.send(bench.entry().boundary, &get("/2"));
    for _ in 0..3 {
        told.extend(bench.handle(bench.answer(Outcome::Busy)));
        told.extend(bench.pass(Duration::from_millis(300)));
    }
    let said = |actions: &[Action]| -> Vec<Segment> {
        let said = actions.iter().filter_map(|action| match action {
            Action::Say { segment, .. } => Some(segment.clone()),
            _ => None,
        });
        said.collect()
    };
    let [segment] = &said(&told)[..] else {
        panic!("{}", brief(&told))
    };
    let entry = bench.entry();
    assert_eq!(segment.payload_end(), entry.newest_ack, "nothing new");
    assert_eq!(segment.payload.len(), 1, "Linux answers few empty ones");
    assert_eq!(segment.ack, FIRST, "what the server has is not known");
    let echoed = bench.segment(FIRST, b"").timestamps.unwrap().echo;
    assert!(
        Seq(segment.timestamps.unwrap().value).at_or_before(Seq(echoed)),
        "no newer than the client has seen: its server's may be older than now"
    );

    bench.handle(bench.answer(Outcome::Released {
        ack: entry.newest_ack,
    }));
    bench.confirm();
    bench.send(bench.entry().boundary, &get("/1"));
    let again = bench.handle(bench.answer(Outcome::Busy));
    assert_eq!(said(&again).len(), 1, "{}", brief(&again));
}
