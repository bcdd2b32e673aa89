//! What another proxy may have decided is asked of those that serve flows, before anything is decided about it.

use baton_wire::{Ask, Fate, Known, Scales};

use super::*;
use crate::PeerId;

const NEW_TERM: u32 = TERM + 5000;
const ONE: Target = Target::Server(ServerId(1));
const TWO: Target = Target::Server(ServerId(2));
const THREE: Target = Target::Server(ServerId(3));

/// Three agents, and this proxy has just begun.
fn anew(mut bench: Bench) -> Bench {
    bench.decide.holders = vec![ONE, TWO, THREE];
    bench.owner = Owner::new(limits(), View::alone(NEW_TERM));
    bench
}

/// A flow that server 1 has, with one answer acknowledged.
fn served() -> Bench {
    let mut bench = expected();
    bench.send(FIRST, &get("/1"));
    bench.confirm();
    bench
}

fn known(bench: &Bench) -> Known {
    let entry = bench.entry();
    Known {
        timestamps: true,
        sack: true,
        scales: Some(Scales {
            client: 7,
            server: PROMISED_WSCALE,
        }),
        pinned: entry.pinned,
        mss: 1460,
        epoch: entry.epoch,
        seq: entry.bind_seq,
        ack: entry.bind_ack,
        boundary: entry.boundary,
        requests: entry.requests,
        bodiless: entry.bodiless,
        next: entry.newest_ack,
    }
}

fn asked(actions: &[Action]) -> Vec<(Target, Ask)> {
    let ask = |action: &Action| match action {
        Action::Ask { to, ask } => Some((*to, *ask)),
        _ => None,
    };
    actions.iter().filter_map(ask).collect()
}

/// All that were asked answer.
fn say(bench: &mut Bench, asked: &[(Target, Ask)], fate: impl Fn(Target) -> Fate) -> Vec<Action> {
    let mut all = Vec::new();
    for (from, ask) in asked {
        let truth = ask.answer(fate(*from));
        all.extend(bench.handle(Event::Truth { from: *from, truth }));
    }
    all
}

fn only(holder: Target, fate: Fate) -> impl Fn(Target) -> Fate {
    move |from| if from == holder { fate } else { Fate::Unknown }
}

#[test]
fn the_server_that_has_the_flow_is_asked_before_its_next_request() {
    let mut bench = anew(served());
    let next = bench.entry().boundary;
    let actions = bench.send(next, &get("/1"));
    assert_eq!(brief(&actions), "+asked, ask about it 1");
    let known = known(&bench);
    let actions = say(&mut bench, &asked(&actions), only(ONE, Fate::Held(known)));
    assert_eq!(
        brief(&actions),
        "+confirmed, put 1<28 #1, +stay, put 1<56 #2, bind 1 28..56"
    );
    assert_eq!(bench.entry().term, NEW_TERM);
    // And then no more.
    bench.confirm();
    let actions = bench.send(next + 28, &get("/1"));
    assert_eq!(brief(&actions), "+stay, put 1<84 #3, bind 1 56..84");
}

#[test]
fn who_does_not_answer_is_asked_again_and_given_up_after_a_while() {
    let mut bench = anew(served());
    let actions = bench.send(bench.entry().boundary, &get("/1"));
    assert_eq!(asked(&actions).len(), 1);
    let actions = bench.pass(Duration::from_millis(150));
    assert_eq!(asked(&actions), [asked(&actions)[0]; 3]);
    bench.pass(Duration::from_secs(4));
    assert_eq!(bench.owner.pending(), 0);
    assert_eq!(bench.owner.held_bytes(), 0);
}

#[test]
fn one_that_is_out_is_not_waited_for() {
    let mut bench = anew(served());
    let actions = bench.send(bench.entry().boundary, &get("/1"));
    assert_eq!(asked(&actions).len(), 1);
    bench.decide.out.push(ServerId(1));
    bench.decide.holders.remove(0);
    let actions = bench.pass(Duration::from_millis(20));
    let all = asked(&actions);
    assert_eq!(
        all.iter().map(|(to, _)| *to).collect::<Vec<_>>(),
        [TWO, THREE]
    );
    // Nobody has it: what its server had is lost.
    let actions = say(&mut bench, &all, |_| Fate::Unknown);
    assert!(
        brief(&actions).contains("+server_lost"),
        "{}",
        brief(&actions)
    );
}

#[test]
fn a_later_request_that_is_known_there_counts() {
    let mut bench = anew(served());
    let truth = Known {
        boundary: bench.entry().boundary + 28,
        requests: 2,
        ..known(&bench)
    };
    // It comes again, for its first copy was served through another proxy.
    let actions = bench.send(bench.entry().boundary, &get("/2"));
    let actions = say(&mut bench, &asked(&actions), only(ONE, Fate::Held(truth)));
    assert_eq!(brief(&actions), "+confirmed, put 1<56 #2, forward 1 28..56");
}

#[test]
fn what_was_released_goes_on_where_its_server_stopped() {
    let mut bench = anew(served());
    let entry = bench.entry();
    let truth = Known {
        next: ACK + 500,
        ..known(&bench)
    };
    let mut segment = bench.segment(entry.boundary, &get("/2"));
    segment.ack = ACK + 500;
    let actions = bench.handle(later(segment));
    let all = say(&mut bench, &asked(&actions), |_| Fate::Released(truth));
    assert_eq!(asked(&all).len(), 2, "another one may have it by now");
    let actions = say(&mut bench, &asked(&all), |_| Fate::Unknown);
    assert_eq!(
        brief(&actions),
        "+confirmed, put undecided@28, +first_bind, put 2<56 #1, learn 28, bind 2 28..56"
            .replace(", learn 28", "")
    );
    assert_eq!(bench.entry().bind_ack, ACK + 500);
    assert!(Seq(bench.entry().epoch).after(Seq(entry.epoch)));
}

#[test]
fn the_newest_bind_of_all_counts() {
    let mut bench = anew(served());
    let old = known(&bench);
    let new = Known {
        epoch: old.epoch + 7,
        seq: old.boundary,
        ack: old.next,
        boundary: old.boundary + 28,
        next: old.next + 100,
        ..old
    };
    let actions = bench.send(old.boundary, &get("/2"));
    let all = asked(&say(&mut bench, &asked(&actions), |_| Fate::Released(old)));
    let actions = say(&mut bench, &all, only(TWO, Fate::Held(new)));
    assert_eq!(brief(&actions), "+confirmed, put 2<56 #1, forward 2 28..56");
    assert_eq!(bench.entry().epoch, new.epoch);
}

#[test]
fn a_bind_that_nobody_has_is_made_again_as_it_was() {
    let mut bench = expected();
    bench.send(FIRST, &get("/1"));
    let bind = bench.entry();
    let mut bench = anew(bench);
    let actions = bench.send(FIRST, &get("/1"));
    let all = asked(&say(&mut bench, &asked(&actions), |_| Fate::Unknown));
    let actions = say(&mut bench, &all, |_| Fate::Unknown);
    assert_eq!(
        brief(&actions),
        "+confirmed, put 1<28 #1, +sent_again, bind 1 0..28"
    );
    assert_eq!(
        (bench.entry().epoch, bench.entry().bind_seq),
        (bind.epoch, bind.bind_seq)
    );
}

#[test]
fn a_flow_that_all_have_lost_is_reset() {
    let mut bench = anew(served());
    let actions = bench.send(bench.entry().boundary, &get("/1"));
    let all = asked(&say(&mut bench, &asked(&actions), |_| Fate::Unknown));
    let actions = say(&mut bench, &all, |_| Fate::Unknown);
    assert!(bench.entry().reset, "{}", brief(&actions));
}

#[test]
fn a_first_segment_from_before_asks_all() {
    let mut bench = anew(Bench::new(limits()));
    let first = Segment {
        ack: ACK,
        ..bench.segment(FIRST, &get("/1"))
    };
    let event = |segment: &Segment| Event::Segment {
        key: key(),
        vip: VIP,
        segment: segment.clone(),
        fresh: Some(options()),
        doubt: true,
    };
    let actions = bench.handle(event(&first));
    assert_eq!(asked(&actions).len(), 3);
    // Nobody has it: it is the first.
    let all = asked(&actions);
    let actions = say(&mut bench, &all, |_| Fate::Unknown);
    assert_eq!(
        brief(&actions),
        "+confirmed, put undecided@0, +first_bind, put 1<28 #1, bind 1 0..28"
    );
    let truth = known(&bench);

    // It comes again to a proxy that has no entry: it is not executed again.
    let mut bench = anew(Bench::new(limits()));
    let actions = bench.handle(event(&first));
    let all = asked(&actions);
    let actions = say(&mut bench, &all, only(ONE, Fate::Held(truth)));
    assert_eq!(brief(&actions), "+confirmed, put 1<28 #1, forward 1 0..28");

    // Nor when the connection has ended there.
    let mut bench = anew(Bench::new(limits()));
    let actions = bench.handle(event(&first));
    let all = asked(&actions);
    let actions = say(&mut bench, &all, only(ONE, Fate::Ended(truth)));
    assert_eq!(brief(&actions), "+confirmed, put 1<28 #1, forward 1 0..28");
    assert!(bench.entry().closing);

    // But a new connection on the same addresses is a new one.
    let mut bench = anew(Bench::new(limits()));
    let new = Segment {
        seq: FIRST + 0x5000_0000,
        ack: ACK + 0x6000_0000,
        ..first.clone()
    };
    let actions = bench.handle(event(&new));
    let all = asked(&actions);
    let actions = say(&mut bench, &all, only(ONE, Fate::Held(truth)));
    assert!(
        brief(&actions).contains("+reused, force 1"),
        "{}",
        brief(&actions)
    );
    assert_eq!(bench.entry().bind_seq, new.seq);
}

#[test]
fn a_flow_without_entry_is_rebuilt_from_its_agent() {
    let truth = known(&served());
    let mut bench = anew(Bench::new(limits()));
    let mut segment = bench.segment(truth.boundary, b"");
    segment.ack = truth.next;
    let actions = bench.handle(later(segment.clone()));
    assert_eq!(asked(&actions).len(), 3);
    // Meanwhile a request comes.
    let mut request = bench.segment(truth.boundary, &get("/1"));
    request.ack = truth.next;
    assert!(bench.handle(later(request)).is_empty());
    let all = asked(&actions);
    let actions = say(&mut bench, &all, only(ONE, Fate::Held(truth)));
    assert!(
        brief(&actions).ends_with("bind 1 28..56"),
        "{}",
        brief(&actions)
    );
    let entry = bench.entry();
    assert_eq!(entry.options, options());
    assert_eq!((entry.newest_ack, entry.requests), (truth.next, 2));

    // Of one that nobody knows nothing comes.
    let mut bench = anew(Bench::new(limits()));
    let actions = bench.handle(later(segment));
    let all = asked(&actions);
    let actions = say(&mut bench, &all, |_| Fate::Unknown);
    assert_eq!(brief(&actions), "+confirmed, +no_entry");
    assert!(bench.entries.0.is_empty());
}

#[test]
fn a_flow_whose_agent_was_restarted_stays_there() {
    let mut bench = anew(Bench::new(limits()));
    let segment = bench.segment(FIRST + 100, &get("/2"));
    let actions = bench.handle(later(segment));
    let all = asked(&actions);
    let actions = say(&mut bench, &all, only(TWO, Fate::Forgotten));
    assert_eq!(
        brief(&actions),
        "+confirmed, put 2 pinned, forward 2 100..128"
    );
}

#[test]
fn strangers_cannot_make_it_ask_without_end() {
    let mut bench = anew(Bench::new(limits()));
    let mut asked_about = 0;
    let mut refused = 0;
    for port in 0..20_000u16 {
        let key = FlowKey::new(
            ([192, 0, 2, 1], port).into(),
            "198.51.100.7:80".parse().unwrap(),
        );
        let segment = bench.segment(FIRST, b"");
        let actions = bench.handle(Event::Segment {
            key,
            vip: VIP,
            segment,
            fresh: None,
            doubt: false,
        });
        asked_about += usize::from(!asked(&actions).is_empty());
        refused += counts(&actions, Counter::NotAsked);
    }
    assert_eq!((asked_about, refused), (5000, 15_000));
    bench.pass(Duration::from_secs(4));
    assert_eq!(bench.owner.held_bytes(), 0);
}

#[test]
fn answers_to_other_questions_are_none() {
    let mut bench = anew(served());
    let actions = bench.send(bench.entry().boundary, &get("/1"));
    let (from, ask) = asked(&actions)[0];
    let known = known(&bench);
    let truth = Ask {
        nonce: ask.nonce ^ 1,
        ..ask
    }
    .answer(Fate::Held(known));
    let actions = bench.handle(Event::Truth { from, truth });
    assert_eq!(brief(&actions), "+stale");
}

#[test]
fn an_acknowledgement_that_cannot_be_is_asked_about() {
    let mut bench = served();
    bench.decide.holders = vec![ONE];
    let truth = Known {
        next: bench.entry().newest_ack + 3_000_000,
        ..known(&bench)
    };
    let doubtful = |bench: &Bench, ack: Seq| {
        let mut segment = bench.segment(bench.entry().boundary, &get("/1"));
        segment.ack = ack;
        Event::Segment {
            key: key(),
            vip: VIP,
            segment,
            fresh: None,
            doubt: true,
        }
    };
    // More than was sent: forged.
    let actions = bench.handle(doubtful(&bench, truth.next + 1));
    let actions = say(&mut bench, &asked(&actions), |_| Fate::Held(truth));
    assert_eq!(brief(&actions), "+confirmed, put 1<28 #1");
    let actions = bench.handle(doubtful(&bench, truth.next));
    let actions = say(&mut bench, &asked(&actions), |_| Fate::Held(truth));
    assert!(
        brief(&actions).ends_with("bind 1 28..56"),
        "{}",
        brief(&actions)
    );
    assert_eq!(bench.entry().newest_ack, truth.next);
}

#[test]
fn an_unknown_flow_of_an_older_term_is_asked_about_and_not_reset() {
    let mut bench = anew(served());
    bench.pass(Duration::from_secs(2));
    let actions = bench.handle(bench.notice(What::Unknown));
    assert_eq!(brief(&actions), "+asked, ask about it 1");
    assert!(!bench.entry().reset);
}

/// This node is the second of two, and owns nothing, or all, of what the first does not.
fn shared(is_own: bool, until: Duration) -> View {
    let owner = u8::from(is_own);
    View {
        term: NEW_TERM,
        until,
        proxies: ["10.77.0.11".parse().unwrap(), "10.77.0.12".parse().unwrap()].into(),
        own: Some(PeerId(1)),
        live: vec![PeerId(0), PeerId(1)],
        owners: vec![owner; crate::SLOTS].into(),
    }
}

#[test]
fn what_another_one_decides_is_passed_there() {
    let mut bench = served();
    bench.owner.follow(shared(false, Duration::MAX));
    let actions = bench.send(bench.entry().boundary, &get("/1"));
    assert_eq!(brief(&actions), "+passed, pass 0 28..56");
    assert_eq!(brief(&bench.handle(bench.notice(What::Unknown))), "+stale");
}

#[test]
fn who_owns_it_no_more_hands_over_what_the_client_will_not_send_again() {
    let mut bench = expected();
    bench.send(FIRST, b"GET /");
    bench.pass(limits().ack_wait);
    bench.owner.follow(shared(false, Duration::MAX));
    let actions = bench.pass(Duration::from_millis(1));
    assert_eq!(brief(&actions), "+passed, keep 0 0..5, told 5");
    assert_eq!(bench.owner.pending(), 0);
}

#[test]
fn without_a_majority_nothing_is_decided_and_nothing_forgotten() {
    let mut bench = served();
    bench.decide.holders = vec![ONE];
    let next = bench.entry().boundary;
    let actions = bench.send(next, &get("/2"));
    assert!(brief(&actions).contains("ask 1"));
    bench.owner.follow(shared(true, bench.now.mono));
    assert_eq!(brief(&bench.pass(Duration::from_secs(1))), "");
    assert_eq!(brief(&bench.send(next, &get("/2"))), "+not_deciding");
    let released = bench.answer(Outcome::Released { ack: ACK + 100 });
    assert_eq!(brief(&bench.handle(released)), "+stale");
    // Later it may decide again: it asks what has become of the flow, and goes on.
    bench.owner.follow(shared(true, Duration::MAX));
    let actions = bench.pass(Duration::from_millis(60));
    let all = asked(&actions);
    assert!(!all.is_empty());
    let known = known(&bench);
    let actions = say(&mut bench, &all[..1], only(ONE, Fate::Held(known)));
    assert!(brief(&actions).ends_with("ask 1"), "{}", brief(&actions));
}

#[test]
fn a_flow_at_another_relay_is_forwarded_there_and_reset_when_that_is_out() {
    let mut bench = served();
    let entry = bench.entry_mut();
    entry.bound = Some(Target::Peer(PeerId(0)));
    entry.pinned = true;
    bench.owner.follow(shared(true, Duration::MAX));
    let actions = bench.send(bench.entry().boundary, b"abc");
    assert_eq!(brief(&actions), "forward peer 0 28..31");
    let lost = Event::Lost {
        key: key(),
        holder: Target::Peer(PeerId(0)),
    };
    let actions = bench.handle(lost);
    assert_eq!(counts(&actions, Counter::RelayLost), 1);
    assert!(bench.entry().reset);
}
