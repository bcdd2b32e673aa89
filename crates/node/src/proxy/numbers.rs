//! What the proxy counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use baton_flow::Counter;
use baton_kernel::Counters;

use crate::admin::{Sample, families};
use crate::heartbeats::Tally;

/// What can go wrong here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A packet or message could not be sent.
    Send,
    /// The kernel's flow table did not take an entry.
    TableFull,
    /// A punted packet was none that we understand.
    BadPacket,
    /// A message between nodes was malformed, or its tag was wrong.
    BadMessage,
    /// The kernel's table of known requests did not take one.
    Lesson,
}

/// What becomes of entries for other proxies, or of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replicated {
    /// To another proxy.
    Sent,
    /// Could not be sent.
    Lost,
    /// From another proxy, and news.
    Taken,
    /// From another proxy, and no news.
    Known,
}

impl Replicated {
    const ALL: [(Replicated, &'static str); 4] = [
        (Replicated::Sent, "sent"),
        (Replicated::Lost, "lost"),
        (Replicated::Taken, "taken"),
        (Replicated::Known, "known"),
    ];
}

impl Trouble {
    const ALL: [(Trouble, &'static str); 5] = [
        (Trouble::Send, "send"),
        (Trouble::TableFull, "flow_table_full"),
        (Trouble::BadPacket, "bad_packet"),
        (Trouble::BadMessage, "bad_message"),
        (Trouble::Lesson, "lesson"),
    ];
}

/// Written by the engine, read at each scrape.
pub(super) struct Numbers {
    pub(super) heartbeats: Arc<Tally>,
    kernel: Counters,
    local: Counters,
    counted: Vec<AtomicU64>,
    troubles: [AtomicU64; 5],
    replicated: [AtomicU64; 4],
    proxies: [AtomicU64; 2],
    owned_slots: AtomicU64,
    decides_until: AtomicU64,
    flows: AtomicU64,
    pending: AtomicU64,
    held_bytes: AtomicU64,
    unanswered_bytes: AtomicU64,
}

impl Numbers {
    pub(super) fn new(kernel: Counters, local: Counters) -> Numbers {
        Numbers {
            heartbeats: Arc::default(),
            kernel,
            local,
            counted: Counter::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            troubles: Default::default(),
            replicated: Default::default(),
            proxies: Default::default(),
            owned_slots: AtomicU64::new(0),
            decides_until: AtomicU64::new(0),
            flows: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            held_bytes: AtomicU64::new(0),
            unanswered_bytes: AtomicU64::new(0),
        }
    }

    pub(super) fn count(&self, counter: Counter) {
        if let Some(value) = self.counted.get(counter as usize) {
            value.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn trouble(&self, trouble: Trouble) {
        self.troubles[trouble as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn replicated(&self, outcome: Replicated, entries: usize) {
        self.replicated[outcome as usize].fetch_add(entries as u64, Relaxed);
    }

    /// Proxies, this one included, that are there and that are not; the slots that this one owns, and until when it decides.
    pub(super) fn set_view(&self, [present, out]: [usize; 2], owned: usize, until: Duration) {
        self.proxies[0].store(present as u64, Relaxed);
        self.proxies[1].store(out as u64, Relaxed);
        self.owned_slots.store(owned as u64, Relaxed);
        let until = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
        self.decides_until.store(until, Relaxed);
    }

    /// Flows in the table, as they were counted last.
    pub(super) fn flows(&self) -> u64 {
        self.flows.load(Relaxed)
    }

    pub(super) fn set_flows(&self, flows: usize) {
        self.flows.store(flows as u64, Relaxed);
    }

    pub(super) fn set_undecided(&self, pending: usize, held_bytes: usize) {
        self.pending.store(pending as u64, Relaxed);
        self.held_bytes.store(held_bytes as u64, Relaxed);
    }

    pub(super) fn set_unanswered(&self, bytes: usize) {
        self.unanswered_bytes.store(bytes as u64, Relaxed);
    }

    fn value(&self, counter: Counter) -> u64 {
        self.counted
            .get(counter as usize)
            .map_or(0, |value| value.load(Relaxed))
    }

    pub(super) fn samples(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        let (mut punted, mut lost, mut bound) = (0, 0, self.value(Counter::FirstBind));
        for (role, counters) in [("proxy", &self.kernel), ("relay", &self.local)] {
            for c in counters.read() {
                let labels = [
                    ("role", role),
                    ("verdict", &c.verdict),
                    ("reason", &c.reason),
                ];
                samples.push(families::PACKETS.sample(&labels, c.packets));
                punted += if c.verdict == "punted" { c.packets } else { 0 };
                // By the kernel itself.
                bound += if c.verdict == "bound" { c.packets } else { 0 };
                lost += if c.reason == "ring_full" {
                    c.packets
                } else {
                    0
                };
            }
        }
        samples.push(families::PUNTS.sample(&[], punted));
        samples.push(families::RING_LOST.sample(&[("role", "proxy")], lost));
        samples.push(families::BINDS.sample(&[], bound));
        samples.push(families::REBINDS.sample(&[], self.value(Counter::Rebind)));
        let outcomes = [
            Counter::Released,
            Counter::Busy,
            Counter::Closed,
            Counter::UnknownFlow,
            Counter::ReleaseTimeout,
        ];
        samples.extend(outcomes.map(|outcome| {
            families::RELEASES.sample(&[("outcome", outcome.name())], self.value(outcome))
        }));
        samples.extend(
            Counter::ALL
                .iter()
                .map(|c| families::DECISIONS.sample(&[("event", c.name())], self.value(*c))),
        );
        let troubles = Trouble::ALL.map(|(t, kind)| {
            families::ERRORS.sample(&[("kind", kind)], self.troubles[t as usize].load(Relaxed))
        });
        samples.extend(troubles);
        let replicated = Replicated::ALL.map(|(outcome, name)| {
            let count = self.replicated[outcome as usize].load(Relaxed);
            families::REPLICAS.sample(&[("outcome", name)], count)
        });
        samples.extend(replicated);
        for (state, count) in [("in", &self.proxies[0]), ("out", &self.proxies[1])] {
            samples.push(families::PROXIES.sample(&[("state", state)], count.load(Relaxed)));
        }
        samples.push(families::OWNED_SLOTS.sample(&[], self.owned_slots.load(Relaxed)));
        let until = Duration::from_nanos(self.decides_until.load(Relaxed));
        let decides = u64::from(baton_kernel::monotonic() < until);
        samples.push(families::DECIDES.sample(&[], decides));
        samples.extend(self.heartbeats.samples("proxy"));
        samples.push(families::FLOWS.sample(&[("role", "proxy")], self.flows.load(Relaxed)));
        samples.push(families::PENDING_FLOWS.sample(&[], self.pending.load(Relaxed)));
        samples.push(families::UNANSWERED_BYTES.sample(&[], self.unanswered_bytes.load(Relaxed)));
        samples.push(families::HELD_BYTES.sample(&[], self.held_bytes.load(Relaxed)));
        samples
    }
}
