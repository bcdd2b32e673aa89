//! The thread that hears proxies and other balancers, and draws the consequences.

use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use baton_flow::{Candidate, Move, Rival, Shares, Standing, Takeover};
use baton_kernel::{Balancer, Mode, Spread, Spreads, monotonic};
use baton_wire::{Keys, Message, Role, State};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::watch;

use super::numbers::Numbers;
use crate::config::{BalancerOptions, Config, Peer};
use crate::context::Context;
use crate::duty::Duty;
use crate::heartbeats::Heartbeats;
use crate::keys;

/// How long a wait may last: then the thread looks whether it is to end.
const WAIT: Duration = Duration::from_millis(500);
/// Messages taken in one turn.
const MESSAGES_AT_ONCE: usize = 256;
/// The longest message between nodes (bytes).
const MESSAGE_MAX: usize = 2048;

/// What is to be done with the VIPs' addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Posture {
    /// They belong here.
    pub(super) holds: bool,
    /// So often the network was, or is to be, told.
    pub(super) announcements: u64,
}

/// The thread that owns the node's socket for messages.
pub(super) struct Watcher {
    stop: Arc<AtomicBool>,
    rules: Arc<Mutex<Arc<Rules>>>,
    thread: JoinHandle<()>,
}

/// What a configuration changes.
struct Rules {
    keys: Keys,
    interval: Duration,
    port: u16,
    options: BalancerOptions,
    proxies: Vec<Peer>,
    rivals: Vec<IpAddr>,
}

impl Rules {
    fn new(config: &Config) -> Result<Arc<Rules>> {
        let own = keys::address(config)?.ip();
        let balancers = config.cluster.balancers.iter().map(|peer| peer.address);
        Ok(Arc::new(Rules {
            keys: keys::secrets(config)?.message_keys(),
            interval: config.cluster.heartbeat_interval,
            port: config.cluster.port,
            options: config.balancer.clone(),
            proxies: config.cluster.proxies.clone(),
            rivals: balancers.filter(|address| *address != own).collect(),
        }))
    }
}

impl Watcher {
    /// Starts it. What is to be done with the addresses, instead of what is `present`, comes by the channel.
    pub(super) fn start(
        program: &Balancer,
        context: &Context,
        config: &Config,
        present: Posture,
        numbers: Arc<Numbers>,
    ) -> Result<(Watcher, watch::Receiver<Posture>)> {
        let address = keys::address(config)?;
        let socket = UdpSocket::bind(address).with_context(|| {
            format!("cannot listen on {address} (UDP, [node] address and [cluster] port)")
        })?;
        socket.set_nonblocking(true)?;
        let rules = Rules::new(config)?;
        let (posture, moved) = watch::channel(present);
        let mut heartbeats =
            Heartbeats::new(context, Role::Balancer, 0, numbers.heartbeats.clone())?;
        heartbeats.members.set_ready(false);
        let watch = Watch {
            heartbeats,
            socket,
            takeover: Takeover::new(address.ip(), rules.interval, present.holds),
            duty: context.duty.clone(),
            shares: Shares::default(),
            is_told: false,
            spreads: program.spreads()?,
            numbers,
            posture,
        };
        let rules = Arc::new(Mutex::new(rules));
        let stop = Arc::new(AtomicBool::new(false));
        let (own_rules, own_stop) = (rules.clone(), stop.clone());
        let thread = std::thread::Builder::new()
            .name("watcher".into())
            .spawn(move || watch.run(&own_rules, &own_stop))?;
        let watcher = Watcher {
            stop,
            rules,
            thread,
        };
        Ok((watcher, moved))
    }

    /// From now on goes by this configuration.
    pub(super) fn follow(&self, config: &Config) -> Result<()> {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = Rules::new(config)?;
        Ok(())
    }

    /// Ends the thread and waits for it.
    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
    }
}

/// The thread.
struct Watch {
    socket: UdpSocket,
    heartbeats: Heartbeats,
    takeover: Takeover,
    duty: Duty,
    shares: Shares,
    /// The kernel spreads packets by them.
    is_told: bool,
    spreads: Spreads,
    numbers: Arc<Numbers>,
    posture: watch::Sender<Posture>,
}

impl Watch {
    fn run(mut self, rules: &Mutex<Arc<Rules>>, stop: &AtomicBool) {
        let mut followed: Option<Arc<Rules>> = None;
        while !stop.load(Ordering::Relaxed) {
            let rules = Arc::clone(&rules.lock().unwrap_or_else(PoisonError::into_inner));
            let is_new = !followed.is_some_and(|old| Arc::ptr_eq(&old, &rules));
            if is_new {
                self.follow(&rules);
            }
            self.hear(&rules.keys);
            self.heartbeats.tick(&self.socket, &rules.keys.current);
            self.share(&rules, is_new);
            self.take_over(&rules);
            followed = Some(rules);
            self.wait();
        }
    }

    fn wait(&self) {
        let ms = self.heartbeats.pause().min(WAIT).as_micros().div_ceil(1000);
        // An interrupted wait is a short one.
        let _ = poll(
            &mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)],
            PollTimeout::try_from(ms).unwrap_or(PollTimeout::ZERO),
        );
    }

    fn follow(&mut self, rules: &Rules) {
        let members = &mut self.heartbeats.members;
        let proxies = rules.proxies.iter().map(|proxy| proxy.address);
        let proxies = proxies.map(|node| (node, Role::Proxy));
        let rivals = rules.rivals.iter().map(|node| (*node, Role::Balancer));
        members.expect(monotonic(), proxies.chain(rivals));
        members.set_interval(rules.interval);
        self.takeover.set_interval(rules.interval);
    }

    fn hear(&mut self, keys: &Keys) {
        let mut bytes = [0; MESSAGE_MAX];
        for _ in 0..MESSAGES_AT_ONCE {
            let Ok((length, from)) = self.socket.recv_from(&mut bytes) else {
                return;
            };
            match Message::decode(&bytes[..length], keys) {
                Ok(Message::Heartbeat(heartbeat)) => {
                    self.heartbeats.hear(heartbeat);
                }
                Ok(_) => {}
                Err(error) => tracing::trace!(%from, %error, "message"),
            }
        }
    }

    /// How a node is heard, and what it says of itself.
    fn heard(&self, node: IpAddr) -> (Standing, Option<(State, u16)>) {
        let mut all = self.heartbeats.members.all();
        let found = all.find(|(address, ..)| *address == node);
        found.map_or((Standing::Presumed, None), |(_, standing, said)| {
            (standing, said.map(|said| (said.state, said.workload)))
        })
    }

    fn share(&mut self, rules: &Rules, is_new: bool) {
        let candidate = |proxy: &Peer| {
            let (standing, said) = self.heard(proxy.address);
            let (state, workload) = said.unwrap_or_default();
            Candidate {
                node: proxy.address,
                is_usable: standing == Standing::Alive && state.ready && !state.leaving,
                is_draining: state.draining,
                workload,
            }
        };
        let candidates: Vec<_> = rules.proxies.iter().map(candidate).collect();
        if self.shares.update(&candidates) || is_new {
            self.is_told = false;
        }
        if self.is_told {
            return;
        }
        self.is_told = true;
        // To nobody is no better than to those that were there: it may be this node that was cut off, or has just been started.
        if !self.shares.is_empty() {
            self.spread(rules);
        }
        let mut shares: Vec<_> = rules.proxies.iter().map(|p| (p.name.clone(), 0)).collect();
        for (index, share) in self.shares.normalised() {
            if let Some(proxy) = shares.get_mut(usize::from(index)) {
                proxy.1 = share;
            }
        }
        tracing::info!(per_mille = ?shares, "proxies' shares of the packets");
        self.numbers.set_shares(shares);
    }

    fn spread(&self, rules: &Rules) {
        let spread = Spread {
            mode: rules.options.mode,
            batch_packets: rules.options.batch_packets,
            port: rules.port,
            places: match rules.options.mode {
                Mode::Flow => self.shares.by_slot(),
                Mode::Batch => self.shares.in_turn(),
                Mode::Random => self.shares.by_interval(),
            },
        };
        if let Err(error) = self.spreads.set(&spread) {
            tracing::error!(%error, "packets go where they went before");
        }
    }

    fn take_over(&mut self, rules: &Rules) {
        let rival = |node: &IpAddr| {
            let (standing, said) = self.heard(*node);
            let (state, _) = said.unwrap_or_default();
            Rival {
                node: *node,
                standing: if state.leaving {
                    Standing::Silent
                } else {
                    standing
                },
                ready: state.ready,
            }
        };
        let rivals: Vec<_> = rules.rivals.iter().map(rival).collect();
        let able = !self.shares.is_empty() && !self.duty.is_draining();
        let moved = self.takeover.decide(monotonic(), able, &rivals);
        self.heartbeats.members.set_ready(self.takeover.is_ready());
        let Some(moved) = moved else {
            return;
        };
        let holds = self.takeover.holds();
        if moved != Move::Announce {
            self.numbers.set_holds(holds);
        }
        self.posture.send_modify(|posture| {
            posture.holds = holds;
            posture.announcements += u64::from(moved != Move::Yield);
        });
    }
}
