//! What the proxy counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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
        samples.extend(self.heartbeats.samples("proxy"));
        samples.push(families::FLOWS.sample(&[("role", "proxy")], self.flows.load(Relaxed)));
        samples.push(families::PENDING_FLOWS.sample(&[], self.pending.load(Relaxed)));
        samples.push(families::UNANSWERED_BYTES.sample(&[], self.unanswered_bytes.load(Relaxed)));
        samples.push(families::HELD_BYTES.sample(&[], self.held_bytes.load(Relaxed)));
        samples
    }
}
