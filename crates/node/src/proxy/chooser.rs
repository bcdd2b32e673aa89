//! The policy, as the owner asks it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use baton_flow::{Choice, ClientOptions, Decide, Target};
use baton_kernel::Pool;
use baton_packet::{BodyLength, RequestHead};
use baton_policy::{Cluster, Mechanism, PoolId, ServerId};
use baton_wire::Accepts;
use rand::rngs::SmallRng;

use super::peers::Peers;
use super::plan::Plan;
use crate::health::{Board, Health, Use};

/// Routes requests; speaks of servers by their kernel slots.
#[derive(Debug)]
pub(super) struct Chooser {
    policy: Arc<Cluster>,
    place_of_server: BTreeMap<ServerId, ServerId>,
    slot_of_server: BTreeMap<ServerId, ServerId>,
    place_of_vip: BTreeMap<u16, usize>,
    relayed_vips: BTreeSet<usize>,
    /// By kernel slot: a server's node, and a VIP's addresses.
    nodes: Vec<IpAddr>,
    peers: Peers,
    addresses: Vec<(u16, SocketAddr)>,
    health: Board,
    random: SmallRng,
}

impl Chooser {
    pub(super) fn new(policy: Arc<Cluster>, plan: &Plan, health: Board) -> Chooser {
        Chooser {
            policy,
            place_of_server: plan.place_of_server.clone(),
            slot_of_server: plan.slot_of_server.clone(),
            place_of_vip: plan.place_of_vip.clone(),
            relayed_vips: plan.relayed_vips.clone(),
            nodes: plan.addresses.clone(),
            peers: plan.peers.clone(),
            addresses: plan.vips.iter().map(|vip| (vip.index, vip.at)).collect(),
            health,
            random: rand::make_rng(),
        }
    }
}

impl Chooser {
    /// Whether only a TCP endpoint can tell where the next request begins, and it matters: on a VIP with several pools the next request may
    /// belong elsewhere. A WebSocket carries no further request. Without an address for the relay the flow is pinned to its server instead.
    fn needs_endpoint(&self, vip: usize, head: &RequestHead) -> bool {
        let open_ended = match head.body {
            BodyLength::Length(_) => false,
            BodyLength::Chunked => true,
            BodyLength::Tunnel => {
                head.method != "CONNECT"
                    && !head
                        .header_values("upgrade")
                        .any(|v| v.eq_ignore_ascii_case(b"websocket"))
            }
        };
        open_ended && self.relayed_vips.contains(&vip)
    }
}

impl Chooser {
    /// The pools as the kernel needs them to decide known requests, in the configuration's order. Nothing is handed off to a relay's.
    /// No card is dealt yet: this is done at each change of a server's health.
    pub(super) fn pools(&mut self) -> Vec<Pool> {
        (0..self.policy.pools().len())
            .map(|place| self.pool(PoolId(place), 0))
            .collect()
    }

    /// One of them, with so many cards, the next that its policy deals. Servers that are not good for everything are for user space to judge.
    pub(super) fn pool(&mut self, id: PoolId, cards: usize) -> Pool {
        let handed_off = |pool: &&baton_policy::Pool| pool.mechanism() == Mechanism::Handoff;
        let Some(pool) = self.policy.pool(id).filter(handed_off) else {
            return Pool::default();
        };
        let health = Arc::clone(&self.health.borrow());
        let slot = |place: ServerId| self.slot_of_server.get(&place).map(|slot| slot.0);
        let node = |place| slot(place).and_then(|slot| self.nodes.get(usize::from(slot)));
        let is_good =
            |place: ServerId| node(place).is_some_and(|node| health.of_all(*node) == Use::Handoff);
        let takes_all =
            |place| node(place).is_some_and(|node| health.accepts(*node) == Accepts::ALL);
        let members = pool.members().iter().map(|member| member.server);
        let good: BTreeSet<ServerId> = members.filter(|&server| is_good(server)).collect();
        let cards = if good.iter().copied().all(takes_all) {
            cards
        } else {
            0
        };
        let mut card = |_| {
            pool.choose(None, |place| !good.contains(&place), &mut self.random)
                .and_then(slot)
        };
        Pool {
            deck: (0..cards).map_while(&mut card).collect(),
            members: good.iter().copied().filter_map(slot).collect(),
        }
    }
}

impl Decide for Chooser {
    fn holders(&self) -> Vec<Target> {
        let health = Arc::clone(&self.health.borrow());
        let servers = (0..).zip(&self.nodes);
        let servers = servers.filter(|(_, node)| health.knows(**node) && !health.is_out(**node));
        let servers = servers.map(|(slot, _)| Target::Server(ServerId(slot)));
        let others = self.peers.others().filter(|node| !health.is_out(*node));
        let others = others.filter_map(|node| self.peers.place(node).map(Target::Peer));
        servers.chain(others).collect()
    }

    fn is_out(&self, holder: Target) -> bool {
        let node = match holder {
            Target::Server(ServerId(slot)) => self.nodes.get(usize::from(slot)).copied(),
            Target::Peer(peer) => match self.peers.address(peer) {
                None => return true, // it was removed
                node => node,
            },
            Target::Relay => return false,
        };
        node.is_some_and(|node| self.health.borrow().is_out(node))
    }

    fn decide(
        &mut self,
        vip: u16,
        head: &RequestHead,
        client: IpAddr,
        options: &ClientOptions,
        present: Option<ServerId>,
        excluded: &[ServerId],
    ) -> Choice {
        const RELAY: Choice = Choice {
            to: Target::Relay,
            pool: None,
        };
        let Some(place) = self.place_of_vip.get(&vip).copied() else {
            return RELAY;
        };
        let Some((id, pool)) = self.policy.decide(place, head) else {
            return RELAY;
        };
        if pool.mechanism() == Mechanism::Relay || self.needs_endpoint(place, head) {
            return RELAY;
        }
        let present = present.and_then(|slot| self.place_of_server.get(&slot).copied());
        let health = Arc::clone(&self.health.borrow());
        let (nodes, slots, addresses) = (&self.nodes, &self.slot_of_server, &self.addresses);
        let is_concerned =
            |at: &SocketAddr| at.is_ipv6() == client.is_ipv6() && addresses.contains(&(vip, *at));
        let usable = |place: ServerId| {
            let adopt = (present != Some(place)).then_some(options);
            let slot = slots.get(&place).filter(|slot| !excluded.contains(slot));
            let node = slot.and_then(|slot| nodes.get(usize::from(slot.0)));
            node.is_some_and(|node| can_take(&health, *node, is_concerned, adopt))
        };
        let chosen = pool.choose(present, |place| !usable(place), &mut self.random);
        chosen
            .and_then(|place| self.slot_of_server.get(&place))
            .map_or(RELAY, |slot| Choice {
                to: Target::Server(*slot),
                pool: Some(id),
            })
    }
}

/// Whether a server may be given a request. One that has the flow already need not adopt it.
fn can_take(
    health: &Health,
    node: IpAddr,
    is_concerned: impl Fn(&SocketAddr) -> bool,
    adopt: Option<&ClientOptions>,
) -> bool {
    let accepts = health.accepts(node);
    let takes_over = |options: &ClientOptions| {
        (accepts.timestamps || !options.timestamps)
            && (accepts.sack || !options.sack)
            && (accepts.window_scaling || options.wscale.is_none())
    };
    match health.of(node, is_concerned) {
        Use::Handoff => adopt.is_none_or(takes_over),
        Use::Relay(_) => adopt.is_none(),
        Use::Nothing(_) => false,
    }
}
