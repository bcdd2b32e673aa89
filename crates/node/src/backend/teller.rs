//! Speaks for the agent: tells proxies what happened to their binds, and that this node is there.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use baton_flow::Heard;
use baton_kernel::{Events, Leases, Queue, Service, Told, monotonic};
use baton_wire::{Key, Keys, Message, Notice, Role, What, encode_notices};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::Notify;

use super::report::{accepts, findings};
use super::services::Findings;
use super::{services_of, unserved};
use crate::checks::Checks;
use crate::config::Config;
use crate::context::Context;
use crate::heartbeats::{Heartbeats, Tally};
use crate::keys;

/// How long a wait may last: then the thread looks whether it is to end.
const WAIT: Duration = Duration::from_millis(500);
/// `REFUSED_STALE` in `bpf/include/abi.h`: says nothing of the web server.
const STALE: u8 = 3;
/// How often this machine is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Messages taken in one turn.
const MESSAGES_AT_ONCE: usize = 256;
/// The longest message between nodes (bytes).
const MESSAGE_MAX: usize = 2048;

/// The thread that owns the agent's ring buffer and the node's socket for messages.
pub(super) struct Teller {
    stop: Arc<AtomicBool>,
    rules: Arc<Mutex<Arc<Rules>>>,
    tally: Arc<Tally>,
    thread: JoinHandle<()>,
}

/// What a configuration changes.
struct Rules {
    keys: Keys,
    interval: Duration,
    services: Vec<Service>,
    unserved: Vec<SocketAddr>,
}

impl Rules {
    fn new(config: &Config) -> Result<Rules> {
        Ok(Rules {
            keys: keys::secrets(config)?.message_keys(),
            interval: config.cluster.heartbeat_interval,
            services: services_of(config),
            unserved: unserved(config),
        })
    }
}

impl Teller {
    /// Starts it. Proxies expect to hear from the address of its socket. It tells them of `found`; each refused bind asks `look_again` to find
    /// out why.
    pub(super) fn start(
        (leases, told): (Leases, Queue<Told>),
        context: &Context,
        config: &Config,
        found: Arc<Findings>,
        look_again: Arc<Notify>,
    ) -> Result<Teller> {
        let address = keys::address(config)?;
        let socket = UdpSocket::bind(address).with_context(|| {
            format!("cannot listen on {address} (UDP, [node] address and [cluster] port)")
        })?;
        socket.set_nonblocking(true)?;
        let rules = Arc::new(Mutex::new(Arc::new(Rules::new(config)?)));
        let (stop, tally) = (Arc::new(AtomicBool::new(false)), Arc::<Tally>::default());
        let speaker = Speaker {
            heartbeats: Heartbeats::new(context, Role::Backend, 0, tally.clone())?,
            socket,
            address,
            leases,
            found,
            checks: context.checks.clone(),
            look_again,
            looked: None,
            newest_clock: None,
        };
        let (own_stop, own_rules) = (stop.clone(), rules.clone());
        let thread = std::thread::Builder::new().name("teller".into()).spawn(move || match told.open() {
            Ok(told) => speaker.run(&told, &own_rules, &own_stop),
            Err(error) => tracing::error!(%error, "the teller could not start: proxies will not hear what happens here"),
        })?;
        Ok(Teller {
            stop,
            rules,
            tally,
            thread,
        })
    }

    /// From now on goes by this configuration.
    pub(super) fn follow(&self, config: &Config) -> Result<()> {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(Rules::new(config)?);
        Ok(())
    }

    /// What it counts.
    pub(super) fn tally(&self) -> Arc<Tally> {
        self.tally.clone()
    }

    /// Ends the thread and waits for it.
    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
    }
}

/// The thread.
struct Speaker {
    socket: UdpSocket,
    address: SocketAddr,
    heartbeats: Heartbeats,
    leases: Leases,
    found: Arc<Findings>,
    checks: Checks,
    look_again: Arc<Notify>,
    looked: Option<Instant>,
    /// The newest time of the cluster clock (ms) that was heard, and when.
    newest_clock: Option<(u64, Duration)>,
}

impl Speaker {
    fn run(mut self, told: &Events<Told>, rules: &Mutex<Arc<Rules>>, stop: &AtomicBool) {
        let mut batch = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            self.wait(told);
            let rules = Arc::clone(&rules.lock().unwrap_or_else(PoisonError::into_inner));
            told.drain(&mut batch);
            self.tell(batch.drain(..), &rules.keys.current);
            self.hear(&rules.keys);
            self.look(&rules);
            self.heartbeats.members.set_interval(rules.interval);
            self.heartbeats.tick(&self.socket, &rules.keys.current);
        }
    }

    fn wait(&self, told: &Events<Told>) {
        let ms = self.heartbeats.pause().min(WAIT).as_micros().div_ceil(1000);
        let fd = |fd| PollFd::new(fd, PollFlags::POLLIN);
        // An interrupted wait is a short one.
        let _ = poll(
            &mut [fd(told.fd().as_fd()), fd(self.socket.as_fd())],
            PollTimeout::try_from(ms).unwrap_or(PollTimeout::ZERO),
        );
    }

    fn tell(&self, told: impl Iterator<Item = Told>, key: &Key) {
        let mut notices: BTreeMap<IpAddr, Vec<Notice>> = BTreeMap::new();
        // What is said to this node itself is about a bind of its own (`path`), which looks at the table.
        for told in told.filter(|told| told.proxy != self.address.ip()) {
            if let Some(notice) = notice(&told) {
                if matches!(notice.what, What::Refused { reason } if reason != STALE) {
                    self.look_again.notify_one();
                }
                notices.entry(told.proxy).or_default().push(notice);
            }
        }
        for (proxy, notices) in notices {
            for message in encode_notices(&notices, key) {
                if let Err(error) = self
                    .socket
                    .send_to(&message, SocketAddr::new(proxy, self.address.port()))
                {
                    tracing::debug!(%proxy, %error, "a notice could not be sent");
                }
            }
        }
    }

    fn hear(&mut self, keys: &Keys) {
        let mut bytes = [0; MESSAGE_MAX];
        for _ in 0..MESSAGES_AT_ONCE {
            let Ok((length, from)) = self.socket.recv_from(&mut bytes) else {
                return;
            };
            match Message::decode(&bytes[..length], keys) {
                Ok(Message::Heartbeat(heartbeat)) => {
                    let clock = Some(heartbeat.clock).filter(|_| heartbeat.state.ready);
                    if let Heard::Proved { .. } = self.heartbeats.hear(heartbeat) {
                        self.see(clock);
                        self.grant();
                    }
                }
                Ok(_) => {}
                Err(error) => tracing::trace!(%from, %error, "message"),
            }
        }
    }

    /// A proxy that is ready says what time it is: so late it has been already, should all proxies forget it.
    fn see(&mut self, clock_ms: Option<u64>) {
        let now = monotonic();
        let newest = self.newest_clock.map_or(0, |(clock, at)| {
            clock.saturating_add(now.saturating_sub(at).as_millis() as u64)
        });
        if let Some(clock) = clock_ms.filter(|clock| *clock > newest) {
            self.newest_clock = Some((clock, now));
            self.heartbeats.members.set_seen_clock(now, clock);
        }
    }

    /// Until when each proxy's flows may be answered.
    fn grant(&self) {
        for (proxy, until) in self.heartbeats.members.leases(monotonic()) {
            if let Err(error) = self.leases.grant(proxy, until) {
                tracing::debug!(%proxy, %error, "a lease could not be written");
            }
        }
    }

    fn look(&mut self, rules: &Rules) {
        if self.looked.is_none_or(|at| at.elapsed() >= LOOK) {
            self.looked = Some(Instant::now());
            let failing = self.checks.failing_services();
            let findings = findings(&rules.services, &rules.unserved, &failing, &self.found);
            self.heartbeats.members.say(accepts(), findings);
        }
    }
}

/// What an agent tells, as proxies hear it.
pub(crate) fn notice(told: &Told) -> Option<Notice> {
    let what = match told.what {
        1 => What::Ready,
        2 => What::Gone,
        3 => What::Refused {
            reason: told.reason,
        },
        4 => What::Unknown,
        5 => What::Taken,
        _ => return None,
    };
    Some(Notice {
        what,
        key: told.key,
        epoch: told.epoch,
        seq: told.seq,
        ack: told.ack,
    })
}
