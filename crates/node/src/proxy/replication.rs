//! What changes about flows here goes to other proxies: collected for a few milliseconds, sent, and not waited for. The truth is with the servers.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use baton_flow::{ranking, slot};
use baton_kernel::{Changed, Events, Flows, View, monotonic};
use baton_packet::FlowKey;
use baton_wire::{MAX_REPLICAS, Replica, encode_replicas};

use super::effects::Ways;
use super::entry;
use super::numbers::{Numbers, Replicated};
use super::replicas::replica;
use crate::config::Replicas;

/// A change waits so long for others, and no longer once there are so many.
const COLLECT: Duration = Duration::from_millis(5);
const COLLECTED_MOST: usize = 64;
/// Flows whose changes may wait; more than can be in a full ring and a round of the engine.
const WAITING_MOST: usize = 1 << 17;

/// A push sends so many datagrams, and then pauses, so that the receiver's queue does not overflow.
const PUSH_BURST: usize = 16;
const PUSH_PAUSE: Duration = Duration::from_millis(1);

/// Tells other proxies.
pub(super) struct Replication {
    /// Those that are there, this one included, in order.
    nodes: Arc<[IpAddr]>,
    replicas: Replicas,
    view: View,
    changes: Events<Changed>,
    waiting: HashSet<FlowKey>,
    due: Option<Duration>,
    batch: Vec<Changed>,
}

impl Replication {
    pub(super) fn new(replicas: Replicas, view: View, changes: Events<Changed>) -> Replication {
        Replication {
            nodes: Arc::new([]),
            replicas,
            view,
            changes,
            waiting: HashSet::new(),
            due: None,
            batch: Vec::new(),
        }
    }

    pub(super) fn configure(&mut self, replicas: Replicas) {
        self.replicas = replicas;
    }

    /// Who is there. Whether that is new.
    pub(super) fn set_nodes(&mut self, nodes: Vec<IpAddr>) -> bool {
        let is_new = *self.nodes != *nodes;
        self.nodes = nodes.into();
        is_new
    }

    pub(super) fn nodes(&self) -> Arc<[IpAddr]> {
        self.nodes.clone()
    }

    /// How the kernel sees the cluster.
    pub(super) fn view(&mut self) -> &mut View {
        &mut self.view
    }

    /// User space has changed an entry.
    pub(super) fn note(&mut self, key: FlowKey) {
        if self.nodes.len() > 1 && self.waiting.len() < WAITING_MOST {
            self.waiting.insert(key);
            self.due.get_or_insert_with(|| monotonic() + COLLECT);
        }
    }

    /// What wakes when the kernel has changed entries; nothing while changes are being collected.
    pub(super) fn changes(&self) -> Option<&Events<Changed>> {
        self.due.is_none().then_some(&self.changes)
    }

    /// The kernel has changed entries.
    pub(super) fn collect(&mut self) {
        self.due.get_or_insert_with(|| monotonic() + COLLECT);
    }

    /// How long nothing is due.
    pub(super) fn pause(&self) -> Duration {
        self.due
            .map_or(Duration::MAX, |due| due.saturating_sub(monotonic()))
    }

    /// Sends what is due.
    pub(super) fn tick(
        &mut self,
        flows: &Flows,
        ways: &Ways,
        socket: &UdpSocket,
        numbers: &Numbers,
    ) {
        let is_due = self.due.is_some_and(|due| monotonic() >= due);
        if !is_due && self.waiting.len() < COLLECTED_MOST {
            return;
        }
        self.due = None;
        // A flow that changes from here on is told again: none that is read below is older than what it stands for.
        if let Err(error) = self.view.next_round() {
            tracing::debug!(%error, "changes of flows");
        }
        self.changes.drain(&mut self.batch);
        self.waiting
            .extend(self.batch.drain(..).map(|Changed(key)| key));
        let mut post = Post::new(ways, socket, numbers);
        for key in self.waiting.drain() {
            let Some(entry) = flows.entry(&key) else {
                continue;
            };
            let Some(replica) = replica(key, &entry::from_kernel(&entry, &ways.peers), ways) else {
                continue;
            };
            for node in holders(&self.nodes, self.replicas, slot(&key)) {
                post.add(node, replica);
            }
        }
        post.flush();
    }
}

/// Who is to have a flow's entry: its owner, and those that would own it next.
fn holders(nodes: &[IpAddr], replicas: Replicas, slot: u16) -> Vec<IpAddr> {
    match replicas {
        Replicas::All => nodes.to_vec(),
        Replicas::Some(few) => {
            let ranked = ranking(slot, nodes).into_iter();
            let first = ranked.take(1 + usize::from(few));
            first
                .filter_map(|place| nodes.get(usize::from(place)).copied())
                .collect()
        }
    }
}

/// Gives the entries of the table to those that are to have them now and were not before. Blocks, at its pace; how many it has sent.
pub(super) fn push(
    flows: &Flows,
    ways: &Ways,
    socket: &UdpSocket,
    numbers: &Numbers,
    replicas: Replicas,
    [before, after]: [&[IpAddr]; 2],
) -> baton_kernel::Result<usize> {
    let stayed: Vec<IpAddr> = before
        .iter()
        .copied()
        .filter(|node| after.contains(node))
        .collect();
    let mut post = Post::new(ways, socket, numbers);
    post.burst = Some(PUSH_BURST);
    let mut pushed = 0;
    for (key, entry) in flows.all()? {
        let slot = slot(&key);
        // One of those that have it is enough.
        let first = ranking(slot, &stayed).first().copied();
        let first = first.and_then(|place| stayed.get(usize::from(place)));
        if first != Some(&ways.own) {
            continue;
        }
        let Some(replica) = replica(key, &entry::from_kernel(&entry, &ways.peers), ways) else {
            continue;
        };
        let had = holders(before, replicas, slot);
        for node in holders(after, replicas, slot) {
            if !had.contains(&node) {
                post.add(node, replica);
                pushed += 1;
            }
        }
    }
    post.flush();
    Ok(pushed)
}

/// Datagrams being filled, one a node.
struct Post<'a> {
    ways: &'a Ways,
    socket: &'a UdpSocket,
    numbers: &'a Numbers,
    open: Vec<(IpAddr, Vec<Replica>)>,
    sent: usize,
    burst: Option<usize>,
}

impl<'a> Post<'a> {
    fn new(ways: &'a Ways, socket: &'a UdpSocket, numbers: &'a Numbers) -> Post<'a> {
        Post {
            ways,
            socket,
            numbers,
            open: Vec::new(),
            sent: 0,
            burst: None,
        }
    }

    fn add(&mut self, node: IpAddr, replica: Replica) {
        if node == self.ways.own {
            return;
        }
        let at = self.open.iter().position(|(open, _)| *open == node);
        let at = at.unwrap_or_else(|| {
            self.open.push((node, Vec::with_capacity(MAX_REPLICAS)));
            self.open.len() - 1
        });
        self.open[at].1.push(replica);
        if self.open[at].1.len() == MAX_REPLICAS {
            let full = std::mem::take(&mut self.open[at].1);
            self.send(node, &full);
        }
    }

    fn flush(&mut self) {
        for (node, replicas) in std::mem::take(&mut self.open) {
            self.send(node, &replicas);
        }
    }

    fn send(&mut self, node: IpAddr, replicas: &[Replica]) {
        for message in encode_replicas(replicas, &self.ways.keys.current) {
            let sent = self.transmit(node, &message);
            let outcome = if sent.is_ok() {
                Replicated::Sent
            } else {
                Replicated::Lost
            };
            self.numbers.replicated(outcome, replicas.len());
            self.sent += 1;
            if self
                .burst
                .is_some_and(|burst| self.sent.is_multiple_of(burst))
            {
                std::thread::sleep(PUSH_PAUSE);
            }
        }
    }

    fn transmit(&self, node: IpAddr, message: &[u8]) -> io::Result<usize> {
        self.socket
            .send_to(message, SocketAddr::new(node, self.ways.port))
    }
}
