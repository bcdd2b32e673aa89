//! Role proxy: `bpf/proxy.bpf.c`.

use crate::abi::{self, address_words, endpoint_keys, flow_entry, key_from_bytes};
use crate::attach::{Side, attach};
use crate::counters::Counters;
use crate::settings::monotonic;
use crate::skeletons::proxy::{ProxySkel, ProxySkelBuilder};
use crate::table::Table;
use crate::{Changed, Error, Known, Pins, Punt, Queue, Result, Settings, View};
use baton_packet::FlowKey;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// A VIP as the kernel needs it.
#[derive(Clone, Debug)]
pub struct Vip {
    /// Comes back with every punt.
    pub index: u16,
    /// Address and port.
    pub at: SocketAddr,
    /// Offered to clients (bytes): fits the path and leaves room for the bind header.
    pub mss: u16,
    /// `abi::offer` bits that all its back ends accept.
    pub offers: u8,
}

/// How packets reach a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// On the same network.
    Neighbour,
    /// In UDP.
    Udp,
}

/// A back end as the kernel needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its node.
    pub address: IpAddr,
    /// This node, seen from there.
    pub source: IpAddr,
    /// The interface that leads there.
    pub ifindex: u32,
    /// How.
    pub via: Via,
}

impl From<Server> for abi::server {
    fn from(server: Server) -> Self {
        Self {
            address: address_words(server.address),
            source: address_words(server.source),
            ifindex: server.ifindex,
            via: match server.via {
                Via::Neighbour => 1,
                Via::Udp => 2,
            },
            pad: [0; 3],
        }
    }
}

/// How much the program's tables hold.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Flows.
    pub flows: u32,
    /// Requests that the kernel decides by itself; 0: it decides none.
    pub known_requests: u32,
    /// Key of the hashes of such requests: random, this program's own.
    pub known_key: [u8; 16],
}

/// Who has a flow, as the table says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The server with this index.
    Server(u16),
    /// The relay of the peer with this index.
    Peer(u16),
}

/// The flow table, shared with the kernel; may be used from any thread.
pub struct Flows(Table<flow_entry>);

impl Flows {
    /// The entry of a flow.
    pub fn entry(&self, key: &FlowKey) -> Option<flow_entry> {
        self.0.lookup(&key.to_bytes())
    }

    /// Makes or replaces an entry. Fails when the table is full.
    pub fn put(&self, key: &FlowKey, entry: &flow_entry) -> Result<()> {
        self.0.put(&key.to_bytes(), entry)
    }

    /// Forgets a flow.
    pub fn remove(&self, key: &FlowKey) {
        self.0.remove(&key.to_bytes());
    }

    /// Forgets flows without packets for `idle`, and those that are closing for `closing`. Returns how many stay.
    pub fn sweep(&self, idle: Duration, closing: Duration) -> Result<usize> {
        let now = monotonic().as_nanos() as u64;
        let (mut stay, mut gone) = (0, Vec::new());
        self.0.visit(|key, entry| {
            let limit = if entry.flags & abi::flow_flags::CLOSING != 0 {
                closing
            } else {
                idle
            };
            if u128::from(now.saturating_sub(entry.seen_ns)) > limit.as_nanos() {
                gone.push(key.to_vec());
            } else {
                stay += 1;
            }
        })?;
        gone.iter().for_each(|key| self.0.remove(key));
        Ok(stay)
    }

    /// Flows that are bound to one of these servers (indices) and of which no packet came for a time in its range, or to the relay of one of these
    /// peers; at most `most`.
    pub fn bound_to(
        &self,
        servers: &BTreeMap<u16, Range<Duration>>,
        peers: &[u16],
        most: usize,
    ) -> Result<Vec<(FlowKey, Holder)>> {
        let now = monotonic().as_nanos() as u64;
        let mut found = Vec::new();
        self.0.visit(|key, entry| {
            let silent = Duration::from_nanos(now.saturating_sub(entry.seen_ns));
            let is_meant = || {
                let range = servers.get(&entry.server);
                range.is_some_and(|range| range.contains(&silent))
            };
            let holder = match entry.flags & (abi::flow_flags::LOCAL | abi::flow_flags::ELSEWHERE) {
                0 if is_meant() => Holder::Server(entry.server),
                abi::flow_flags::ELSEWHERE if peers.contains(&entry.server) => {
                    Holder::Peer(entry.server)
                }
                _ => return,
            };
            if entry.state == abi::flow_state::BOUND && found.len() < most {
                found.extend(key_from_bytes(key).map(|key| (key, holder)));
            }
        })?;
        Ok(found)
    }

    /// Forgets flows. Returns how many.
    pub fn forget(&self, is_meant: impl Fn(&FlowKey, &flow_entry) -> bool) -> Result<usize> {
        let mut gone = Vec::new();
        self.0.visit(|key, entry| {
            if key_from_bytes(key).is_some_and(|key| is_meant(&key, &entry)) {
                gone.push(key.to_vec());
            }
        })?;
        gone.iter().for_each(|key| self.0.remove(key));
        Ok(gone.len())
    }

    /// All flows of the moment.
    pub fn all(&self) -> Result<Vec<(FlowKey, flow_entry)>> {
        let mut all = Vec::new();
        self.0
            .visit(|key, entry| all.extend(key_from_bytes(key).map(|k| (k, entry))))?;
        Ok(all)
    }
}

/// The proxy's program and tables.
pub struct Proxy {
    skel: ProxySkel<'static>,
    links: Vec<OwnedFd>,
    pins: Option<Pins>,
    flows: Arc<Flows>,
    vips: Table<abi::vip>,
    servers: Table<abi::server>,
    peers: Table<abi::server>,
    known: Option<Known>,
}

impl Proxy {
    /// Loads the program; it sees no packet before [`attach`](Proxy::attach). With `pins`, flows, servers, peers, VIPs and punted packets are those
    /// that were left there, and what is attached stays when this is dropped.
    pub fn load(settings: &Settings, sizes: Sizes, pins: Option<Pins>) -> Result<Proxy> {
        let refused = |source| Error::Load {
            role: "proxy",
            source,
        };
        // Loaded once a process: the object lives until its end.
        let object = Box::leak(Box::new(MaybeUninit::uninit()));
        let mut open = ProxySkelBuilder::default().open(object).map_err(refused)?;
        let cpus = libbpf_rs::num_possible_cpus().map_err(refused)?;
        open.maps
            .flows
            .set_max_entries(sizes.flows)
            .map_err(refused)?;
        open.maps
            .known_requests
            .set_max_entries(sizes.known_requests.max(1))
            .map_err(refused)?;
        open.maps
            .scratches
            .set_max_entries(cpus as u32)
            .map_err(refused)?;
        if let Some(data) = open.maps.data_settings_data.as_deref_mut() {
            data.settings = settings.to_kernel();
        }
        if let Some(pins) = &pins {
            pins.reuse("flows", &mut open.maps.flows)?;
            pins.reuse("vips", &mut open.maps.vips)?;
            pins.reuse("servers", &mut open.maps.servers)?;
            pins.reuse("peers", &mut open.maps.peers)?;
            pins.reuse("punts", &mut open.maps.punts)?;
            pins.reuse("changes", &mut open.maps.changes)?;
            pins.reuse("rounds", &mut open.maps.rounds)?;
            pins.reuse("membership", &mut open.maps.membership)?;
        }
        let skel = open.load().map_err(refused)?;
        if let Some(pins) = &pins {
            let maps = &skel.maps;
            let tables = [
                ("flows", &maps.flows),
                ("vips", &maps.vips),
                ("servers", &maps.servers),
                ("peers", &maps.peers),
                ("punts", &maps.punts),
                ("changes", &maps.changes),
                ("rounds", &maps.rounds),
                ("membership", &maps.membership),
            ];
            pins.keep(&tables, &maps.data_settings)?;
        }
        let known = (sizes.known_requests > 0).then(|| -> Result<Known> {
            Ok(Known::new(
                Table::of("known_rules", &skel.maps.known_rules)?,
                Table::of("known_requests", &skel.maps.known_requests)?,
                Table::of("pools", &skel.maps.pools)?,
                sizes.known_key,
            ))
        });
        let known = known.transpose()?;
        Ok(Proxy {
            flows: Arc::new(Flows(Table::of("flows", &skel.maps.flows)?)),
            vips: Table::of("vips", &skel.maps.vips)?,
            servers: Table::of("servers", &skel.maps.servers)?,
            peers: Table::of("peers", &skel.maps.peers)?,
            known,
            links: Vec::new(),
            pins,
            skel,
        })
    }

    /// From now on the program sees these interfaces' packets, and those of no other.
    pub fn attach(&mut self, interfaces: &[u32]) -> Result<()> {
        for ifindex in interfaces {
            let (program, pins) = (&self.skel.progs.proxy, self.pins.as_mut());
            self.links
                .push(attach(program, *ifindex, Side::Ingress, pins)?);
        }
        self.pins.as_ref().map_or(Ok(()), Pins::settle)
    }

    /// Whether what is attached stays when this is dropped.
    pub fn stays(&self) -> bool {
        self.pins.is_some()
    }

    /// The program is gone, with all that it knew.
    pub fn detach(self) -> Result<()> {
        self.pins.map_or(Ok(()), Pins::detach)
    }

    /// Keys may change while running (rotation).
    pub fn set_settings(&mut self, settings: &Settings) {
        if let Some(data) = self.skel.maps.data_settings_data.as_deref_mut() {
            data.settings = settings.to_kernel();
        }
    }

    /// The VIPs, instead of those before. Packets to a VIP's address that belong to none of its ports stay the host's.
    pub fn set_vips(&self, vips: &[Vip]) -> Result<()> {
        let entries = vips.iter().flat_map(|vip| {
            let value = abi::vip {
                index: vip.index,
                mss: vip.mss,
                offers: vip.offers,
                pad: [0; 3],
            };
            endpoint_keys(vip.at).map(|key| (key, value))
        });
        self.vips.replace(entries)
    }

    /// The VIPs that are there, by their indices.
    pub fn vips(&self) -> Result<Vec<(u16, SocketAddr)>> {
        let mut vips = Vec::new();
        self.vips.visit(|key, vip| {
            let at = abi::from_bytes(key).map(|at: abi::endpoint| abi::socket_address(&at));
            vips.extend(at.filter(|at| at.port() != 0).map(|at| (vip.index, at)));
        })?;
        Ok(vips)
    }

    /// The servers that are there, by their indices.
    pub fn servers(&self) -> Result<BTreeMap<u16, IpAddr>> {
        nodes(&self.servers)
    }

    /// The other proxies that are there, by their places.
    pub fn peers(&self) -> Result<BTreeMap<u16, IpAddr>> {
        nodes(&self.peers)
    }

    /// The server with this index; `None`: there is none, its packets are dropped.
    pub fn set_server(&self, index: u16, server: Option<Server>) -> Result<()> {
        let value = server.map(abi::server::from).unwrap_or_default();
        self.servers.put(&u32::from(index).to_ne_bytes(), &value)
    }

    /// Another proxy, or this one, or none, at its place.
    pub fn set_peer(&self, place: u8, peer: Option<Server>) -> Result<()> {
        let value = peer.map(abi::server::from).unwrap_or_default();
        self.peers.put(&u32::from(place).to_ne_bytes(), &value)
    }

    /// How the program sees the cluster.
    pub fn view(&self) -> Result<View> {
        let membership = Table::of("membership", &self.skel.maps.membership)?;
        let mut view = View::new(membership, Table::of("rounds", &self.skel.maps.rounds)?);
        view.next_round()?;
        Ok(view)
    }

    /// Flows that the program itself has changed, if there are other proxies: each at most once in a round of the [`View`].
    pub fn changes(&self) -> Result<Queue<Changed>> {
        Queue::of("changes", &self.skel.maps.changes)
    }

    /// The flow table.
    pub fn flows(&self) -> Arc<Flows> {
        self.flows.clone()
    }

    /// The requests that the program decides by itself; taken once, and only if there may be any.
    pub fn known(&mut self) -> Option<Known> {
        self.known.take()
    }

    /// The packets that need a decision.
    pub fn punts(&self) -> Result<Queue<Punt>> {
        Queue::of("punts", &self.skel.maps.punts)
    }

    /// The program's counters.
    pub fn counters(&self) -> Result<Counters> {
        let names = self.skel.maps.rodata_data.iter();
        let names = names.flat_map(|data| &data.counter_names);
        let names = names.map(|name| (&name.verdict[..], &name.reason[..]));
        Counters::new(&self.skel.maps.counters, names)
    }

    /// Runs the program on one frame, attached or not: `(verdict, frame after)`. For tests.
    pub fn test_run(&self, frame: &[u8]) -> Result<(i32, Vec<u8>)> {
        crate::attach::test_run(&self.skel.progs.proxy, frame).map_err(|source| Error::Load {
            role: "proxy",
            source,
        })
    }
}

/// Addresses by index; places without a node are left out.
fn nodes(table: &Table<abi::server>) -> Result<BTreeMap<u16, IpAddr>> {
    let mut nodes = BTreeMap::new();
    table.visit(|key, node| {
        let index = key.first_chunk().map(|key| u32::from_ne_bytes(*key));
        if let Some(index) = index.filter(|_| node.ifindex != 0) {
            nodes.insert(index as u16, abi::address_from_words(node.address));
        }
    })?;
    Ok(nodes)
}
