//! The policy, as the owner asks it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use baton_flow::{Decide, Target};
use baton_packet::{BodyLength, RequestHead};
use baton_policy::{Cluster, Mechanism, ServerId};
use rand::rngs::SmallRng;

use super::plan::Plan;

/// Routes requests; speaks of servers by their kernel slots.
#[derive(Debug)]
pub(super) struct Chooser {
    policy: Arc<Cluster>,
    place_of_server: BTreeMap<ServerId, ServerId>,
    slot_of_server: BTreeMap<ServerId, ServerId>,
    place_of_vip: BTreeMap<u16, usize>,
    relayed_vips: BTreeSet<usize>,
    random: SmallRng,
}

impl Chooser {
    pub(super) fn new(policy: Arc<Cluster>, plan: &Plan) -> Chooser {
        Chooser {
            policy,
            place_of_server: plan.place_of_server.clone(),
            slot_of_server: plan.slot_of_server.clone(),
            place_of_vip: plan.place_of_vip.clone(),
            relayed_vips: plan.relayed_vips.clone(),
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

impl Decide for Chooser {
    fn decide(
        &mut self,
        vip: u16,
        head: &RequestHead,
        _client: IpAddr,
        present: Option<ServerId>,
        excluded: &[ServerId],
    ) -> Target {
        let Some(vip) = self.place_of_vip.get(&vip) else {
            return Target::Relay;
        };
        let Some((_, pool)) = self.policy.decide(*vip, head) else {
            return Target::Relay;
        };
        if pool.mechanism() == Mechanism::Relay {
            return Target::Relay;
        }
        if self.needs_endpoint(*vip, head) {
            return Target::Relay;
        }
        let present = present.and_then(|slot| self.place_of_server.get(&slot).copied());
        let usable = |place: ServerId| {
            self.slot_of_server
                .get(&place)
                .is_some_and(|slot| !excluded.contains(slot))
        };
        let chosen = pool.choose(present, |place| !usable(place), &mut self.random);
        chosen
            .and_then(|place| self.slot_of_server.get(&place))
            .map_or(Target::Relay, |slot| Target::Server(*slot))
    }
}
