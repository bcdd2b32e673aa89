//! Two nodes that hear each other, and what comes between them.

use std::net::IpAddr;
use std::time::Duration;

use baton_wire::{Accepts, Heartbeat, Role, State};

use crate::{Heard, Members, Standing};

const INTERVAL: Duration = Duration::from_millis(200);

fn address(last: u8) -> IpAddr {
    [10, 77, 0, last].into()
}

fn node(last: u8, role: Role, base: u64) -> Members {
    let own = Heartbeat {
        node: address(last),
        role,
        sequence: 0,
        echo: 0,
        interval: INTERVAL,
        accepts: Accepts::ALL,
        findings: Vec::new(),
        workload: 1000,
        state: State {
            ready: true,
            ..State::default()
        },
        clock: 0,
        digest: 0,
        nodes: Vec::new(),
    };
    Members::new(own, base, Duration::from_secs(1000))
}

struct Pair {
    proxy: Members,
    backend: Members,
    now: Duration,
    to_backend: bool,
    to_proxy: bool,
    /// What the back end said.
    said: Vec<Heartbeat>,
    lease: Duration,
}

impl Pair {
    fn new() -> Pair {
        let mut pair = Pair {
            proxy: node(11, Role::Proxy, u64::MAX - 5_000_000),
            backend: node(21, Role::Backend, 77),
            now: Duration::from_secs(1000),
            to_backend: true,
            to_proxy: true,
            said: Vec::new(),
            lease: Duration::ZERO,
        };
        pair.proxy.expect(pair.now, [(address(21), Role::Backend)]);
        pair
    }

    /// Lets time pass in steps of a millisecond.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let mut out = Vec::new();
            self.proxy.tick(self.now, &mut out);
            for (to, message) in out.drain(..) {
                assert_eq!(to, address(21));
                if self.to_backend
                    && let Heard::Proved { lease, .. } = self.backend.hear(self.now, message)
                {
                    self.lease = self.lease.max(lease);
                }
            }
            self.backend.tick(self.now, &mut out);
            for (to, message) in out {
                assert_eq!(to, address(11));
                self.said.push(message.clone());
                if self.to_proxy {
                    self.proxy.hear(self.now, message);
                }
            }
            self.now += Duration::from_millis(1);
        }
    }

    fn standing(&self) -> Standing {
        let mut all = self.proxy.all();
        all.next().unwrap().1
    }
}

#[test]
fn a_node_that_speaks_is_alive_and_one_that_never_did_is_out_after_three_seconds() {
    let mut pair = Pair::new();
    assert_eq!(pair.standing(), Standing::Presumed);
    pair.pass(3 * INTERVAL);
    assert_eq!(pair.standing(), Standing::Alive);

    let mut pair = Pair::new();
    pair.to_proxy = false;
    // The question for its link-layer address may have been lost: that is asked again after a second.
    pair.pass(Duration::from_millis(2900));
    assert_eq!(pair.standing(), Standing::Presumed);
    pair.pass(INTERVAL);
    assert_eq!(pair.standing(), Standing::NeverHeard);
    pair.to_proxy = true;
    pair.pass(2 * INTERVAL);
    assert_eq!(pair.standing(), Standing::Returning);
}

#[test]
fn three_missed_in_a_row_are_the_end_two_are_not() {
    let mut pair = Pair::new();
    pair.pass(10 * INTERVAL);
    pair.to_proxy = false;
    pair.pass(2 * INTERVAL);
    pair.to_proxy = true;
    pair.pass(INTERVAL);
    assert_eq!(pair.standing(), Standing::Alive);
    pair.to_proxy = false;
    pair.pass(5 * INTERVAL);
    assert_eq!(pair.standing(), Standing::Silent);
    pair.to_proxy = true;
    pair.pass(2 * INTERVAL);
    assert_eq!(pair.standing(), Standing::Returning);
    pair.proxy.admit(address(21));
    assert_eq!(pair.standing(), Standing::Alive);
}

#[test]
fn a_drained_node_says_so_at_once() {
    let mut pair = Pair::new();
    pair.pass(10 * INTERVAL);
    let is_draining = |pair: &Pair| {
        let (_, standing, said) = pair.proxy.all().next().unwrap();
        (standing, said.unwrap().state.draining)
    };
    assert_eq!(is_draining(&pair), (Standing::Alive, false));
    let now = pair.now;
    pair.backend.set_duty(now, true, false);
    pair.pass(Duration::from_millis(2));
    assert_eq!(is_draining(&pair), (Standing::Alive, true));
    let now = pair.now;
    pair.backend.set_duty(now, false, false);
    pair.pass(Duration::from_millis(2));
    assert_eq!(is_draining(&pair), (Standing::Alive, false));
}

/// Whichever way is broken, and whenever: the lease ends before the proxy takes the back end for dead.
#[test]
fn the_lease_ends_first() {
    for (to_backend, to_proxy) in [(false, false), (false, true), (true, false)] {
        for offset in (0..400).step_by(7) {
            let mut pair = Pair::new();
            pair.pass(10 * INTERVAL + Duration::from_millis(offset));
            (pair.to_backend, pair.to_proxy) = (to_backend, to_proxy);
            while pair.standing() == Standing::Alive {
                pair.pass(Duration::from_millis(1));
            }
            let what = format!("{to_backend} {to_proxy} {offset}");
            let early = pair.now.saturating_sub(pair.lease);
            assert!(early >= INTERVAL / 4, "{what}: {early:?} before");
            // And no new one is given while it is out.
            let lease = pair.lease;
            (pair.to_backend, pair.to_proxy) = (true, true);
            pair.pass(10 * INTERVAL);
            assert_eq!(pair.standing(), Standing::Returning, "{what}");
            assert_eq!(pair.lease, lease, "{what}");
            pair.proxy.admit(address(21));
            pair.pass(3 * INTERVAL);
            assert_eq!(pair.standing(), Standing::Alive, "{what}");
            assert!(pair.lease > pair.now, "{what}");
        }
    }
}

#[test]
fn recorded_heartbeats_keep_nobody_alive() {
    let mut pair = Pair::new();
    pair.pass(20 * INTERVAL);
    let recorded = pair.said.clone();
    pair.to_proxy = false;
    for round in 0..40 {
        for message in &recorded[..10 + round % 10] {
            assert_eq!(pair.proxy.hear(pair.now, message.clone()), Heard::Ignored);
        }
        pair.pass(INTERVAL);
    }
    assert_eq!(pair.standing(), Standing::Silent);
    // Nor do they keep the real one out.
    pair.to_proxy = true;
    pair.pass(2 * INTERVAL);
    assert_eq!(pair.standing(), Standing::Returning);
    // After a start of the proxy nothing old counts either.
    let mut anew = node(11, Role::Proxy, 1 << 40);
    anew.expect(pair.now, [(address(21), Role::Backend)]);
    for message in recorded {
        assert!(!matches!(
            anew.hear(pair.now, message),
            Heard::Proved { .. }
        ));
    }
}

#[test]
fn a_restarted_agent_is_known_again_at_once() {
    let mut pair = Pair::new();
    pair.pass(10 * INTERVAL);
    pair.backend = node(21, Role::Backend, 1 << 63);
    for _ in 0..100 {
        pair.pass(Duration::from_millis(10));
        assert_eq!(pair.standing(), Standing::Alive);
    }
}

#[test]
fn a_node_that_was_held_up_blames_nobody() {
    let mut pair = Pair::new();
    pair.pass(10 * INTERVAL);
    pair.now += Duration::from_secs(5);
    pair.pass(3 * INTERVAL);
    assert_eq!(pair.standing(), Standing::Alive);
}

#[test]
fn only_configured_back_ends_and_a_bounded_number_of_proxies_are_known() {
    let mut pair = Pair::new();
    let now = pair.now;
    let stranger = |last, role| Heartbeat {
        node: address(last),
        role,
        sequence: 1,
        echo: 0,
        interval: INTERVAL,
        accepts: Accepts::ALL,
        findings: Vec::new(),
        workload: 1000,
        state: State {
            ready: true,
            ..State::default()
        },
        clock: 0,
        digest: 0,
        nodes: Vec::new(),
    };
    let heard = pair.proxy.hear(now, stranger(99, Role::Backend));
    assert_eq!(heard, Heard::Ignored);
    for last in 0..200 {
        pair.backend.hear(now, stranger(last, Role::Proxy));
        pair.backend.hear(now, stranger(last, Role::Backend));
    }
    assert_eq!(pair.backend.all().count(), 64);
    let mut out = Vec::new();
    pair.backend.tick(now + Duration::from_secs(61), &mut out);
    assert_eq!(pair.backend.all().count(), 0, "they are forgotten");
}

/// It is the balancer's own to say.
#[test]
fn a_balancer_that_is_not_ready_says_so_and_no_oftener_than_else() {
    let (mut now, mut out) = (Duration::from_secs(1000), Vec::new());
    let mut balancer = node(5, Role::Balancer, 7);
    balancer.expect(now, [(address(11), Role::Proxy)]);
    for _ in 0..1000 {
        now += Duration::from_millis(10);
        balancer.set_ready(false);
        balancer.tick(now, &mut out);
    }
    assert!(out.iter().all(|(_, said)| !said.state.ready));
    assert!((40..=51).contains(&out.len()), "{}", out.len());
}
