//! This node's part in the cluster's heartbeats: [`Members`], which decides, wired to a socket and counted.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, Result};
use baton_flow::{Heard, Members};
use baton_kernel::monotonic;
use baton_wire::{Accepts, Heartbeat, Key, Role, State};

use tokio::sync::watch;

use crate::admin::{Sample, families};
use crate::config::Config;
use crate::context::Context;
use crate::duty::Duty;
use crate::roll::Roll;

/// Nodes are reloaded one after the other: for so long they may differ.
const RELOADING: Duration = Duration::from_secs(10);

/// Speaks and listens for one role of this node.
pub(crate) struct Heartbeats {
    pub(crate) members: Members,
    role: Role,
    /// Nodes whose configuration is another, since when, and whether that was told.
    differing: BTreeMap<IpAddr, (Duration, bool)>,
    port: u16,
    tally: Arc<Tally>,
    config: watch::Receiver<Arc<Config>>,
    duty: Duty,
    roll: Roll,
    due: Vec<(IpAddr, Heartbeat)>,
}

/// What was sent and heard.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    sent: AtomicU64,
    heard: AtomicU64,
    unproved: AtomicU64,
    ignored: AtomicU64,
    differing: AtomicU64,
}

impl Heartbeats {
    /// `clock`: of a proxy, the cluster clock (ms) as it would be if it were the first.
    pub(crate) fn new(
        context: &Context,
        role: Role,
        clock: u64,
        tally: Arc<Tally>,
    ) -> Result<Heartbeats> {
        let config = Arc::clone(&context.config.borrow());
        let own = Heartbeat {
            node: config.node.address.context("[node] address is missing")?,
            role,
            sequence: 0,
            echo: 0,
            interval: config.cluster.heartbeat_interval,
            accepts: Accepts::ALL,
            findings: Vec::new(),
            workload: 1000,
            state: State {
                ready: true,
                ..State::default()
            },
            clock,
            digest: config.digest,
            nodes: Vec::new(),
        };
        Ok(Heartbeats {
            role,
            members: Members::new(own, rand::random(), monotonic()),
            differing: BTreeMap::new(),
            port: config.cluster.port,
            tally,
            config: context.config.clone(),
            duty: context.duty.clone(),
            roll: context.roll.clone(),
            due: Vec::new(),
        })
    }

    /// A node's heartbeat came.
    pub(crate) fn hear(&mut self, message: Heartbeat) -> Heard {
        let heard = self.members.hear(monotonic(), message);
        let counter = match heard {
            Heard::Proved { .. } => &self.tally.heard,
            Heard::Unproved => &self.tally.unproved,
            Heard::Ignored => &self.tally.ignored,
        };
        counter.fetch_add(1, Relaxed);
        heard
    }

    /// Sends what is due. Whether the standing of a node has changed.
    pub(crate) fn tick(&mut self, socket: &UdpSocket, key: &Key) -> bool {
        let now = monotonic();
        let (draining, leaving) = (self.duty.is_draining(), self.duty.is_leaving());
        self.members.set_duty(now, draining, leaving);
        self.members.set_digest(self.config.borrow().digest);
        if now < self.members.next_deadline() {
            return false;
        }
        let changed = self.members.tick(now, &mut self.due);
        self.roll.call(now, self.role, &self.members);
        self.compare(now);
        for (node, message) in self.due.drain(..) {
            // What cannot be sent is missed there, and that is what counts.
            let sent = socket.send_to(&message.encode(key), SocketAddr::new(node, self.port));
            self.tally.sent.fetch_add(u64::from(sent.is_ok()), Relaxed);
        }
        changed
    }

    /// Tells of nodes whose configuration stays another.
    fn compare(&mut self, now: Duration) {
        let differing: Vec<IpAddr> = self.members.differing().collect();
        self.differing.retain(|node, _| differing.contains(node));
        for node in differing {
            let (since, told) = self.differing.entry(node).or_insert((now, false));
            if !*told && now >= *since + RELOADING {
                *told = true;
                tracing::warn!(%node, "its configuration of the cluster is another than this node's: make them the same and reload both");
            }
        }
        let count = self.differing.len() as u64;
        self.tally.differing.store(count, Relaxed);
    }

    /// How long nothing is due.
    pub(crate) fn pause(&self) -> Duration {
        self.members.next_deadline().saturating_sub(monotonic())
    }
}

impl Tally {
    pub(crate) fn samples(&self, role: &str) -> Vec<Sample> {
        let events = [
            ("sent", &self.sent),
            ("heard", &self.heard),
            ("unproved", &self.unproved),
            ("ignored", &self.ignored),
        ];
        let sample = |(event, count): (&str, &AtomicU64)| {
            families::HEARTBEATS.sample(&[("role", role), ("event", event)], count.load(Relaxed))
        };
        let differing = families::DIFFERING.sample(&[("role", role)], self.differing.load(Relaxed));
        events.map(sample).into_iter().chain([differing]).collect()
    }
}
