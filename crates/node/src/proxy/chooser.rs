//! The policy, as the owner asks it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use baton_flow::{Decide, Target};
use baton_packet::RequestHead;
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
    random: SmallRng,
}

impl Chooser {
    pub(super) fn new(policy: Arc<Cluster>, plan: &Plan) -> Chooser {
        Chooser {
            policy,
            place_of_server: plan.place_of_server.clone(),
            slot_of_server: plan.slot_of_server.clone(),
            place_of_vip: plan.place_of_vip.clone(),
            random: rand::make_rng(),
        }
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
