//! Clusters of proxies and back ends that hear each other as well as the network lets them.

use std::net::IpAddr;
use std::time::Duration;

use baton_wire::{Accepts, Heartbeat, Role, State};
use proptest::prelude::*;

use super::same_each_time;
use crate::{Members, PeerId, Standing, View};

const INTERVAL: Duration = Duration::from_millis(200);
const MS: Duration = Duration::from_millis(1);
const START: Duration = Duration::from_secs(1000);
const UNIX_MS: u64 = 1_800_000_000_000;

struct Node {
    members: Members,
    /// Its program is stopped until then.
    held_up: Duration,
    is_up: bool,
    side: u8,
    shown: u64,
    terms: u32,
}

struct World {
    proxies: usize,
    nodes: Vec<Node>,
    now: Duration,
    /// Per mille.
    loss: u64,
    /// What is on its way: when it comes, to whom.
    packets: Vec<(Duration, usize, Heartbeat)>,
    /// Two nodes that do not hear each other, and, if so, only in this direction.
    cut: Option<(usize, usize, bool)>,
    random: u64,
}

fn address(node: usize) -> IpAddr {
    [10, 77, 0, 10 + node as u8].into()
}

impl World {
    fn new(proxies: usize, backends: usize, random: u64) -> World {
        let mut world = World {
            proxies,
            nodes: Vec::new(),
            now: START,
            loss: 0,
            packets: Vec::new(),
            cut: None,
            random,
        };
        for node in 0..proxies + backends {
            let node = world.begin(node);
            world.nodes.push(node);
        }
        world
    }

    fn begin(&mut self, node: usize) -> Node {
        let is_proxy = node < self.proxies;
        let own = Heartbeat {
            node: address(node),
            role: if is_proxy { Role::Proxy } else { Role::Backend },
            sequence: 0,
            echo: 0,
            interval: INTERVAL,
            accepts: Accepts::ALL,
            findings: Vec::new(),
            workload: 1000,
            state: State::default(),
            clock: UNIX_MS + self.now.as_millis() as u64,
            digest: 1,
            nodes: Vec::new(),
        };
        let mut members = Members::new(own, self.chance(u64::MAX), self.now);
        if is_proxy {
            let all = self.nodes.len().max(self.proxies);
            let role = |node| {
                if node < self.proxies {
                    Role::Proxy
                } else {
                    Role::Backend
                }
            };
            members.expect(
                self.now,
                (0..all.max(self.proxies)).map(|node| (address(node), role(node))),
            );
        }
        Node {
            members,
            held_up: self.now,
            is_up: true,
            side: 0,
            shown: 0,
            terms: 0,
        }
    }

    /// All proxies know all nodes.
    fn introduce(&mut self) {
        let all = self.nodes.len();
        let proxies = self.proxies;
        let role = |node| {
            if node < proxies {
                Role::Proxy
            } else {
                Role::Backend
            }
        };
        for node in 0..proxies {
            let expected = (0..all).map(|node| (address(node), role(node)));
            self.nodes[node].members.expect(self.now, expected);
        }
    }

    fn restart(&mut self, node: usize) {
        let side = self.nodes[node].side;
        self.nodes[node] = self.begin(node);
        self.nodes[node].side = side;
        self.introduce();
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += MS;
            self.deliver();
            let mut out = Vec::new();
            for node in 0..self.nodes.len() {
                let held = &mut self.nodes[node];
                if !held.is_up || held.held_up > self.now {
                    continue;
                }
                let term = held.members.view().term;
                held.members.tick(self.now, &mut out);
                held.terms += u32::from(held.members.view().term != term);
                for (to, message) in out.drain(..) {
                    self.send(node, to, message);
                }
            }
            self.check();
        }
    }

    fn send(&mut self, from: usize, to: IpAddr, message: Heartbeat) {
        let Some(to) = (0..self.nodes.len()).find(|node| address(*node) == to) else {
            return;
        };
        let is_cut = self.nodes[from].side != self.nodes[to].side
            && self.nodes[from].side != 2
            && self.nodes[to].side != 2;
        let is_blocked = self.cut.is_some_and(|(a, b, one_way)| {
            (from, to) == (a, b) || !one_way && (from, to) == (b, a)
        });
        if !is_cut && !is_blocked && self.chance(1000) >= self.loss {
            let delay = self.chance(30);
            self.packets
                .push((self.now + MS * delay as u32, to, message));
        }
    }

    fn deliver(&mut self) {
        let now = self.now;
        let nodes = &self.nodes;
        let (due, rest) = std::mem::take(&mut self.packets)
            .into_iter()
            .partition(|(at, to, _)| *at <= now && nodes[*to].held_up <= now);
        self.packets = rest;
        let due: Vec<(Duration, usize, Heartbeat)> = due;
        for (_, to, message) in due {
            let node = &mut self.nodes[to];
            if node.is_up {
                let term = node.members.view().term;
                node.members.hear(now, message);
                node.terms += u32::from(node.members.view().term != term);
            }
        }
    }

    fn view(&self, node: usize) -> &View {
        self.nodes[node].members.view()
    }

    fn decides(&self, node: usize) -> bool {
        self.nodes[node].is_up && self.view(node).decides(self.now)
    }

    /// No slot has two that decide; no clock goes back once it is shown.
    fn check(&mut self) {
        let deciders: Vec<_> = (0..self.proxies)
            .filter(|node| self.decides(*node))
            .collect();
        for a in &deciders {
            for b in deciders.iter().filter(|b| *b > a) {
                let (one, other) = (self.view(*a), self.view(*b));
                if one.live == other.live {
                    continue;
                }
                let both = (0..crate::SLOTS).find(|slot| {
                    usize::from(one.owners[*slot]) == *a && usize::from(other.owners[*slot]) == *b
                });
                assert_eq!(both, None, "{:?} and {:?}", one.live, other.live);
            }
        }
        for node in &mut self.nodes[..self.proxies] {
            let shown = node.members.clock().now_ms(self.now);
            if node.members.state().ready {
                assert!(shown >= node.shown, "the clock went back");
                node.shown = shown;
            }
        }
    }

    fn live(&self, node: usize) -> Vec<u16> {
        self.view(node).live.iter().map(|PeerId(id)| *id).collect()
    }

    /// All of these decide, and take just these for live.
    fn agree(&self, nodes: &[usize]) -> bool {
        let all: Vec<_> = nodes.iter().map(|node| *node as u16).collect();
        nodes
            .iter()
            .all(|node| self.decides(*node) && self.live(*node) == all)
    }

    /// A number below `limit` (SplitMix64).
    fn chance(&mut self, limit: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit.max(1)
    }
}

fn world(proxies: usize, backends: usize, random: u64) -> World {
    let mut world = World::new(proxies, backends, random);
    world.introduce();
    world
}

#[test]
fn a_proxy_that_was_cut_off_does_not_take_the_servers_for_dead() {
    for random in 0..20 {
        let mut world = World::new(3, 2, random);
        world.introduce();
        world.pass(Duration::from_secs(5));
        let standings = |world: &World| -> Vec<Standing> {
            let all = world.nodes[1].members.all();
            let servers = all.filter(|(node, ..)| [address(3), address(4)].contains(node));
            servers.map(|(_, standing, _)| standing).collect()
        };
        assert_eq!(standings(&world), [Standing::Alive; 2]);
        world.nodes[1].side = 1;
        for _ in 0..1500 + random {
            world.pass(MS);
            assert_eq!(standings(&world), [Standing::Alive; 2]);
        }
        assert!(!world.nodes[1].members.view().decides(world.now));
        world.nodes[1].side = 0;
        for _ in 0..3000 {
            world.pass(MS);
            assert_eq!(standings(&world), [Standing::Alive; 2]);
        }
        assert!(world.nodes[1].members.view().decides(world.now));
        // A server that dies then is missed.
        world.nodes[3].is_up = false;
        world.pass(Duration::from_secs(1));
        assert_eq!(standings(&world), [Standing::Silent, Standing::Alive]);
    }
}

#[test]
fn all_decide_soon_after_a_common_start() {
    for proxies in 1..5 {
        let mut world = world(proxies, 2, 1);
        world.pass(3 * INTERVAL);
        assert!(world.agree(&Vec::from_iter(0..proxies)), "{proxies}");
        for node in 0..proxies {
            assert!(world.view(node).term > 0);
        }
    }
}

#[test]
fn what_a_dead_one_had_is_decided_by_the_others_soon() {
    for (proxies, dead) in [(2, 0), (2, 1), (3, 1), (4, 0), (5, 2)] {
        let mut world = world(proxies, 2, 2);
        world.pass(5 * INTERVAL);
        world.nodes[dead].is_up = false;
        let left = Vec::from_iter((0..proxies).filter(|node| *node != dead));
        world.pass(2 * INTERVAL);
        assert!(!world.agree(&left));
        world.pass(2 * INTERVAL);
        assert!(
            world.agree(&left),
            "{proxies}: {dead}: {:?}",
            world.live(left[0])
        );
        // It comes back, and takes part.
        world.restart(dead);
        world.pass(5 * INTERVAL);
        assert!(
            world.agree(&Vec::from_iter(0..proxies)),
            "{proxies}: {dead}"
        );
    }
}

#[test]
fn two_of_four_at_once() {
    for dead in [[0, 1], [2, 3], [1, 2]] {
        let mut world = world(4, 3, 3);
        world.pass(5 * INTERVAL);
        dead.iter()
            .for_each(|node| world.nodes[*node].is_up = false);
        world.pass(5 * INTERVAL);
        let left = Vec::from_iter((0..4).filter(|node| !dead.contains(node)));
        assert!(world.agree(&left), "{dead:?}");
    }
}

#[test]
fn halves_that_do_not_hear_each_other() {
    // The back ends hear all: the half with the first proxy goes on.
    let mut world = world(4, 2, 4);
    world.pass(5 * INTERVAL);
    for node in 0..6 {
        world.nodes[node].side = [0, 1, 1, 0, 2, 2][node];
    }
    world.pass(6 * INTERVAL);
    assert!(world.agree(&[0, 3]));
    assert!(!world.decides(1) && !world.decides(2));
    assert!(world.nodes[1].members.state().minority);
    for node in 0..6 {
        world.nodes[node].side = 0;
    }
    world.pass(6 * INTERVAL);
    assert!(world.agree(&[0, 1, 2, 3]));
    assert!(!world.nodes[1].members.state().minority);
}

#[test]
fn a_drained_one_owns_nothing_and_comes_back() {
    let mut world = world(2, 1, 5);
    world.pass(5 * INTERVAL);
    let now = world.now;
    world.nodes[0].members.set_duty(now, true, false);
    world.pass(MS * 100);
    assert_eq!(world.live(0), [1]);
    assert!(world.decides(1) && world.live(1) == [1]);
    world.pass(5 * INTERVAL);
    let now = world.now;
    world.nodes[0].members.set_duty(now, false, false);
    world.pass(2 * INTERVAL);
    assert!(world.agree(&[0, 1]));
}

/// A pair misses three in a row about every 125 intervals. That a quorum of lists lacks a proxy is rarer; and the leases, for which a heartbeat must
/// have come there and another one back in three intervals, end now and then.
#[test]
fn a_fifth_of_all_heartbeats_lost() {
    for (proxies, least) in [(2, 60), (3, 60), (4, 60)] {
        let mut world = world(proxies, 3, 6);
        world.pass(10 * INTERVAL);
        world.loss = 200;
        let (mut decided, mut steps) = (0, 0);
        let before: u32 = world.nodes.iter().map(|node| node.terms).sum();
        for _ in 0..2000 {
            world.pass(10 * MS);
            steps += proxies;
            decided += (0..proxies).filter(|node| world.decides(*node)).count();
        }
        let terms: u32 = world.nodes.iter().map(|node| node.terms).sum();
        println!(
            "{proxies}: decided {}% of the time, {} terms in 100 intervals",
            100 * decided / steps,
            terms - before
        );
        assert!(100 * decided / steps >= least);
    }
}

#[derive(Clone, Debug)]
enum Fault {
    Pass(u64),
    Loss(u64),
    Down(usize),
    Up(usize),
    HeldUp(usize, u64),
    Side(usize, u8),
    Heal,
    Drain(usize, bool),
    Cut(usize, usize, bool),
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        4 => (1u64..1500).prop_map(Fault::Pass),
        1 => (0u64..500).prop_map(Fault::Loss),
        1 => (0usize..8).prop_map(Fault::Down),
        1 => (0usize..8).prop_map(Fault::Up),
        1 => (0usize..8, 1u64..2000).prop_map(|(node, ms)| Fault::HeldUp(node, ms)),
        2 => (0usize..8, 0u8..3).prop_map(|(node, side)| Fault::Side(node, side)),
        1 => Just(Fault::Heal),
        1 => (0usize..8, any::<bool>()).prop_map(|(node, drain)| Fault::Drain(node, drain)),
        1 => (0usize..8, 0usize..8, any::<bool>()).prop_map(|(a, b, way)| Fault::Cut(a, b, way)),
    ]
}

proptest! {
    #![proptest_config(same_each_time(48))]

    /// The check is in every step. In the end all decide again.
    #[test]
    fn never_two_decide(proxies in 2usize..6, backends in 0usize..4, random: u64, faults in proptest::collection::vec(fault(), 1..40)) {
        let mut world = world(proxies, backends, random);
        let all = proxies + backends;
        for fault in faults {
            match fault {
                Fault::Pass(ms) => world.pass(MS * ms as u32),
                Fault::Loss(loss) => world.loss = loss,
                Fault::Down(node) => world.nodes[node % all].is_up = false,
                Fault::Up(node) if !world.nodes[node % all].is_up => world.restart(node % all),
                Fault::Up(_) => {}
                Fault::HeldUp(node, ms) => world.nodes[node % all].held_up = world.now + MS * ms as u32,
                Fault::Side(node, side) => world.nodes[node % all].side = side,
                Fault::Heal => {
                    world.nodes.iter_mut().for_each(|node| node.side = 0);
                    world.cut = None;
                }
                Fault::Drain(node, drain) => {
                    let now = world.now;
                    world.nodes[node % proxies].members.set_duty(now, drain, false);
                }
                Fault::Cut(a, b, way) => world.cut = Some((a % all, b % all, way)),
            }
        }
        world.loss = 0;
        world.cut = None;
        for node in 0..all {
            world.nodes[node].side = 0;
            world.nodes[node].held_up = world.now;
            if !world.nodes[node].is_up {
                world.restart(node);
            }
            let now = world.now;
            world.nodes[node].members.set_duty(now, false, false);
        }
        world.pass(12 * INTERVAL);
        let everybody = Vec::from_iter(0..proxies);
        prop_assert!(world.agree(&everybody), "{:?}", everybody.iter().map(|node| (world.decides(*node), world.live(*node))).collect::<Vec<_>>());
    }
}
