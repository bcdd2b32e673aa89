//! The thread that decides: events from the kernel and from back ends in, actions and heartbeats out. All thinking is in `baton-flow` and
//! `baton-policy`.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use baton_flow::{
    Action, ClientOptions, Decide as _, Event, Heard, Limits, Now, Owner, Standing, Target, View,
};
use baton_kernel::{Clock, Events, Punt, Queue, Told, abi};
use baton_packet::{FlowKey, Segment};
use baton_policy::{Mechanism, ServerId};
use baton_wire::{Kept, Message, Role};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::watch;

use super::chooser::Chooser;
use super::effects::{Effects, Ways};
use super::lessons::Lessons;
use super::numbers::{Numbers, Trouble};
use super::plan::Plan;
use super::replication::Replication;
use crate::backend::notice;
use crate::config::{Config, Replicas};
use crate::context::Context;
use crate::health::{Board, Health};
use crate::heartbeats::Heartbeats;
use crate::keys;
use crate::workload::Workload;

/// Messages taken between two looks at the ring buffer.
const MESSAGES_AT_ONCE: usize = 256;
/// Flows whose servers are out, taken between two looks at the ring buffer.
const LOST_AT_ONCE: usize = 128;
/// A server that is heard again is asked so often to let go.
const READMIT: Duration = Duration::from_millis(100);
/// The longest message between nodes (bytes).
const MESSAGE_MAX: usize = 2048;

/// What a configuration changes for the engine.
pub(super) struct Rules {
    chooser: Chooser,
    ways: Ways,
    limits: Limits,
    heartbeat_interval: Duration,
    replicas: Replicas,
    /// Nodes whose heartbeats are waited for, and the names of their servers.
    agents: BTreeMap<IpAddr, Arc<str>>,
    /// Nodes that hear from this one where their packets can go.
    balancers: Vec<IpAddr>,
}

impl Rules {
    fn new(config: &Config, plan: &Plan, health: Board) -> Result<Rules> {
        Ok(Rules {
            chooser: Chooser::new(config.policy.clone(), plan, health),
            ways: Ways::new(config, plan)?,
            replicas: config.cluster.replicas,
            limits: Limits {
                ack_wait: config.proxy.head_ack,
                head_wait: config.proxy.head_wait,
                release_timeout: config.proxy.release_timeout,
                max_head_bytes: config.relay.max_head_bytes,
                max_held_bytes: usize::try_from(config.proxy.max_held_bytes).unwrap_or(usize::MAX),
                promised_wscale: abi::PROMISED_WSCALE,
            },
            heartbeat_interval: config.cluster.heartbeat_interval,
            agents: agents(config),
            balancers: config.cluster.balancers.iter().map(|b| b.address).collect(),
        })
    }

    /// All that this node speaks to.
    fn nodes(&self) -> Vec<(IpAddr, Role)> {
        let agents = self.agents.keys().map(|node| (*node, Role::Backend));
        let balancers = self.balancers.iter().map(|node| (*node, Role::Balancer));
        let proxies = self.ways.peers.addresses();
        let proxies = proxies.map(|node| (node, Role::Proxy));
        agents.chain(balancers).chain(proxies).collect()
    }
}

/// The servers of handoff pools, by node.
fn agents(config: &Config) -> BTreeMap<IpAddr, Arc<str>> {
    let pools = config.policy.pools().iter();
    let members = pools
        .filter(|pool| pool.mechanism() == Mechanism::Handoff)
        .flat_map(|pool| pool.members());
    let servers = members.filter_map(|member| config.servers.get(usize::from(member.server.0)));
    servers
        .filter_map(|server| Some((server.address?, server.name.clone())))
        .collect()
}

/// What the engine is told.
pub(super) enum Order {
    Reload(Box<Rules>),
    /// Who has these flows is out.
    Lost(Vec<(FlowKey, Target)>),
    Stop,
}

/// The way to a running engine.
pub(super) struct Orders {
    /// Proxies that are there, this one included; nobody: it is alone.
    pub(super) present: watch::Receiver<Arc<[IpAddr]>>,
    /// The cluster clock, for the kernel.
    pub(super) clock: watch::Receiver<Clock>,
    /// Whether this proxy knows enough to take its part.
    pub(super) ready: watch::Receiver<bool>,
    /// For messages to other nodes.
    pub(super) socket: UdpSocket,
    sender: Sender<Order>,
    wake: PipeWriter,
    health: Board,
    thread: JoinHandle<()>,
}

impl Orders {
    /// Starts the thread. It owns the node's socket for messages. `relay`: what the relay's agent has to tell.
    pub(super) fn start(
        program: &mut baton_kernel::Proxy,
        relay: Queue<Told>,
        context: &Context,
        config: &Config,
        plan: &Plan,
        clock: Clock,
        numbers: Arc<Numbers>,
    ) -> Result<Orders> {
        let health = context.health.clone();
        let address = keys::address(config)?;
        let socket = UdpSocket::bind(address).with_context(|| {
            format!("cannot listen on {address} (UDP, [node] address and [cluster] port)")
        })?;
        socket.set_nonblocking(true)?;
        let rules = Rules::new(config, plan, health.clone())?;
        let board = health.clone();
        let tally = numbers.heartbeats.clone();
        let mut heartbeats = Heartbeats::new(context, Role::Proxy, clock.now_ms(), tally)?;
        heartbeats
            .members
            .expect(baton_kernel::monotonic(), rules.nodes());
        let max_flows = config.proxy.max_flows;
        let (sender, orders) = channel();
        let (woken, wake) = io::pipe()?;
        let view = heartbeats.members.view().clone();
        let is_ready = view.own.is_none();
        let mut shown = program.view()?;
        shown.show(&rules.ways.peers.membership(&view, is_ready))?;
        let (nodes, present) = watch::channel(Arc::default());
        let (clocks, clock_shown) = watch::channel(clock);
        let (readiness, ready) = watch::channel(is_ready);
        let (owner, mut chooser) = (Owner::new(rules.limits, view.clone()), rules.chooser);
        let mut lessons = program
            .known()
            .map(|known| Lessons::new(known, config.proxy.known_requests));
        if let Some(lessons) = &mut lessons {
            lessons.forget(&mut chooser)?;
        }
        let effects = Effects::new(
            rules.ways,
            program.flows(),
            numbers.clone(),
            socket.try_clone()?,
            lessons,
        )?;
        let sending = socket.try_clone()?;
        let (queue, changes) = (program.punts()?, program.changes()?);
        let thread = std::thread::Builder::new().name("engine".into()).spawn(move || {
            let queues = queue.open().and_then(|punts| Ok((punts, relay.open()?, changes.open()?)));
            let engine = queues.map(|(punts, relay, changes)| Engine {
                punts,
                relay,
                replication: Replication::new(rules.replicas, shown, changes),
                view,
                nodes,
                clocks,
                readiness,
                socket,
                orders,
                woken,
                owner,
                chooser,
                effects,
                heartbeats,
                agents: rules.agents,
                health,
                lost: VecDeque::new(),
                readmit_at: None,
                workload: Workload::new(max_flows),
                clock,
                numbers,
                actions: Vec::new(),
                batch: Vec::new(),
                told: Vec::new(),
            });
            match engine {
                Ok(engine) => engine.run(),
                Err(error) => tracing::error!(%error, "the engine could not start: no request will be answered"),
            }
        })?;
        Ok(Orders {
            present,
            clock: clock_shown,
            ready,
            socket: sending,
            sender,
            wake,
            health: board,
            thread,
        })
    }

    /// From now on decides by this configuration.
    pub(super) fn reload(&self, config: &Config, plan: &Plan) -> Result<()> {
        let rules = Rules::new(config, plan, self.health.clone())?;
        self.give(Order::Reload(Box::new(rules)));
        Ok(())
    }

    pub(super) fn give(&self, order: Order) {
        let _ = self.sender.send(order);
        let _ = (&self.wake).write(&[0]);
    }

    /// Ends the thread and waits for it.
    pub(super) fn stop(self) {
        self.give(Order::Stop);
        let _ = self.thread.join();
    }
}

pub(super) struct Engine {
    punts: Events<Punt>,
    relay: Events<Told>,
    pub(super) socket: UdpSocket,
    orders: Receiver<Order>,
    woken: PipeReader,
    pub(super) owner: Owner,
    chooser: Chooser,
    pub(super) effects: Effects,
    pub(super) heartbeats: Heartbeats,
    pub(super) replication: Replication,
    /// Who owns which flows.
    pub(super) view: View,
    /// Proxies that are there.
    pub(super) nodes: watch::Sender<Arc<[IpAddr]>>,
    pub(super) clocks: watch::Sender<Clock>,
    pub(super) readiness: watch::Sender<bool>,
    agents: BTreeMap<IpAddr, Arc<str>>,
    health: Board,
    /// Flows that are still to be dealt with.
    lost: VecDeque<(FlowKey, Target)>,
    readmit_at: Option<Duration>,
    workload: Workload,
    pub(super) clock: Clock,
    pub(super) numbers: Arc<Numbers>,
    actions: Vec<Action>,
    batch: Vec<Punt>,
    told: Vec<Told>,
}

impl Engine {
    fn run(mut self) {
        loop {
            let (ordered, changed) = self.wait();
            if changed {
                self.replication.collect();
            }
            self.decide_punts();
            self.hear_relay();
            self.read_messages();
            let now = self.now();
            self.owner
                .tick(now, &self.effects, &mut self.chooser, &mut self.actions);
            self.carry_out();
            self.decide_lost();
            self.beat();
            self.replicate();
            self.numbers
                .set_undecided(self.owner.pending(), self.owner.held_bytes());
            self.numbers.set_unanswered(self.owner.unanswered_bytes());
            if ordered && self.take_orders() {
                return;
            }
        }
    }

    /// Until something happens or a deadline comes; whether an order is there, and whether the kernel has changed entries.
    fn wait(&self) -> (bool, bool) {
        let decision = self
            .owner
            .next_deadline()
            .map(|at| at.saturating_sub(baton_kernel::monotonic()));
        let pause = decision
            .unwrap_or(Duration::MAX)
            .min(self.heartbeats.pause())
            .min(self.lost_pause())
            .min(self.replication.pause());
        let ms = pause.as_micros().div_ceil(1000);
        let timeout = PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX);
        let fd = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = vec![
            fd(self.woken.as_fd()),
            fd(self.punts.fd()),
            fd(self.relay.fd()),
            fd(self.socket.as_fd()),
        ];
        let changes = self.replication.changes();
        fds.extend(changes.map(|changes| fd(changes.fd())));
        // An interrupted wait looks for nothing; the next one does.
        let _ = poll(&mut fds, timeout);
        let is_ready = |at: usize| fds.get(at).and_then(PollFd::any).unwrap_or(false);
        (is_ready(0), is_ready(4))
    }

    /// How long nothing is due for servers that are out.
    fn lost_pause(&self) -> Duration {
        if self.lost.is_empty() {
            self.readmit_at.map_or(Duration::MAX, |_| READMIT)
        } else {
            Duration::ZERO
        }
    }

    pub(super) fn now(&self) -> Now {
        Now {
            mono: baton_kernel::monotonic(),
            clock_ms: self.clock.now_ms() as u32,
        }
    }

    fn decide_punts(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        self.punts.drain(&mut batch);
        for punt in batch.drain(..) {
            match Segment::parse_ip(&punt.packet) {
                Ok((key, segment)) => {
                    let fresh = punt.fresh.map(|offered| ClientOptions {
                        mss: offered.mss,
                        wscale: offered.wscale,
                        sack: offered.sack,
                        timestamps: offered.timestamps,
                    });
                    self.handle(Event::Segment {
                        key,
                        vip: punt.vip,
                        segment,
                        fresh,
                        doubt: punt.doubt,
                    });
                }
                Err(error) => {
                    tracing::trace!(flow = %punt.key, %error, "punted packet");
                    self.numbers.trouble(Trouble::BadPacket);
                }
            }
        }
        self.batch = batch;
    }

    fn hear_relay(&mut self) {
        let mut told = std::mem::take(&mut self.told);
        self.relay.drain(&mut told);
        for notice in told.drain(..).filter_map(|told| notice(&told)) {
            self.handle(Event::Notice(notice));
        }
        self.told = told;
    }

    fn read_messages(&mut self) {
        let mut bytes = [0; MESSAGE_MAX];
        for _ in 0..MESSAGES_AT_ONCE {
            let Ok((length, from)) = self.socket.recv_from(&mut bytes) else {
                return;
            };
            match Message::decode(&bytes[..length], &self.effects.ways.keys) {
                Ok(Message::ReleaseAnswer(answer)) => self.handle(Event::Answer(answer)),
                Ok(Message::Notices(notices)) => notices
                    .into_iter()
                    .for_each(|notice| self.handle(Event::Notice(notice))),
                Ok(Message::Heartbeat(heartbeat)) => {
                    let heard = self.heartbeats.hear(heartbeat);
                    self.sync();
                    if let Heard::Proved { changed: true, .. } = heard {
                        self.publish();
                    }
                }
                Ok(Message::Truth(truth)) => {
                    if let Some(from) = self.effects.ways.holder(from.ip()) {
                        self.handle(Event::Truth { from, truth });
                    }
                }
                Ok(Message::Entries(replicas)) => self.hear_replicas(&replicas),
                Ok(Message::Keep(keep)) => self.keep(&keep, from.ip()),
                Ok(Message::Kept(Kept { key, end })) => self.handle(Event::Kept { key, end }),
                Ok(Message::Ask(ask)) => self.answer(&ask, from),
                Ok(Message::Release(_)) => self.numbers.trouble(Trouble::BadMessage),
                Err(error) => {
                    tracing::trace!(%from, %error, "message");
                    self.numbers.trouble(Trouble::BadMessage);
                }
            }
        }
    }

    pub(super) fn handle(&mut self, event: Event) {
        let now = self.now();
        self.owner.handle(
            now,
            event,
            &self.effects,
            &mut self.chooser,
            &mut self.actions,
        );
        self.carry_out();
    }

    fn carry_out(&mut self) {
        for action in self.actions.drain(..) {
            if let Action::Put(key, _) = &action {
                self.replication.note(*key);
            }
            self.effects.carry_out(action, &mut self.chooser);
        }
    }

    /// Heartbeats out; and what their absence means.
    fn beat(&mut self) {
        let available = self.workload.available(self.numbers.flows());
        self.heartbeats.members.set_workload(available);
        let key = &self.effects.ways.keys.current;
        let changed = self.heartbeats.tick(&self.socket, key);
        self.sync();
        if changed
            || self
                .readmit_at
                .is_some_and(|at| at <= baton_kernel::monotonic())
        {
            self.publish();
        }
    }

    /// Servers that are heard again get flows again once they have let go of those that were taken from them.
    fn readmit(&mut self) {
        let members = self.heartbeats.members.all();
        let returning = members.filter(|(_, standing, _)| *standing == Standing::Returning);
        let returning: Vec<IpAddr> = returning.map(|(node, ..)| node).collect();
        self.readmit_at = None;
        for node in returning {
            let slot = self
                .effects
                .ways
                .addresses
                .iter()
                .position(|at| *at == node);
            let server = slot.map(|slot| ServerId(slot as u16));
            if server.is_none_or(|server| self.owner.settle(server, &mut self.actions)) {
                self.heartbeats.members.admit(node);
            } else {
                self.readmit_at = Some(baton_kernel::monotonic() + READMIT);
            }
        }
        self.carry_out();
    }

    /// A part of the flows whose servers are out.
    fn decide_lost(&mut self) {
        for _ in 0..LOST_AT_ONCE {
            let Some((key, holder)) = self.lost.pop_front() else {
                return;
            };
            // Who hears no majority may be the one that is cut off.
            let decides = self.view.decides(baton_kernel::monotonic()) && self.view.is_own(&key);
            if decides && self.chooser.is_out(holder) {
                self.handle(Event::Lost { key, holder });
            }
        }
    }

    /// Tells all that choose servers what is known of them now.
    pub(super) fn publish(&mut self) {
        self.readmit();
        let nodes = self.heartbeats.members.all();
        let health = Health::new(nodes, |node| self.agents.contains_key(&node));
        let before = Arc::clone(&self.health.borrow());
        if *before != health {
            self.health.send_replace(Arc::new(health.clone()));
            self.effects.forget_lessons(&mut self.chooser);
        }
        for (node, name) in &self.agents {
            let address = node;
            match (before.of_all(*node).why(), health.of_all(*node).why()) {
                (was, Some(why)) if was != Some(why) => {
                    tracing::warn!(server = %name, %address, "gets no new flows: {why}");
                }
                (Some(_), None) => tracing::info!(server = %name, %address, "is usable again"),
                _ => {}
            }
        }
    }

    /// Whether to end.
    fn take_orders(&mut self) -> bool {
        let _ = self.woken.read(&mut [0; 64]);
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Stop => return true,
                Order::Lost(flows) => self.lost = flows.into(),
                Order::Reload(rules) => {
                    let members = &mut self.heartbeats.members;
                    members.set_interval(rules.heartbeat_interval);
                    members.expect(baton_kernel::monotonic(), rules.nodes());
                    self.chooser = rules.chooser;
                    self.effects.forget_lessons(&mut self.chooser);
                    self.effects.ways = rules.ways;
                    self.replication.configure(rules.replicas);
                    self.owner.reconfigure(rules.limits);
                    self.agents = rules.agents;
                    self.sync();
                    self.publish();
                }
            }
        }
        false
    }
}
