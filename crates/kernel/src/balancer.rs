//! Role balancer: `bpf/balancer.bpf.c`.

use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags};

use crate::abi::{self, endpoint_keys};
use crate::attach::{Side, attach};
use crate::counters::Counters;
use crate::skeletons::balancer::{BalancerSkel, BalancerSkelBuilder};
use crate::table::Table;
use crate::{Error, Injector, Pins, Result, Server};

/// Places of the table that packets are spread by.
pub const SLOTS: usize = 16_384;

/// Places of the table of proxies.
pub const PEERS_MAX: usize = 32;

/// Which proxy gets a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// That of the flow's slot.
    Flow,
    /// The same as the one before, until it has had so many on this CPU; then the next.
    Batch,
    /// Any.
    Random,
}

/// How packets are spread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    /// By what.
    pub mode: Mode,
    /// Packets of a batch, at least 1.
    pub batch_packets: u32,
    /// The cluster port.
    pub port: u16,
    /// The index of the proxy in each place, at most [`SLOTS`] of them; empty: nobody gets anything.
    pub places: Vec<u8>,
}

/// A table of the program, as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Its name in `bpf/`.
    pub name: String,
    /// Bytes of a key.
    pub key_size: u32,
    /// Places.
    pub max_entries: u32,
    /// Keys and values.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
}

/// How the program spreads packets.
pub struct Spreads(Table<abi::spread>);

impl Spreads {
    /// From now on spreads so.
    pub fn set(&self, spread: &Spread) -> Result<()> {
        let mut value = abi::spread {
            batch_packets: spread.batch_packets.max(1),
            port: spread.port.to_be(),
            mode: match spread.mode {
                Mode::Flow => 1,
                Mode::Batch => 2,
                Mode::Random => 3,
            },
            ..Default::default()
        };
        for (place, proxy) in value.proxies.iter_mut().zip(&spread.places) {
            *place = *proxy;
            value.places += 1;
        }
        self.0.put(&0u32.to_ne_bytes(), &value)
    }
}

/// The balancer's program and tables.
pub struct Balancer {
    skel: BalancerSkel<'static>,
    links: Vec<OwnedFd>,
    pins: Option<Pins>,
    vips: Table<u8>,
    proxies: Table<abi::server>,
}

impl Balancer {
    /// Loads the program; it sees no packet before [`attach`](Balancer::attach). With `pins`, VIPs, proxies and places are those that were left
    /// there, and what is attached stays when this is dropped.
    pub fn load(pins: Option<Pins>) -> Result<Balancer> {
        let refused = |source| Error::Load {
            role: "balancer",
            source,
        };
        // Loaded once a process: the object lives until its end.
        let object = Box::leak(Box::new(MaybeUninit::uninit()));
        let open = BalancerSkelBuilder::default().open(object);
        let mut open = open.map_err(refused)?;
        if let Some(pins) = &pins {
            pins.reuse("vips", &mut open.maps.vips)?;
            pins.reuse("proxies", &mut open.maps.proxies)?;
            pins.reuse("spreads", &mut open.maps.spreads)?;
        }
        let skel = open.load().map_err(refused)?;
        if let Some(pins) = &pins {
            let maps = &skel.maps;
            let tables = [
                ("vips", &maps.vips),
                ("proxies", &maps.proxies),
                ("spreads", &maps.spreads),
            ];
            pins.keep(&tables, &maps.spreads)?;
        }
        Ok(Balancer {
            vips: Table::of("vips", &skel.maps.vips)?,
            proxies: Table::of("proxies", &skel.maps.proxies)?,
            links: Vec::new(),
            pins,
            skel,
        })
    }

    /// From now on the program sees these interfaces' packets, and those of no other.
    pub fn attach(&mut self, interfaces: &[u32]) -> Result<()> {
        for ifindex in interfaces {
            let (program, pins) = (&self.skel.progs.balancer, self.pins.as_mut());
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

    /// The VIPs, instead of those before. Packets to a VIP's address that belong to none of its ports stay the host's.
    pub fn set_vips(&self, vips: &[SocketAddr]) -> Result<()> {
        let keys = vips.iter().flat_map(|vip| endpoint_keys(*vip));
        self.vips.replace(keys.map(|key| (key, 1)))
    }

    /// The proxy with this index; `None`: there is none.
    pub fn set_proxy(&self, index: usize, proxy: Option<Server>) -> Result<()> {
        let value = proxy.map(abi::server::from).unwrap_or_default();
        self.proxies.put(&(index as u32).to_ne_bytes(), &value)
    }

    /// Says how packets are spread; may be used from any thread.
    pub fn spreads(&self) -> Result<Spreads> {
        Ok(Spreads(Table::of("spreads", &self.skel.maps.spreads)?))
    }

    /// Lets interfaces send frames of our own.
    pub fn emitter(&self) -> Result<Injector> {
        Injector::new(&self.skel.progs.balancer_emit)
    }

    /// The program's counters.
    pub fn counters(&self) -> Result<Counters> {
        let names = self.skel.maps.rodata_data.iter();
        let names = names.flat_map(|data| &data.counter_names);
        let names = names.map(|name| (&name.verdict[..], &name.reason[..]));
        Counters::new(&self.skel.maps.counters, names)
    }

    /// All that the program can remember. For tests.
    pub fn contents(&self) -> Result<Vec<Contents>> {
        let maps = self.skel.object().maps();
        let all = maps.map(|map| {
            let read = |key: Vec<u8>| -> libbpf_rs::Result<_> {
                let value = match map.map_type().is_percpu() {
                    true => map
                        .lookup_percpu(&key, MapFlags::ANY)?
                        .map(|cpus| cpus.concat()),
                    false => map.lookup(&key, MapFlags::ANY)?,
                };
                Ok((key, value.unwrap_or_default()))
            };
            let entries = map.keys().map(read).collect::<libbpf_rs::Result<_>>();
            Ok(Contents {
                name: map.name().to_string_lossy().into_owned(),
                key_size: map.key_size(),
                max_entries: map.max_entries(),
                entries: entries.map_err(|source| Error::Table {
                    table: "all of them",
                    source,
                })?,
            })
        });
        all.collect()
    }

    /// Runs the program on one frame, attached or not: `(verdict, frame after)`. For tests.
    pub fn test_run(&self, frame: &[u8]) -> Result<(i32, Vec<u8>)> {
        crate::attach::test_run(&self.skel.progs.balancer, frame).map_err(|source| Error::Load {
            role: "balancer",
            source,
        })
    }
}
