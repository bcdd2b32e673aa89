use std::collections::{BTreeMap, HashMap};

use baton_packet::FlowKey;
use baton_policy::ServerId;
use baton_wire::{Outcome, Release, ReleaseAnswer};

use crate::Action;

/// More are not remembered.
const MOST: usize = 65_536;

/// Asked for in one turn.
const AT_ONCE: usize = 1024;

/// Flows that were taken from servers that could not be asked, because they were out: before such a server is given anything again, it must let
/// go of them.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    flows: BTreeMap<ServerId, HashMap<FlowKey, Release>>,
    count: usize,
}

impl Owed {
    /// Whether there is room for one more.
    pub(crate) fn has_room(&self) -> bool {
        self.count < MOST
    }

    /// One more, if there is room.
    pub(crate) fn add(&mut self, server: ServerId, release: Release) {
        if self.has_room() {
            let before = self
                .flows
                .entry(server)
                .or_default()
                .insert(release.key, release);
            self.count += usize::from(before.is_none());
        }
    }

    /// Asks the server, which is heard again. `true`: there is nothing to ask any more.
    pub(crate) fn ask(&self, server: ServerId, out: &mut Vec<Action>) -> bool {
        let Some(flows) = self.flows.get(&server) else {
            return true;
        };
        out.extend(flows.values().take(AT_ONCE).map(|request| Action::Release {
            to: server,
            request: *request,
        }));
        false
    }

    /// A server answers. Whether it is about one of these flows.
    pub(crate) fn answer(&mut self, answer: &ReleaseAnswer) -> bool {
        let is_asked = |flows: &HashMap<FlowKey, Release>| {
            let request = flows.get(&answer.key);
            request
                .is_some_and(|request| (request.epoch, request.seq) == (answer.epoch, answer.seq))
        };
        let Some((server, _)) = self.flows.iter().find(|(_, flows)| is_asked(flows)) else {
            return false;
        };
        let server = *server;
        if answer.outcome == Outcome::Busy {
            return true;
        }
        if let Some(flows) = self.flows.get_mut(&server) {
            flows.remove(&answer.key);
            self.count -= 1;
            if flows.is_empty() {
                self.flows.remove(&server);
            }
        }
        true
    }
}
