//! Role back end: `bpf/backend.bpf.c`.

use crate::abi::{self, address_words, endpoint_keys, key_from_bytes, served_flow};
use crate::attach::{Side, attach};
use crate::counters::Counters;
use crate::settings::monotonic;
use crate::skeletons::backend::{BackendSkel, BackendSkelBuilder};
use crate::table::Table;
use crate::{Access, Error, Injector, Pins, Queue, Result, Settings, Told};
use baton_packet::FlowKey;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// A VIP that is served here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// What clients connect to.
    pub vip: SocketAddr,
    /// Where the web server listens, on this host.
    pub listen: SocketAddr,
}

/// Until when each proxy surely does not take this node for dead; may be used from any thread. A proxy that never had one is not waited for.
pub struct Leases(Table<abi::lease>);

impl Leases {
    /// `until`: by CLOCK_MONOTONIC.
    pub fn grant(&self, proxy: IpAddr, until: Duration) -> Result<()> {
        let key = address_words(proxy);
        let lease = abi::lease {
            until_ns: until.as_nanos() as u64,
        };
        let key: Vec<u8> = key.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.0.put(&key, &lease)
    }
}

/// Which of its programs an agent has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parts {
    Ingress,
    Both,
    BothAndLog,
}

/// The agent's programs and tables.
pub struct Backend {
    skel: BackendSkel<'static>,
    parts: Parts,
    links: Vec<OwnedFd>,
    pins: Option<Pins>,
    services: Table<abi::service>,
    served: Table<served_flow>,
}

/// The table of flows, to be read.
pub struct Served(Table<served_flow>);

impl Served {
    /// What is known of a flow.
    pub fn flow(&self, key: &FlowKey) -> Option<served_flow> {
        self.0.lookup(&key.to_bytes())
    }
}

impl Backend {
    /// Loads the programs; they see no packet before [`attach`](Backend::attach). With `pins`, what is known of flows, proxies and services is
    /// what was left there, and what is attached stays when this is dropped.
    pub fn load(settings: &Settings, max_flows: u32, pins: Option<Pins>) -> Result<Backend> {
        Backend::with(settings, max_flows, pins, Parts::Both)
    }

    /// The same, and what an access log is written from is told ([`accesses`](Backend::accesses)).
    pub fn load_logging(
        settings: &Settings,
        max_flows: u32,
        pins: Option<Pins>,
    ) -> Result<Backend> {
        Backend::with(settings, max_flows, pins, Parts::BothAndLog)
    }

    /// Without what follows the answers, which the kernel takes longest to check: no flow is ever released.
    pub fn load_adopting(settings: &Settings, max_flows: u32) -> Result<Backend> {
        Backend::with(settings, max_flows, None, Parts::Ingress)
    }

    fn with(
        settings: &Settings,
        max_flows: u32,
        pins: Option<Pins>,
        parts: Parts,
    ) -> Result<Backend> {
        let log = parts == Parts::BothAndLog;
        let refused = |source| Error::Load {
            role: "backend",
            source,
        };
        // Loaded once a process: the object lives until its end.
        let object = Box::leak(Box::new(MaybeUninit::uninit()));
        let mut open = BackendSkelBuilder::default()
            .open(object)
            .map_err(refused)?;
        open.maps
            .served
            .set_max_entries(max_flows)
            .map_err(refused)?;
        if let Some(data) = open.maps.data_settings_data.as_deref_mut() {
            data.settings = settings.to_kernel();
        }
        if let Some(data) = open.maps.rodata_data.as_deref_mut() {
            data.access_log = u32::from(log);
        }
        if !log {
            let least = 4096; // a page: the smallest ring buffer
            open.maps.accesses.set_max_entries(least).map_err(refused)?;
        }
        if parts == Parts::Ingress {
            open.progs.backend_egress.set_autoload(false);
            open.progs.backend_inject.set_autoload(false);
        }
        if let Some(pins) = &pins {
            pins.reuse("served", &mut open.maps.served)?;
            pins.reuse("services", &mut open.maps.services)?;
            pins.reuse("leases", &mut open.maps.leases)?;
            pins.reuse("proxy_clocks", &mut open.maps.proxy_clocks)?;
            pins.reuse("notices", &mut open.maps.notices)?;
        }
        let skel = open.load().map_err(refused)?;
        if let Some(pins) = &pins {
            let maps = &skel.maps;
            let tables = [
                ("served", &maps.served),
                ("services", &maps.services),
                ("leases", &maps.leases),
                ("proxy_clocks", &maps.proxy_clocks),
                ("notices", &maps.notices),
            ];
            pins.keep(&tables, &maps.data_settings)?;
        }
        Ok(Backend {
            services: Table::of("services", &skel.maps.services)?,
            served: Table::of("served", &skel.maps.served)?,
            links: Vec::new(),
            parts,
            pins,
            skel,
        })
    }

    /// Looks at what these interfaces, and no other, receive and send.
    pub fn attach(&mut self, interfaces: &[u32]) -> Result<()> {
        for ifindex in interfaces {
            let (program, pins) = (&self.skel.progs.backend_ingress, self.pins.as_mut());
            self.links
                .push(attach(program, *ifindex, Side::Ingress, pins)?);
            if self.parts != Parts::Ingress {
                let (program, pins) = (&self.skel.progs.backend_egress, self.pins.as_mut());
                self.links
                    .push(attach(program, *ifindex, Side::Egress, pins)?);
            }
        }
        self.pins.as_ref().map_or(Ok(()), Pins::settle)
    }

    /// Whether what is attached stays when this is dropped.
    pub fn stays(&self) -> bool {
        self.pins.is_some()
    }

    /// The programs are gone, with all that they knew.
    pub fn detach(self) -> Result<()> {
        self.pins.map_or(Ok(()), Pins::detach)
    }

    /// Keys may change while running (rotation).
    pub fn set_settings(&mut self, settings: &Settings) {
        if let Some(data) = self.skel.maps.data_settings_data.as_deref_mut() {
            data.settings = settings.to_kernel();
        }
    }

    /// The addresses of the services that are there.
    pub fn vips(&self) -> Result<BTreeSet<IpAddr>> {
        let mut vips = BTreeSet::new();
        self.services.visit(|key, _| {
            let at = abi::from_bytes(key).map(|at: abi::endpoint| abi::socket_address(&at).ip());
            vips.extend(at);
        })?;
        Ok(vips)
    }

    /// The services, instead of those before.
    pub fn set_services(&self, services: &[Service]) -> Result<()> {
        let entries = services.iter().enumerate().flat_map(|(index, service)| {
            let value = abi::service {
                listener: address_words(service.listen.ip()),
                port: service.listen.port().to_be(),
                index: index as u16,
            };
            endpoint_keys(service.vip).map(|key| (key, value))
        });
        self.services.replace(entries)
    }

    /// What is known of a flow.
    pub fn flow(&self, key: &FlowKey) -> Option<served_flow> {
        self.served.lookup(&key.to_bytes())
    }

    /// Makes or replaces what is known of a flow. For tests: the program does it itself.
    pub fn put_flow(&self, key: &FlowKey, flow: &served_flow) -> Result<()> {
        self.served.put(&key.to_bytes(), flow)
    }

    /// Forgets flows that ended or were released `remember` ago (until then their binds are not adopted twice), and held ones for which
    /// `alive` is false and that were silent as long. Returns how many are held.
    pub fn sweep(&self, remember: Duration, alive: impl Fn(&FlowKey) -> bool) -> Result<usize> {
        let now = monotonic().as_nanos() as u64;
        let (mut held, mut gone) = (0, Vec::new());
        self.served.visit(|key, flow| {
            let silent = u128::from(now.saturating_sub(flow.seen_ns)) > remember.as_nanos();
            let is_held = flow.state == abi::served_state::HELD;
            let lives = || key_from_bytes(key).is_none_or(|k| alive(&k));
            if silent && (!is_held || !lives()) {
                gone.push(key.to_vec());
            } else if is_held {
                held += 1;
            }
        })?;
        gone.iter().for_each(|key| self.served.remove(key));
        Ok(held)
    }

    /// For tests of the path that flows take.
    pub fn injector(&self) -> Result<Injector> {
        Injector::new(&self.skel.progs.backend_inject)
    }

    /// What is known of the flows, for other threads.
    pub fn served(&self) -> Result<Served> {
        Ok(Served(Table::of("served", &self.skel.maps.served)?))
    }

    /// What an access log is written from; nobody is woken for it.
    pub fn accesses(&self) -> Result<Queue<Access>> {
        Queue::of("accesses", &self.skel.maps.accesses)
    }

    /// The leases and what the programs tell, of those that a process before has left: they go on while others are loaded.
    pub fn left(pins: &Pins) -> Option<(Leases, Queue<Told>)> {
        let leases = Table::from_handle("leases", pins.table("leases")?);
        let told = Queue::from_handle("notices", pins.table("notices")?);
        Some((Leases(leases), told))
    }

    /// The leases.
    pub fn leases(&self) -> Result<Leases> {
        Ok(Leases(Table::of("leases", &self.skel.maps.leases)?))
    }

    /// What the programs tell.
    pub fn told(&self) -> Result<Queue<Told>> {
        Queue::of("notices", &self.skel.maps.notices)
    }

    /// The programs' counters.
    pub fn counters(&self) -> Result<Counters> {
        let names = self.skel.maps.rodata_data.iter();
        let names = names.flat_map(|data| &data.counter_names);
        let names = names.map(|name| (&name.verdict[..], &name.reason[..]));
        Counters::new(&self.skel.maps.counters, names)
    }

    /// Runs the ingress program on one frame: `(verdict, frame after)`. For tests.
    pub fn test_ingress(&self, frame: &[u8]) -> Result<(i32, Vec<u8>)> {
        crate::attach::test_run(&self.skel.progs.backend_ingress, frame).map_err(|source| {
            Error::Load {
                role: "backend",
                source,
            }
        })
    }

    /// Runs the egress program on one frame: `(verdict, frame after)`. For tests.
    pub fn test_egress(&self, frame: &[u8]) -> Result<(i32, Vec<u8>)> {
        crate::attach::test_run(&self.skel.progs.backend_egress, frame).map_err(|source| {
            Error::Load {
                role: "backend",
                source,
            }
        })
    }
}
