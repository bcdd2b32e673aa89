//! What the owner decided, done: kernel tables, datagrams, resets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use baton_flow::{Action, Entry, Lesson, PeerId, ServerId, Table, Target};
use baton_kernel::Flows;
use baton_packet::{Flags, FlowKey, Segment, Seq};
use baton_wire::{FORWARD_HEADER, Keep, Kept, Keys, pass_header};
use bytes::Bytes;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::chooser::Chooser;
use super::entry;
use super::lessons::Lessons;
use super::numbers::{Numbers, Trouble};
use super::peers::Peers;
use super::plan::{Plan, node_of};
use super::replicas::as_replica;
use crate::config::Config;
use crate::keys;

/// Room of the timestamps option in each segment (bytes).
const TIMESTAMPS: usize = 12;
const HOP_LIMIT: u8 = 64;
const IPPROTO_RAW: i32 = 255;

/// Where to send what; changes with the configuration.
#[derive(Debug, Clone)]
pub(super) struct Ways {
    pub(super) keys: Keys,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) port: u16,
    pub(super) mss: [u16; 2],
    /// Of this node.
    pub(super) own: IpAddr,
    pub(super) peers: Peers,
    /// Addresses of VIPs, and their numbers in the kernel.
    pub(super) vips: Vec<(SocketAddr, u16)>,
}

impl Ways {
    pub(super) fn new(config: &Config, plan: &Plan) -> Result<Ways> {
        Ok(Ways {
            keys: keys::secrets(config)?.message_keys(),
            addresses: plan.addresses.clone(),
            port: config.cluster.port,
            mss: plan.mss,
            own: keys::address(config)?.ip(),
            peers: plan.peers.clone(),
            vips: plan.vips.iter().map(|vip| (vip.at, vip.index)).collect(),
        })
    }

    /// Who a node is to those that ask about flows.
    pub(super) fn holder(&self, node: IpAddr) -> Option<Target> {
        let server = self.addresses.iter().position(|at| *at == node);
        let server = server.map(|slot| Target::Server(ServerId(slot as u16)));
        server.or_else(|| self.peers.place(node).map(Target::Peer))
    }
}

/// Carries actions out.
pub(super) struct Effects {
    pub(super) ways: Ways,
    pub(super) flows: Arc<Flows>,
    numbers: Arc<Numbers>,
    cluster: UdpSocket,
    local: [UdpSocket; 2],
    to_client: [Socket; 2],
    packet: Vec<u8>,
    lessons: Option<Lessons>,
}

impl Table for Effects {
    fn entry(&self, key: &FlowKey) -> Option<Entry> {
        let entry = self.flows.entry(key);
        entry.map(|e| entry::from_kernel(&e, &self.ways.peers))
    }

    fn recall(&self, known: u64) -> Option<Bytes> {
        self.lessons.as_ref()?.recall(known)
    }
}

impl Effects {
    /// `cluster` is bound to this node's address and the cluster's port.
    pub(super) fn new(
        ways: Ways,
        flows: Arc<Flows>,
        numbers: Arc<Numbers>,
        cluster: UdpSocket,
        lessons: Option<Lessons>,
    ) -> Result<Effects> {
        let local = |address: IpAddr| {
            UdpSocket::bind(SocketAddr::new(address, 0))
                .context("cannot open a UDP socket on the loopback interface")
        };
        let raw = |domain| {
            Socket::new(domain, Type::RAW, Some(Protocol::from(IPPROTO_RAW)))
                .context("cannot open a raw socket: run as root")
        };
        Ok(Effects {
            ways,
            flows,
            numbers,
            cluster,
            local: [
                local(Ipv4Addr::LOCALHOST.into())?,
                local(Ipv6Addr::LOCALHOST.into())?,
            ],
            to_client: [raw(Domain::IPV4)?, raw(Domain::IPV6)?],
            packet: Vec::with_capacity(2048),
            lessons,
        })
    }

    /// Writes the kernel's entry.
    pub(super) fn put(&self, key: &FlowKey, e: &Entry) {
        let entry = entry::to_kernel(e, &self.ways.peers);
        if self.flows.put(key, &entry).is_err() {
            self.numbers.trouble(Trouble::TableFull);
        }
    }

    /// What cannot be sent is counted: the client's TCP sends it again.
    pub(super) fn carry_out(&mut self, action: Action, chooser: &mut Chooser) {
        match action {
            Action::Put(key, e) => self.put(&key, &e),
            Action::Ask { to, ask } => {
                let message = ask.encode(&self.ways.keys.current);
                self.note(self.to_holder(to, &message));
            }
            Action::Keep {
                to,
                key,
                entry,
                segment,
                end,
            } => {
                if let Some(entry) = as_replica(key, &entry, &self.ways) {
                    let keep = Keep {
                        entry,
                        seq: segment.seq,
                        end,
                        bytes: segment.payload.to_vec(),
                    };
                    let message = keep.encode(&self.ways.keys.current);
                    self.note(self.to_peer(to, &message));
                }
            }
            Action::Kept { to, key, end } => {
                let message = Kept { key, end }.encode(&self.ways.keys.current);
                self.note(self.to_peer(to, &message));
            }
            Action::Pass { to, key, segment } => {
                self.send(Target::Peer(to), &key, &pass_header(1), &segment);
            }
            Action::Bind {
                to,
                key,
                header,
                segment,
            } => {
                let header = header.encode(&self.ways.keys.current, &key);
                self.send(to, &key, &header, &segment);
            }
            Action::Forward { to, key, segment } => self.send(to, &key, &FORWARD_HEADER, &segment),
            Action::Release { to, request } => {
                let message = request.encode(&self.ways.keys.current);
                self.send_message(to, &message);
            }
            Action::Say { key, segment } => self.say(&key, &segment),
            Action::Reset { key, seq, ack } => self.reset(&key, seq, ack),
            Action::Learn(lesson) => self.learn(&lesson, chooser),
            Action::Count(counter) => self.numbers.count(counter),
        }
    }

    fn learn(&mut self, lesson: &Lesson, chooser: &mut Chooser) {
        let learned = self
            .lessons
            .as_mut()
            .map(|lessons| lessons.learn(lesson, chooser));
        if let Some(Err(error)) = learned {
            tracing::trace!(%error, "lesson");
            self.numbers.trouble(Trouble::Lesson);
        }
    }

    /// The rules have changed: the kernel must not decide by those before.
    pub(super) fn forget_lessons(&mut self, chooser: &mut Chooser) {
        let forgotten = self.lessons.as_mut().map(|lessons| lessons.forget(chooser));
        if let Some(Err(error)) = forgotten {
            tracing::error!(%error, "the kernel decides no requests until the next reload");
        }
    }

    fn send(&mut self, to: Target, key: &FlowKey, header: &[u8], segment: &Segment) {
        let options = if segment.timestamps.is_some() {
            TIMESTAMPS
        } else {
            0
        };
        let room = usize::from(self.ways.mss[usize::from(key.is_ipv6())]) - options;
        for piece in segment.split(room) {
            self.packet.clear();
            self.packet.extend_from_slice(header);
            self.packet.extend_from_slice(&piece.encode(key));
            let sent = match to {
                Target::Server(server) => self.to_server(server, &self.packet),
                Target::Relay => self.to_relay(key, &self.packet),
                Target::Peer(peer) => self.to_peer(peer, &self.packet),
            };
            self.note(sent);
        }
    }

    fn send_message(&self, to: ServerId, message: &[u8]) {
        self.note(self.to_server(to, message));
    }

    fn to_server(&self, server: ServerId, message: &[u8]) -> io::Result<usize> {
        let to = node_of(&self.ways.addresses, server, self.ways.port)
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        self.cluster.send_to(message, to)
    }

    fn to_peer(&self, peer: PeerId, message: &[u8]) -> io::Result<usize> {
        let address = self.ways.peers.address(peer);
        let address = address.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let to = SocketAddr::new(address, self.ways.port);
        self.cluster.send_to(message, to)
    }

    /// To the node.
    fn to_holder(&self, holder: Target, message: &[u8]) -> io::Result<usize> {
        match holder {
            Target::Server(server) => self.to_server(server, message),
            Target::Peer(peer) => self.to_peer(peer, message),
            Target::Relay => Err(io::ErrorKind::AddrNotAvailable.into()),
        }
    }

    /// By the loopback interface, where this node's own agent adopts it.
    fn to_relay(&self, key: &FlowKey, message: &[u8]) -> io::Result<usize> {
        let [v4, v6] = &self.local;
        if key.is_ipv6() {
            v6.send_to(message, (Ipv6Addr::LOCALHOST, self.ways.port))
        } else {
            v4.send_to(message, (Ipv4Addr::LOCALHOST, self.ways.port))
        }
    }

    fn reset(&self, key: &FlowKey, seq: Seq, ack: Seq) {
        let segment = Segment {
            seq,
            ack,
            flags: Flags::RST | Flags::ACK,
            window: 0,
            timestamps: None,
            traffic_class: 0,
            hop_limit: HOP_LIMIT,
            payload: Bytes::new(),
        };
        self.say(key, &segment);
    }

    /// To the client, in the name of its server.
    fn say(&self, key: &FlowKey, segment: &Segment) {
        let [v4, v6] = &self.to_client;
        let socket = if key.is_ipv6() { v6 } else { v4 };
        // A raw socket takes an address without port.
        let to = SockAddr::from(SocketAddr::new(key.client().ip(), 0));
        self.note(socket.send_to(&segment.encode_reply(key), &to));
    }

    fn note(&self, sent: io::Result<usize>) {
        if sent.is_err() {
            self.numbers.trouble(Trouble::Send);
        }
    }
}
