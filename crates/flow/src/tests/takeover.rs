//! Balancers that hear each other, or do not: who has the addresses of the VIPs, and how often they move.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::{Move, Rival, Standing, Takeover};

const INTERVAL: Duration = Duration::from_millis(200);
/// Quarters of an interval.
const STEP: Duration = Duration::from_millis(50);
/// Three and a half intervals, as in `members.rs`.
const DETECTION: Duration = Duration::from_millis(700);

/// One balancer, and what it knows.
struct Balancer {
    own: IpAddr,
    takeover: Takeover,
    /// When each other one was heard, and what it said.
    heard: BTreeMap<IpAddr, (Duration, bool)>,
    proxies_heard: Option<Duration>,
    is_running: bool,
    sees_proxies: bool,
    /// Its cable is in.
    is_connected: bool,
    moves: Vec<Move>,
}

/// Some balancers and their proxies on one switch.
struct World {
    now: Duration,
    balancers: BTreeMap<IpAddr, Balancer>,
    proxies_live: bool,
    /// Balancers hear their proxies, and not each other.
    is_split: bool,
}

fn node(number: u8) -> IpAddr {
    IpAddr::from([10, 77, 0, number])
}

impl World {
    fn new(numbers: &[u8]) -> World {
        let balancer = |number: &u8| (node(*number), Balancer::new(node(*number)));
        World {
            now: Duration::from_secs(100),
            balancers: numbers.iter().map(balancer).collect(),
            proxies_live: true,
            is_split: false,
        }
    }

    /// Lets so many intervals pass.
    fn run(&mut self, intervals: u32) {
        for step in 0..intervals * 4 {
            self.now += STEP;
            if step % 4 == 0 {
                self.speak();
            }
            let nodes: Vec<IpAddr> = self.balancers.keys().copied().collect();
            for balancer in self.balancers.values_mut() {
                if balancer.is_running {
                    balancer.decide(self.now, &nodes);
                }
            }
        }
    }

    fn speak(&mut self) {
        let speakers: Vec<_> = self
            .balancers
            .iter()
            .filter(|(_, b)| b.is_running && b.is_connected)
            .map(|(node, b)| (*node, b.takeover.is_ready()))
            .collect();
        for (own, balancer) in &mut self.balancers {
            if !balancer.is_connected {
                continue;
            }
            let others = speakers.iter().filter(|(node, _)| node != own);
            for (node, ready) in others.filter(|_| !self.is_split) {
                balancer.heard.insert(*node, (self.now, *ready));
            }
            if self.proxies_live && balancer.sees_proxies {
                balancer.proxies_heard = Some(self.now);
            }
        }
    }

    fn of(&mut self, number: u8) -> &mut Balancer {
        self.balancers.get_mut(&node(number)).unwrap()
    }

    fn holders(&self) -> Vec<IpAddr> {
        let running = self.balancers.iter().filter(|(_, b)| b.is_running);
        let holding = running.filter(|(_, b)| b.takeover.holds());
        holding.map(|(node, _)| *node).collect()
    }

    /// What each did since the last look, without repeated announcements.
    fn moves(&mut self) -> Vec<(IpAddr, Move)> {
        let each = self.balancers.iter_mut();
        each.flat_map(|(node, b)| b.moves.drain(..).map(|m| (*node, m)).collect::<Vec<_>>())
            .filter(|(_, m)| *m != Move::Announce)
            .collect()
    }
}

impl Balancer {
    fn new(own: IpAddr) -> Balancer {
        Balancer {
            own,
            takeover: Takeover::new(own, INTERVAL, false),
            heard: BTreeMap::new(),
            proxies_heard: None,
            is_running: true,
            sees_proxies: true,
            is_connected: true,
            moves: Vec::new(),
        }
    }

    fn decide(&mut self, now: Duration, nodes: &[IpAddr]) {
        let rival = |node: &IpAddr| {
            let heard = self.heard.get(node);
            Rival {
                node: *node,
                standing: match heard {
                    None => Standing::Presumed,
                    Some((at, _)) if now < *at + DETECTION => Standing::Alive,
                    Some(_) => Standing::Silent,
                },
                ready: heard.is_some_and(|(_, ready)| *ready),
            }
        };
        let rivals: Vec<_> = nodes
            .iter()
            .filter(|n| **n != self.own)
            .map(rival)
            .collect();
        let able = self.proxies_heard.is_some_and(|at| now < at + DETECTION);
        self.moves.extend(self.takeover.decide(now, able, &rivals));
    }
}

#[test]
fn one_alone_takes_them_at_once_and_says_so_three_times_and_now_and_then() {
    let mut world = World::new(&[5]);
    world.run(1);
    assert_eq!(world.holders(), [node(5)]);
    world.run(5);
    let moves = std::mem::take(&mut world.of(5).moves);
    assert_eq!(moves, [Move::Take, Move::Announce, Move::Announce]);
    world.run(50);
    let moves = std::mem::take(&mut world.of(5).moves);
    assert_eq!(moves, [Move::Announce; 5]);
}

#[test]
fn the_lowest_of_those_that_start_together_takes_them_and_nothing_moves() {
    let mut world = World::new(&[5, 6, 7]);
    world.run(100);
    assert_eq!(world.holders(), [node(5)]);
    assert_eq!(world.moves(), [(node(5), Move::Take)]);
    assert!(world.balancers.values().all(|b| b.takeover.is_ready()));
}

#[test]
fn one_that_was_never_heard_is_not_waited_for() {
    let mut world = World::new(&[5, 6]);
    world.of(5).is_running = false;
    world.run(3);
    assert!(world.holders().is_empty(), "it may yet be heard");
    world.run(3);
    assert_eq!(world.holders(), [node(6)]);
}

#[test]
fn when_the_holder_dies_the_next_takes_them_in_the_detection_time() {
    let mut world = World::new(&[5, 6, 7]);
    world.run(40);
    world.moves();
    world.of(5).is_running = false;
    world.run(5);
    assert_eq!(world.moves(), [(node(6), Move::Take)]);
    assert_eq!(world.holders(), [node(6)]);
}

#[test]
fn one_that_comes_back_gets_them_after_a_season() {
    let mut world = World::new(&[5, 6]);
    world.run(40);
    world.of(5).is_connected = false;
    world.run(20);
    assert_eq!(
        world.holders(),
        [node(5), node(6)],
        "harmless: nobody reaches the first"
    );
    world.moves();
    world.of(5).is_connected = true;
    world.run(8);
    assert_eq!(world.holders(), [node(6)]);
    world.run(10);
    assert_eq!(world.holders(), [node(5)]);
    assert_eq!(
        world.moves(),
        [
            (node(5), Move::Yield),
            (node(5), Move::Take),
            (node(6), Move::Yield)
        ]
    );
}

#[test]
fn a_cable_that_comes_and_goes_moves_them_once() {
    let mut world = World::new(&[5, 6]);
    world.run(40);
    world.moves();
    for _ in 0..20 {
        world.of(5).is_connected = false;
        world.run(6);
        world.of(5).is_connected = true;
        world.run(6);
        assert!(world.holders().contains(&node(6)));
    }
    let taken = world.moves().into_iter().filter(|(_, m)| *m == Move::Take);
    assert_eq!(taken.collect::<Vec<_>>(), [(node(6), Move::Take)]);
}

#[test]
fn after_a_split_the_higher_yields_and_the_lower_says_it_again() {
    let mut world = World::new(&[5, 6]);
    world.run(40);
    world.is_split = true;
    world.run(8);
    assert_eq!(world.holders(), [node(5), node(6)]);
    world.of(5).moves.clear();
    world.of(6).moves.clear();
    world.is_split = false;
    world.run(4);
    assert_eq!(world.holders(), [node(5)]);
    assert_eq!(world.of(6).moves, [Move::Yield]);
    assert!(world.of(5).moves.contains(&Move::Announce));
}

#[test]
fn without_any_proxy_they_stay_where_they_are() {
    let mut world = World::new(&[5, 6]);
    world.run(40);
    world.moves();
    world.proxies_live = false;
    world.run(40);
    assert_eq!(world.holders(), [node(5)]);
    world.proxies_live = true;
    world.run(40);
    assert_eq!(world.moves(), []);
}

#[test]
fn one_that_hears_no_proxy_gives_them_to_one_that_does() {
    let mut world = World::new(&[5, 6]);
    world.run(40);
    world.moves();
    world.of(5).sees_proxies = false;
    world.run(12);
    assert_eq!(world.holders(), [node(6)]);
    assert_eq!(
        world.moves(),
        [(node(5), Move::Yield), (node(6), Move::Take)]
    );
}

#[test]
fn one_that_is_started_again_goes_on_or_finds_that_another_has_them() {
    let mut world = World::new(&[5, 6]);
    world.run(40);
    let again = |world: &mut World| {
        world.of(5).takeover = Takeover::new(node(5), INTERVAL, true);
        world.of(5).heard.clear();
        world.of(5).proxies_heard = None;
    };
    world.moves();
    again(&mut world);
    world.run(1);
    assert!(world.of(5).takeover.holds());
    world.of(5).is_running = false;
    world.run(10);
    world.of(5).is_running = true;
    world.moves();
    again(&mut world);
    world.run(6);
    assert_eq!(world.holders(), [node(6)]);
    assert_eq!(world.moves(), [(node(5), Move::Yield)]);
}

/// Packets may still go to one that has given them up.
#[test]
fn when_another_one_vanishes_the_holder_says_it_again() {
    let mut world = World::new(&[5, 6]);
    world.run(40);
    world.of(5).moves.clear();
    world.of(6).is_running = false;
    world.run(8);
    let moves = std::mem::take(&mut world.of(5).moves);
    assert!(
        moves.len() >= 3 && moves.iter().all(|m| *m == Move::Announce),
        "{moves:?}"
    );
}
