//! Every (state, event) pair, against `pairs.txt`.

use std::time::Duration;

use super::*;

type State = (&'static str, fn() -> Bench);
type Happening = (&'static str, fn(&mut Bench) -> Vec<Action>);

#[test]
fn every_state_and_event() {
    let mut found = String::new();
    for (state, bench) in STATES {
        found += &format!("\n{state}\n");
        for (event, happen) in EVENTS {
            let mut bench = bench();
            let actions = happen(&mut bench);
            let held = match bench.owner.held_bytes() {
                0 => String::new(),
                cost => format!(" [holds {}]", cost - 256),
            };
            found += format!("  {event}: {}{held}", brief(&actions)).trim_end();
            found += "\n";
        }
    }
    let expected = include_str!("pairs.txt");
    assert_eq!(
        expected.trim().lines().count(),
        found.trim().lines().count()
    );
    for (found, expected) in found.trim().lines().zip(expected.trim().lines()) {
        assert_eq!(found, expected);
    }
}

/// Every request of these tests is so long, and its first 5 bytes are the same.
const LENGTH: u32 = 28;

const STATES: &[State] = &[
    ("no entry", || Bench::new(limits())),
    ("expected: the kernel has made an entry", expected),
    ("collecting: half a first head", || {
        let mut bench = expected();
        bench.send(FIRST, b"GET /");
        bench
    }),
    ("acknowledged: half a first head", acknowledged),
    ("bound: not confirmed", bound),
    ("owed: bound, half of the request acknowledged", || {
        let mut bench = acknowledged();
        bench.send(FIRST + 5, &get("/1")[5..]);
        bench
    }),
    ("settled: bound and confirmed", settled),
    ("next begun: settled, half a head", || {
        let mut bench = settled();
        bench.send(bench.entry().boundary, b"GET /");
        bench
    }),
    ("next acknowledged: settled, half a head", || {
        next_acknowledged()
    }),
    ("stay owed: half of the second request acknowledged", || {
        let mut bench = next_acknowledged();
        bench.send(bench.entry().boundary + 5, &get("/1")[5..]);
        bench
    }),
    ("moving: settled, a request for another server", moving),
    ("moving owed: half of the request acknowledged", || {
        let mut bench = next_acknowledged();
        bench.send(bench.entry().boundary + 5, &get("/2")[5..]);
        bench
    }),
    ("waiting: the server was busy", || {
        let mut bench = moving();
        bench.handle(bench.answer(Outcome::Busy));
        bench
    }),
    (
        "impatient: a request for another server behind one that is not confirmed",
        || {
            let mut bench = bound();
            bench.send(bench.entry().boundary, &get("/2"));
            bench
        },
    ),
    ("pinned: settled, a chunked upload", || {
        let mut bench = expected();
        bench.send(
            FIRST,
            b"PUT /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        bench.confirm();
        bench
    }),
    ("relayed: settled", || {
        let mut bench = expected();
        bench.send(FIRST, &get("/r"));
        bench.confirm();
        bench
    }),
    ("refused: one server could not take it", || {
        let mut bench = bound();
        bench.handle(bench.notice(What::Refused { reason: 1 }));
        bench
    }),
    ("reset: the server did not know the flow", || {
        let mut bench = settled();
        bench.pass(Duration::from_secs(2));
        bench.handle(bench.notice(What::Unknown));
        assert!(bench.entry().reset);
        bench
    }),
];

fn bound() -> Bench {
    let mut bench = expected();
    bench.send(FIRST, &get("/1"));
    bench
}

fn acknowledged() -> Bench {
    let mut bench = expected();
    bench.send(FIRST, b"GET /");
    bench.pass(limits().ack_wait);
    bench
}

fn next_acknowledged() -> Bench {
    let mut bench = settled();
    bench.send(bench.entry().boundary, b"GET /");
    bench.pass(limits().ack_wait);
    noticed(&mut bench, What::Taken);
    bench
}

fn settled() -> Bench {
    let mut bench = bound();
    bench.confirm();
    bench
}

fn moving() -> Bench {
    let mut bench = settled();
    bench.send(bench.entry().boundary, &get("/2"));
    bench
}

const EVENTS: &[Happening] = &[
    ("first segment", |bench| {
        let segment = bench.segment(FIRST, &get("/1"));
        bench.handle(fresh(Segment {
            ack: ACK,
            ..segment
        }))
    }),
    ("first segment of a new connection", |bench| {
        let segment = bench.segment(FIRST + 1_000_000, &get("/3"));
        bench.handle(fresh(Segment {
            ack: ACK + 5_000_000,
            ..segment
        }))
    }),
    ("request for server 1", |bench| {
        at_next(bench, 0, &get("/1"))
    }),
    ("request for server 2", |bench| {
        at_next(bench, 0, &get("/2"))
    }),
    ("request for the relay", |bench| {
        at_next(bench, 0, &get("/r"))
    }),
    ("two requests for 1, one for 2", |bench| {
        at_next(bench, 0, &[get("/1"), get("/1"), get("/2")].concat())
    }),
    ("no request", |bench| at_next(bench, 0, b"\x16\x03\x01")),
    ("half a head", |bench| at_next(bench, 0, b"GET /")),
    ("bytes behind a hole", |bench| at_next(bench, 100, b"abc")),
    ("bytes from before", |bench| bench.send(FIRST - 1, b"?GET")),
    ("from before into a request for 2", |bench| {
        at_next(bench, -2, &[b"\r\n".to_vec(), get("/2")].concat())
    }),
    ("reset with payload", |bench| {
        let segment = bench.segment(FIRST, b"abc");
        bench.handle(later(Segment {
            flags: Flags::RST | Flags::ACK,
            ..segment
        }))
    }),
    ("answer released", |bench| {
        answered(bench, Outcome::Released { ack: ACK + 100 })
    }),
    ("answer busy", |bench| answered(bench, Outcome::Busy)),
    ("answer closed", |bench| answered(bench, Outcome::Closed)),
    ("answer unknown", |bench| answered(bench, Outcome::Unknown)),
    ("answer unknown, and again", |bench| {
        let mut actions = answered(bench, Outcome::Unknown);
        actions.extend(bench.pass(Duration::from_millis(260)));
        if !bench.entries.0.is_empty() {
            actions.extend(answered(bench, Outcome::Unknown));
        }
        actions
    }),
    (
        "answer about an older bind",
        |bench| match event_about_this(bench, |bench| bench.answer(Outcome::Unknown)) {
            Event::Answer(answer) => bench.handle(Event::Answer(ReleaseAnswer {
                epoch: answer.epoch.wrapping_sub(1),
                ..answer
            })),
            _ => unreachable!(),
        },
    ),
    (
        "answer about another boundary",
        |bench| match event_about_this(bench, |bench| bench.answer(Outcome::Unknown)) {
            Event::Answer(answer) => bench.handle(Event::Answer(ReleaseAnswer {
                boundary: answer.boundary - LENGTH,
                ..answer
            })),
            _ => unreachable!(),
        },
    ),
    ("notice ready", |bench| noticed(bench, What::Ready)),
    ("notice gone", |bench| noticed(bench, What::Gone)),
    ("notice refused", |bench| {
        noticed(bench, What::Refused { reason: 1 })
    }),
    ("notice unknown", |bench| noticed(bench, What::Unknown)),
    ("notice taken", |bench| noticed(bench, What::Taken)),
    (
        "notice taken, but for a byte",
        |bench| match event_about_this(bench, |bench| bench.notice(What::Taken)) {
            Event::Notice(notice) => bench.handle(Event::Notice(Notice {
                ack: notice.ack - 1,
                ..notice
            })),
            _ => unreachable!(),
        },
    ),
    ("the rest of a request for 1", |bench| {
        at_next(bench, 5, &get("/1")[5..])
    }),
    (
        "notice about an older bind",
        |bench| match event_about_this(bench, |bench| bench.notice(What::Gone)) {
            Event::Notice(notice) => bench.handle(Event::Notice(Notice {
                epoch: notice.epoch.wrapping_sub(1),
                ..notice
            })),
            _ => unreachable!(),
        },
    ),
    ("30 ms", |bench| bench.pass(Duration::from_millis(30))),
    ("4 s", |bench| bench.pass(Duration::from_secs(4))),
    ("61 s", |bench| bench.pass(Duration::from_secs(61))),
    ("entry lost, 61 s", |bench| {
        bench.entries.0.clear();
        bench.pass(Duration::from_secs(61))
    }),
];

/// A segment so far from where the next request begins.
fn at_next(bench: &mut Bench, distance: i32, payload: &[u8]) -> Vec<Action> {
    let next = bench
        .entries
        .0
        .get(&key())
        .map_or(FIRST, Entry::next_request);
    bench.send(next + distance as u32, payload)
}

fn answered(bench: &mut Bench, outcome: Outcome) -> Vec<Action> {
    let event = event_about_this(bench, |bench| bench.answer(outcome));
    bench.handle(event)
}

fn noticed(bench: &mut Bench, what: What) -> Vec<Action> {
    let event = event_about_this(bench, |bench| bench.notice(what));
    bench.handle(event)
}

/// An event that names the entry's bind; without entry one that names some bind.
fn event_about_this(bench: &mut Bench, event: impl Fn(&Bench) -> Event) -> Event {
    if bench.entries.0.is_empty() {
        event(&settled())
    } else {
        event(bench)
    }
}
