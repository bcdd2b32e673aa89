//! The engine among the cluster's other proxies: who owns which flows, what they tell, and what they ask.

use std::net::{IpAddr, SocketAddr};

use baton_flow::{Entry, Event, Table as _, Target, View};
use baton_kernel::{Clock, abi, monotonic};
use baton_packet::{Flags, Segment, Timestamps};
use baton_wire::{Ask, Fate, Keep, Known, Replica, Scales};
use bytes::Bytes;

use super::engine::Engine;
use super::numbers::Replicated;
use super::replicas::{entry, merge};

/// A kernel's retransmission time-out is then about a second.
const UNKNOWN_RTT_MS: u32 = 333;

impl Engine {
    /// Goes by what the heartbeats say now.
    pub(super) fn sync(&mut self) {
        let members = &self.heartbeats.members;
        let clock = Clock::ahead(members.clock().offset_ns(monotonic()));
        if clock != self.clock {
            self.clock = clock;
            self.clocks.send_replace(clock);
        }
        let view = members.view();
        let ready = view.own.is_none() || members.state().ready;
        let nodes = self.present(view);
        let is_news = *view != self.view
            || ready != *self.readiness.borrow()
            || *nodes != *self.replication.nodes();
        if is_news {
            self.follow(view.clone(), nodes, ready);
        }
    }

    /// The proxies that are there and know enough, this one included; nobody, if it is alone.
    fn present(&self, view: &View) -> Vec<IpAddr> {
        let peers = &self.effects.ways.peers;
        let Some(own) = view.own.and_then(|own| peers.address(own)) else {
            return Vec::new();
        };
        let others = self.heartbeats.members.all();
        let others = others.filter(|(node, standing, said)| {
            let is_ready = said.is_none_or(|said| said.state.ready);
            is_ready && standing.is_in() && peers.place(*node).is_some()
        });
        let mut present: Vec<_> = others.map(|(node, ..)| node).chain([own]).collect();
        present.sort();
        present
    }

    fn follow(&mut self, view: View, nodes: Vec<IpAddr>, ready: bool) {
        let peers = &self.effects.ways.peers;
        if view.live != self.view.live {
            let live = view.live.iter().filter_map(|place| peers.address(*place));
            let live: Vec<_> = live.map(|node| node.to_string()).collect();
            tracing::info!(owners = live.join(" "), "other proxies own flows now");
        }
        let all = peers.addresses().count();
        let own = view.own.map(|own| own.0 as u8);
        let owned = view.owners.iter().filter(|owner| Some(**owner) == own);
        let owned = match own {
            Some(_) => owned.count(),
            None => abi::SLOTS,
        };
        self.numbers
            .set_view([nodes.len(), all - nodes.len().min(all)], owned, view.until);
        if let Err(error) = self
            .replication
            .view()
            .show(&peers.membership(&view, ready))
        {
            tracing::error!(%error, "the kernel could not be told who owns which flows");
        }
        if self.replication.set_nodes(nodes) {
            self.nodes.send_replace(self.replication.nodes());
        }
        self.readiness
            .send_if_modified(|was| std::mem::replace(was, ready) != ready);
        self.owner.follow(view.clone());
        self.view = view;
    }

    /// Sends what has changed here, when it is due.
    pub(super) fn replicate(&mut self) {
        let effects = &self.effects;
        self.replication
            .tick(&effects.flows, &effects.ways, &self.socket, &self.numbers);
    }

    /// Another proxy tells of flows.
    pub(super) fn hear_replicas(&mut self, replicas: &[Replica]) {
        let mut taken = 0;
        for replica in replicas {
            let present = self.effects.entry(&replica.key);
            if let Some(entry) = merge(present, replica, &self.effects.ways, monotonic()) {
                self.effects.put(&replica.key, &entry);
                taken += 1;
            }
        }
        self.numbers.replicated(Replicated::Taken, taken);
        self.numbers
            .replicated(Replicated::Known, replicas.len() - taken);
    }

    /// Another proxy has a part of a request kept, which its client will not send again.
    pub(super) fn keep(&mut self, keep: &Keep, from: IpAddr) {
        let ways = &self.effects.ways;
        let known = ways.peers.place(from);
        let Some((from, entry)) = known.zip(entry(&keep.entry, ways, monotonic())) else {
            return;
        };
        let clock = self.now().clock_ms;
        let segment = Segment {
            seq: keep.seq,
            ack: entry.newest_ack,
            flags: Flags::ACK | Flags::PSH,
            window: entry.window,
            // When its client sent it is not known here; the round trip is told as for one of whom nothing is known.
            timestamps: entry.options.timestamps.then_some(Timestamps {
                value: entry.newest_tsval,
                echo: clock.wrapping_sub(UNKNOWN_RTT_MS),
            }),
            traffic_class: 0,
            hop_limit: 64,
            payload: Bytes::copy_from_slice(&keep.bytes),
        };
        self.handle(Event::Keep {
            from,
            key: keep.entry.key,
            entry,
            segment,
            end: keep.end,
        });
    }

    /// Another proxy asks about a flow that this one's relay may have.
    pub(super) fn answer(&self, ask: &Ask, from: SocketAddr) {
        let entry = self.effects.entry(&ask.key);
        let fate = match entry.filter(|entry| entry.bound == Some(Target::Relay)) {
            Some(entry) => Fate::Held(known(&entry)),
            None => Fate::Unknown,
        };
        let message = ask.answer(fate).encode(&self.effects.ways.keys.current);
        // Who hears nothing asks again.
        let _ = self.socket.send_to(&message, from);
    }
}

fn known(entry: &Entry) -> Known {
    Known {
        timestamps: entry.options.timestamps,
        sack: entry.options.sack,
        scales: entry.options.wscale.map(|client| Scales {
            client,
            server: abi::PROMISED_WSCALE,
        }),
        pinned: entry.pinned,
        mss: entry.options.mss,
        epoch: entry.epoch,
        seq: entry.bind_seq,
        ack: entry.bind_ack,
        boundary: entry.boundary,
        requests: entry.requests,
        bodiless: entry.bodiless,
        next: entry.newest_ack,
    }
}
