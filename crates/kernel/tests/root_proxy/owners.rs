//! Several proxies: who decides, what is passed to whom, and what a new term leaves open. `FlowKey`s are spread over slots as `baton-flow` does it.

use super::*;
use baton_kernel::abi::SLOTS;
use baton_kernel::{Changed, Known, Pool, View};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::hash::Hasher;
use std::time::{Duration, Instant};

const OWN: u8 = 1;
const OTHER: u8 = 2;
const GREETING: usize = 8;

/// As `slot` in crates/flow/src/ownership.rs.
fn slot(key: &FlowKey) -> usize {
    let mut hasher = siphasher::sip::SipHasher24::new();
    hasher.write(&key.to_bytes());
    hasher.write(&[0; 4]);
    hasher.finish() as usize % SLOTS
}

struct Cluster {
    bench: Bench,
    view: View,
    changes: Events<Changed>,
    seen: Membership,
}

impl Cluster {
    /// All slots are this proxy's.
    fn new() -> Cluster {
        Cluster::of(Bench::new())
    }

    fn of(bench: Bench) -> Cluster {
        let seen = Membership {
            decide_until: Duration::MAX,
            term: before_all(300),
            own: OWN,
            ready: true,
            other: None,
            count: 2,
            owners: vec![OWN; SLOTS],
        };
        let mut view = bench.proxy.view().unwrap();
        view.show(&seen).unwrap();
        let peer = |last: u8, via| Server {
            address: [10, 77, 0, last].into(),
            source: at("10.77.0.11:1").ip(),
            ifindex: 1,
            via,
        };
        bench
            .proxy
            .set_peer(OTHER, Some(peer(12, Via::Neighbour)))
            .unwrap();
        bench.proxy.set_peer(3, Some(peer(13, Via::Udp))).unwrap();
        Cluster {
            changes: bench.proxy.changes().unwrap().open().unwrap(),
            bench,
            view,
            seen,
        }
    }

    fn show(&mut self, change: impl FnOnce(&mut Membership)) {
        change(&mut self.seen);
        self.view.show(&self.seen).unwrap();
    }

    fn give_away(&mut self) {
        self.show(|seen| seen.owners = vec![OTHER; SLOTS]);
    }

    fn changed(&self) -> Vec<FlowKey> {
        let mut changed = Vec::new();
        self.changes.drain(&mut changed);
        changed.into_iter().map(|Changed(key)| key).collect()
    }

    /// The frame was passed on: to whom, how often in all, and the packet.
    fn passed(&mut self, frame: &[u8]) -> (u8, u8, Vec<u8>) {
        let (verdict, after, moved, punts) = self.bench.run(frame);
        assert_eq!((verdict, punts.len()), (REDIRECT, 0), "{moved:?}");
        assert!(moved[0].starts_with("forwarded/to_"), "{moved:?}");
        let message = &after[14 + 20 + 8..];
        assert_eq!(
            (&after[23..24], &message[..4], &message[5..GREETING]),
            (&[17][..], &b"BT\x01\x07"[..], &[0; 3][..])
        );
        assert_eq!(after[36..38], 6950u16.to_be_bytes());
        (after[33], message[4], message[GREETING..].to_vec())
    }
}

/// What another proxy passed on.
fn pass(packet: &[u8], hops: u8) -> Vec<u8> {
    let message = [&b"BT\x01\x07"[..], &[hops, 0, 0, 0], packet].concat();
    udp_frame("10.77.0.12:50000", "10.77.0.21:6950", &message)
}

#[test]
fn a_slot_is_the_same_in_c_and_in_rust() {
    let mut cluster = Cluster::new();
    for n in 0..200u16 {
        let (client, vip) = [(CLIENT, VIP), (CLIENT6, VIP6)][usize::from(n % 2)];
        let mut from = at(client);
        from.set_port(1000 + 317 * n);
        let packet = Tcp {
            seq: 5,
            ack: Some(9),
            payload: vec![1; 3],
            ..Tcp::new(&from.to_string(), vip)
        };
        let mine = slot(&FlowKey::new(from, at(vip)));
        cluster.show(|seen| {
            seen.owners = vec![OTHER; SLOTS];
            seen.owners[mine] = OWN;
        });
        cluster.bench.run(&data(1, 1).frame()); // another flow in between
        let moved = cluster.bench.verdict(&packet.frame()).1;
        assert!(
            moved == "punted/no_flow" || moved == "dropped/bad_cookie",
            "{from}: {moved}"
        );
    }
}

#[test]
fn what_another_owns_is_passed_to_it_unchanged() {
    let mut cluster = Cluster::new();
    let key = cluster.bench.bind(bound(2000));
    let request = cluster.bench.shake(&Tcp::syn("10.77.0.1:40001", VIP));
    cluster.give_away();
    let pending = flow_entry {
        state: flow_state::PENDING,
        ..bound(2000)
    };
    let unconfirmed = flow_entry {
        flags: 0,
        unconfirmed: 1000,
        header_end: 2000,
        ..bound(2000)
    };
    let fin = Tcp {
        flags: "F",
        ..data(2001, 0)
    };
    let strange = |flags| Tcp {
        flags,
        ..Tcp::new("10.77.0.1:40002", VIP)
    };
    let acknowledgement = Tcp {
        ack: Some(7),
        ..strange("")
    };
    for (entry, packet) in [
        (bound(2000), data(2000, 10)),
        (bound(2000), data(1990, 20)),
        (bound(2000), fin),
        (pending, data(2000, 10)),
        (unconfirmed, data(1500, 10)),
        (bound(2000), request),
        (bound(2000), acknowledgement),
        (bound(2000), strange("R")),
    ] {
        cluster.bench.proxy.flows().put(&key, &entry).unwrap();
        let ip = packet.ip();
        assert_eq!(cluster.passed(&packet.frame()), (12, 1, ip), "{packet:?}");
    }
    // What needs no decision goes on from here.
    cluster.bench.bind(bound(2000));
    for packet in [data(1000, 1000), data(2000, 0)] {
        assert_eq!(
            cluster.bench.verdict(&packet.frame()),
            (REDIRECT, "forwarded/bound".into())
        );
    }
}

#[test]
fn what_is_passed_to_the_owner_is_as_if_it_had_come_here() {
    let mut cluster = Cluster::new();
    let packet = data(2000, 10);
    let key = cluster.bench.bind(bound(2000));
    for hops in [0, 1, 2] {
        let (_, _, moved, punts) = cluster.bench.run(&pass(&packet.ip(), hops));
        assert_eq!(moved, ["punted/boundary"]);
        assert_eq!((punts[0].key, &punts[0].packet), (key, &packet.ip()));
    }
    let below = data(1000, 10);
    let (verdict, after, moved, _) = cluster.bench.run(&pass(&below.ip(), 1));
    assert_eq!(
        (verdict, moved),
        (REDIRECT, vec!["forwarded/bound".to_string()])
    );
    assert_eq!(after[14..], below.ip(), "decapsulated");
    let request = cluster.bench.shake(&Tcp::syn(CLIENT6, VIP6));
    let (_, _, moved, punts) = cluster.bench.run(&pass(&request.ip(), 1));
    assert_eq!(moved, ["punted/first_request"]);
    assert!(punts[0].fresh.is_some() && !punts[0].doubt);
}

#[test]
fn nothing_is_passed_on_for_ever() {
    let mut cluster = Cluster::new();
    cluster.bench.bind(bound(2000));
    cluster.give_away();
    let packet = data(2000, 10).ip();
    assert_eq!(cluster.passed(&pass(&packet, 1)), (12, 2, packet.clone()));
    assert_eq!(
        cluster.bench.verdict(&pass(&packet, 2)),
        dropped("passed_on_too_often")
    );
}

#[test]
fn only_packets_to_vips_are_taken_from_others() {
    let mut cluster = Cluster::new();
    let elsewhere = Tcp::new(CLIENT, "10.77.0.99:80").ip();
    assert_eq!(
        cluster.bench.verdict(&pass(&elsewhere, 1)),
        dropped("malformed")
    );
    let message = |hops| pass(&data(2000, 10).ip(), hops);
    for other in [
        message(3),
        udp_frame("10.77.0.12:1", "10.77.0.21:6951", &message(1)[42..]),
        udp_frame("10.77.0.12:1", "10.77.0.22:6950", &message(1)[42..]),
        udp_frame("10.77.0.12:1", "10.77.0.21:6950", b"BT\x01\x07\x01"),
    ] {
        let (verdict, after, moved, _) = cluster.bench.run(&other);
        assert_eq!((verdict, moved, after), (NEXT, vec![], other));
    }
}

#[test]
fn a_flow_of_another_proxys_relay_goes_there() {
    let mut cluster = Cluster::new();
    cluster.bench.bind(flow_entry {
        flags: flow_flags::ELSEWHERE | flow_flags::PINNED,
        server: 3,
        ..bound(0)
    });
    for packet in [data(2000, 10), data(2000, 0)] {
        assert_eq!(cluster.passed(&packet.frame()), (13, 1, packet.ip()));
    }
}

#[test]
fn who_has_no_lease_forwards_and_decides_nothing() {
    let mut cluster = Cluster::new();
    cluster.bench.bind(bound(2000));
    let request = cluster.bench.shake(&Tcp::syn("10.77.0.1:40001", VIP));
    for count in [1, 2] {
        cluster.show(|seen| (seen.decide_until, seen.count) = (Duration::from_secs(1), count));
        for packet in [&data(2000, 10), &request] {
            assert_eq!(
                cluster.bench.verdict(&packet.frame()),
                dropped("no_majority")
            );
        }
        assert_eq!(
            cluster.bench.verdict(&data(1000, 10).frame()).1,
            "forwarded/bound"
        );
    }
}

#[test]
fn who_may_not_decide_any_more_hands_all_decisions_to_another() {
    let mut cluster = Cluster::new();
    cluster.bench.bind(bound(2000));
    cluster.show(|seen| seen.other = Some(OTHER));
    let moved = cluster.bench.verdict(&data(2000, 10).frame()).1;
    assert_eq!(moved, "punted/boundary", "its own, as long as it may");
    cluster.show(|seen| seen.decide_until = Duration::from_secs(1));
    let packet = data(2000, 10);
    assert_eq!(cluster.passed(&packet.frame()), (12, 1, packet.ip()));
}

#[test]
fn who_has_just_begun_shakes_no_hands() {
    let mut cluster = Cluster::new();
    cluster.show(|seen| seen.ready = false);
    let syn = Tcp::syn(CLIENT, VIP);
    assert_eq!(cluster.bench.verdict(&syn.frame()), dropped("no_majority"));
    cluster.show(|seen| seen.ready = true);
    cluster.bench.shake(&syn);
}

#[test]
fn a_first_segment_whose_handshake_is_older_than_the_term_is_doubtful() {
    for timestamps in [true, false] {
        let mut cluster = Cluster::new();
        let syn = |port: u16| {
            let mut syn = Tcp::syn(&format!("10.77.0.1:{port}"), VIP);
            syn.options
                .retain(|option| timestamps || !matches!(option, Opt::Timestamp(..)));
            syn
        };
        let [young, old] = [50001, 50002].map(|port| cluster.bench.shake(&syn(port)));
        let doubts = |cluster: &mut Cluster, packet: &Tcp| {
            let (_, _, moved, punts) = cluster.bench.run(&packet.frame());
            assert_eq!(moved, ["punted/first_request"]);
            let entry = cluster.bench.proxy.flows().entry(&punts[0].key).unwrap();
            assert_eq!(entry.term == cluster.seen.term, !punts[0].doubt);
            punts[0].doubt
        };
        assert!(!doubts(&mut cluster, &young));
        cluster.show(|seen| seen.term = before_all(0).wrapping_add(5));
        assert!(doubts(&mut cluster, &old));
    }
}

#[test]
fn the_kernel_decides_only_in_the_term_and_tells_what_changed() {
    let mut bench = Bench::with(Sizes {
        known_requests: 16,
        ..sizes(1024)
    });
    let mut known: Known = bench.proxy.known().unwrap();
    let mut cluster = Cluster::of(bench);
    let pool = Pool {
        members: vec![0],
        deck: vec![0; 8],
    };
    known.renew(&[pool]).unwrap();
    let request = data(2000, 10);
    let hash = known.hash(&request.payload).unwrap();
    known.learn(0, hash, 10, 0, false).unwrap();
    let entry = flow_entry {
        term: cluster.seen.term,
        claimed: 1,
        ..bound(2000)
    };

    let key = cluster.bench.bind(entry);
    let verdict = cluster.bench.verdict(&request.frame());
    assert_eq!(verdict, (REDIRECT, "forwarded/known_request".into()));
    assert_eq!(cluster.changed(), [key]);
    // The next one in the same round is not told again; in the next round it is.
    let second = Tcp {
        seq: 2010,
        ..request.clone()
    };
    cluster.bench.run(&second.frame());
    assert_eq!(cluster.changed(), []);
    cluster.view.next_round().unwrap();
    let fin = Tcp {
        flags: "F",
        ..data(2020, 0)
    };
    cluster.bench.run(&fin.frame());
    assert_eq!(cluster.bench.verdict(&fin.frame()).1, "forwarded/bound");
    assert_eq!(cluster.changed(), [key], "closing");

    let of_another_term = flow_entry { term: 1, ..entry };
    cluster.bench.bind(of_another_term);
    assert_eq!(
        cluster.bench.verdict(&request.frame()).1,
        "punted/boundary",
        "a server must confirm it first"
    );
    cluster.bench.bind(entry);
    cluster.give_away();
    assert_eq!(cluster.passed(&request.frame()).0, 12, "not the owner");
}

#[test]
fn an_implausible_acknowledgement_is_doubtful_where_others_may_have_seen_the_true_ones() {
    let mut cluster = Cluster::new();
    let far = Tcp {
        ack: Some(500 + (1 << 30)),
        ..data(2000, 10)
    };
    let entry = flow_entry {
        offers: 0,
        first_seq: 5000,
        ..bound(2000)
    };
    for state in [flow_state::BOUND, flow_state::PENDING] {
        cluster.bench.bind(flow_entry { state, ..entry });
        let (_, _, moved, punts) = cluster.bench.run(&far.frame());
        assert!(punts[0].doubt, "{moved:?}");
        cluster.bench.bind(flow_entry { state, ..entry });
        let (_, _, _, punts) = cluster.bench.run(&data(2000, 10).frame());
        assert!(!punts[0].doubt);
    }
    cluster.show(|seen| seen.count = 1);
    cluster.bench.bind(entry);
    assert_eq!(cluster.bench.verdict(&far.frame()), dropped("bad_ack"));
}

/// As many as a CPU may ask about (`QUESTIONS_MOST` in owner.h), in each of the periods that the test touches.
#[test]
fn questions_about_unknown_flows_are_rationed() {
    let mut cpu = CpuSet::new();
    cpu.set(0).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cpu).unwrap(); // what is counted is a CPU's
    let mut bench = Bench::new();
    let began = Instant::now();
    let mut asked = 0;
    for n in 0..1500u32 {
        let stray = Tcp {
            ack: Some(n),
            ..data(7, 9)
        };
        let verdict = bench.verdict(&stray.frame());
        asked += u128::from(verdict == super::asked());
        assert!(verdict == super::asked() || verdict == dropped("bad_cookie"));
    }
    let periods = began.elapsed().as_nanos() / (1 << 27) + 2;
    assert!(asked > 0 && asked <= 256 * periods, "{asked} in {periods}");
}
