//! A server dies: what becomes of the flows that it has.

use super::*;
use crate::unanswered::Unanswered;

const DEAD: ServerId = ServerId(1);

/// A flow that is bound to server 1 for this request, of which nothing is answered; then the server dies.
fn dead(request: &[u8]) -> Bench {
    let mut bench = expected();
    bench.send(FIRST, request);
    bench.decide.out = vec![DEAD];
    bench
}

fn lost(bench: &mut Bench) -> Vec<Action> {
    bench.handle(Event::Lost {
        key: key(),
        holder: Target::Server(DEAD),
    })
}

/// The client answers the probe: it has everything up to here.
fn client_has(bench: &mut Bench, ack: Seq) {
    bench.now.mono += Duration::from_millis(1);
    let seen = bench.now.mono;
    let entry = bench.entry_mut();
    (entry.seen, entry.newest_ack) = (seen, ack);
}

#[test]
fn a_get_without_answer_goes_to_another_server() {
    let mut bench = dead(&get("/1"));
    assert_eq!(brief(&lost(&mut bench)), "+server_lost, say -1/28");
    assert_eq!(brief(&lost(&mut bench)), "", "once");
    assert_eq!(
        brief(&bench.pass(Duration::from_millis(50))),
        "",
        "not before the client has spoken"
    );
    let epoch = bench.entry().epoch;
    client_has(&mut bench, ACK);
    assert_eq!(
        brief(&bench.pass(Duration::from_millis(150))),
        "+asked_another, put undecided@0, +first_bind, put 11<28 #1, bind 11 0..28, bind and ask 11 0..28",
        "and again, for the dead server may have acknowledged the request"
    );
    assert!(Seq(bench.entry().epoch).after(Seq(epoch)));
    // The server is heard again, and lets go before it is given anything.
    let mut out = Vec::new();
    assert!(!bench.owner.settle(DEAD, &mut out));
    assert_eq!(brief(&out), "force 1");
    let Some(Action::Release { request, .. }) = out.pop() else {
        panic!("no release")
    };
    assert_eq!(request.epoch, epoch);
    let answer = Event::Answer(request.answer(Outcome::Unknown));
    assert_eq!(brief(&bench.handle(answer)), "");
    assert!(bench.owner.settle(DEAD, &mut out));
}

/// It was asked for nothing, so it is given requests again, and answers this one.
#[test]
fn a_server_that_is_heard_again_meanwhile_keeps_the_flow() {
    let mut bench = dead(&get("/1"));
    lost(&mut bench);
    assert!(bench.owner.settle(DEAD, &mut Vec::new()));
    bench.decide.out.clear();
    client_has(&mut bench, ACK);
    assert_eq!(brief(&bench.pass(Duration::from_secs(10))), "");
    assert_eq!(bench.entry().bound, Some(Target::Server(DEAD)));
    assert_eq!(bench.owner.pending(), 0);
}

#[test]
fn what_was_answered_in_part_is_reset() {
    let mut bench = dead(&get("/1"));
    lost(&mut bench);
    client_has(&mut bench, ACK + 10);
    assert_eq!(
        brief(&bench.pass(Duration::from_millis(150))),
        "+reset, reset 10/28, put reset, say 9/28"
    );
    let mut bench = dead(&get("/1"));
    client_has(&mut bench, ACK + 10);
    assert_eq!(
        brief(&lost(&mut bench)),
        "+server_lost, +reset, reset 10/28, put reset, say 9/28"
    );
}

#[test]
fn what_must_not_be_executed_twice_is_reset() {
    for request in [post("/1", b"x"), get("/1").repeat(2).repeat(20)] {
        let is_get = request.starts_with(b"GET");
        let mut bench = dead(&request);
        let told = brief(&lost(&mut bench));
        assert_eq!(told.contains("reset"), !is_get, "{told}");
    }
}

/// What was answered before the second request may have arrived in part: nobody knows.
#[test]
fn a_request_behind_another_is_reset() {
    let mut bench = settled_at_one();
    bench.send(bench.entry().boundary, &get("/1"));
    bench.decide.out = vec![DEAD];
    let told = brief(&lost(&mut bench));
    assert!(told.contains("+reset"), "{told}");
}

#[test]
fn a_request_that_comes_while_its_server_is_out_is_reset() {
    let mut bench = settled_at_one();
    bench.decide.out = vec![DEAD];
    let told = brief(&bench.send(bench.entry().boundary, &get("/2")));
    assert!(told.starts_with("+server_lost, +reset"), "{told}");
}

#[test]
fn a_client_that_says_nothing_is_asked_again_and_given_up() {
    let mut bench = dead(&get("/1"));
    lost(&mut bench);
    let told = brief(&bench.pass(Duration::from_secs(6)));
    assert!(told.starts_with("say -1/28 x"), "{told}");
    assert!(
        told.ends_with("+reset, reset 0/28, put reset, say -1/28"),
        "{told}"
    );
}

/// Sent again before anybody has noticed that its server is dead.
#[test]
fn the_same_request_again_does_not_bring_it_to_two_servers() {
    let mut bench = dead(&get("/1"));
    let told = brief(&bench.send(FIRST, &get("/1")));
    assert_eq!(told, "+server_lost, say -1/28");
    client_has(&mut bench, ACK);
    let told = brief(&bench.pass(Duration::from_millis(90)));
    assert!(told.ends_with("bind 11 0..28"), "{told}");
}

#[test]
fn what_is_answered_is_not_kept_and_what_is_kept_has_a_bound() {
    let mut bench = dead(&get("/1"));
    assert!(bench.owner.unanswered_bytes() > 0);
    client_has(&mut bench, ACK + 10);
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.owner.unanswered_bytes(), 0);

    let max_held_bytes = 4096;
    let mut kept = Unanswered::default();
    for port in 0..100 {
        let client = std::net::SocketAddr::new([192, 0, 2, 9].into(), 1000 + port);
        let segment = bench.segment(FIRST, &get("/1"));
        let now = bench.now.mono;
        kept.remember(
            FlowKey::new(client, key().vip()),
            &bench.entry(),
            segment,
            max_held_bytes,
            now,
        );
        assert!((1..=max_held_bytes).contains(&kept.held()));
    }
}

/// A flow that the kernel has bound to server 1 by itself, for this request; then the server dies.
fn dead_and_known(request: &[u8]) -> Bench {
    const KNOWN: u64 = 9;
    let mut bench = dead(request);
    bench.owner = Owner::new(limits(), View::alone(TERM));
    let clock = bench.now.clock_ms;
    bench.entry_mut().known = KNOWN;
    bench.entry_mut().newest_tsval = clock;
    let request = Bytes::copy_from_slice(request);
    bench.entries.1.insert(KNOWN, request);
    bench
}

#[test]
fn a_get_that_the_kernel_bound_goes_to_another_server() {
    let mut bench = dead_and_known(&get("/1"));
    assert_eq!(brief(&lost(&mut bench)), "+server_lost, say -1/28");
    client_has(&mut bench, ACK);
    bench.entry_mut().newest_tsval += 7;
    bench.entry_mut().window = 499;
    let told = bench.pass(Duration::from_millis(50));
    assert_eq!(
        brief(&told),
        "+asked_another, put undecided@0, +first_bind, put 11<28 #1, bind 11 0..28"
    );
    let bind = told.iter().find_map(|action| match action {
        Action::Bind {
            header, segment, ..
        } => Some((header, segment)),
        _ => None,
    });
    let (header, segment) = bind.unwrap();
    assert_eq!((segment.seq, segment.ack), (FIRST, ACK));
    assert_eq!(segment.payload, get("/1"));
    assert_eq!(segment.window, 499);
    let timestamps = segment.timestamps.unwrap();
    assert_eq!(timestamps.value, bench.entry().newest_tsval);
    assert_eq!(
        header.clock.wrapping_sub(timestamps.echo),
        333,
        "nothing is known of the round trip"
    );
}

#[test]
fn what_the_kernel_bound_is_reset_if_it_cannot_be_asked_again() {
    let changes: [fn(&mut Bench); 4] = [
        |bench| bench.entry_mut().requests = 2,
        |bench| bench.entry_mut().newest_ack += 10,
        |bench| bench.entries.1.clear(),
        |bench| bench.entry_mut().boundary += 1,
    ];
    for change in changes {
        let mut bench = dead_and_known(&get("/1"));
        change(&mut bench);
        let told = brief(&lost(&mut bench));
        assert!(told.starts_with("+server_lost, +reset"), "{told}");
    }
    let told = brief(&lost(&mut dead_and_known(&post("/1", b"x"))));
    assert!(told.starts_with("+server_lost, +reset"), "{told}");
}

fn settled_at_one() -> Bench {
    let mut bench = expected();
    bench.send(FIRST, &get("/1"));
    bench.confirm();
    bench
}
