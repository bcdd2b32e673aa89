//! The access log: a line for each answer, written here because the answers do not pass the proxies.
//!
//! ```text
//!  BPF ingress: packets with requests --+-- ring buffer -> join (by bind and number) -> lines -> file
//!  BPF egress: where an answer ended  --+
//! ```
//!
//! One thread, which looks at the ring buffer every [`PERIOD`]; nobody wakes it.

mod file;
mod join;
mod line;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use baton_kernel::{Access, Answered, Backend, Events, Served, monotonic};

use super::has_socket;
use crate::admin::{Sample, families};
use crate::config::AccessLogOptions;
use file::LogFile;
use join::Join;

const PERIOD: Duration = Duration::from_millis(50);
/// A request that waits for its answer so long without a word may have lost its connection.
const IDLE: Duration = Duration::from_secs(5);

/// The thread that writes.
pub(super) struct AccessLog {
    orders: Arc<Orders>,
    numbers: Arc<Numbers>,
    thread: JoinHandle<()>,
}

/// What the thread is told.
struct Orders {
    options: Mutex<AccessLogOptions>,
    reopen: AtomicBool,
    stop: AtomicBool,
}

/// Lines.
#[derive(Default)]
pub(super) struct Numbers {
    written: AtomicU64,
    lost: AtomicU64,
}

impl AccessLog {
    /// `program` was loaded with a log.
    pub(super) fn start(program: &Backend, options: AccessLogOptions) -> Result<AccessLog> {
        let orders = Arc::new(Orders {
            options: Mutex::new(options),
            reopen: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let numbers = Arc::new(Numbers::default());
        let (queue, served) = (program.accesses()?, program.served()?);
        let (own_orders, own_numbers) = (orders.clone(), numbers.clone());
        let thread = std::thread::Builder::new().name("access-log".into()).spawn(move || match queue.open() {
            Ok(events) => run(&events, &served, &own_orders, &own_numbers),
            Err(error) => tracing::error!(%error, "the access log could not be started: nothing is written to it"),
        })?;
        Ok(AccessLog {
            orders,
            numbers,
            thread,
        })
    }

    /// The file is opened again (it may have been moved away), as `options` say now.
    pub(super) fn reopen(&self, options: AccessLogOptions) {
        *self.orders.options() = options;
        self.orders.reopen.store(true, Ordering::Relaxed);
    }

    pub(super) fn numbers(&self) -> Arc<Numbers> {
        self.numbers.clone()
    }

    /// Writes what there is, and ends.
    pub(super) fn stop(self) {
        self.orders.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
    }
}

impl Orders {
    fn options(&self) -> std::sync::MutexGuard<'_, AccessLogOptions> {
        self.options.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Numbers {
    pub(super) fn samples(&self) -> [Sample; 2] {
        [("written", &self.written), ("lost", &self.lost)].map(|(outcome, lines)| {
            let lines = lines.load(Ordering::Relaxed);
            families::ACCESS_LOG_LINES.sample(&[("outcome", outcome)], lines)
        })
    }
}

fn run(events: &Events<Access>, served: &Served, orders: &Orders, numbers: &Numbers) {
    let mut options = orders.options().clone();
    let mut file = LogFile::open(&options.path);
    let (mut join, mut batch, mut text) = (Join::default(), Vec::new(), Vec::new());
    let mut swept = Instant::now();
    loop {
        let last = orders.stop.load(Ordering::Relaxed);
        if orders.reopen.swap(false, Ordering::Relaxed) {
            options = orders.options().clone();
            file = LogFile::open(&options.path);
        }
        events.drain(&mut batch);
        let mut lines = Vec::new();
        for event in batch.drain(..) {
            join.take(event, &mut lines);
        }
        if swept.elapsed() > IDLE {
            swept = Instant::now();
            for (flow, key) in join.idle(monotonic(), IDLE) {
                match served.flow(&key).filter(|known| known.access.flow == flow) {
                    Some(_) if has_socket(&key) => join.still_there(flow, monotonic()),
                    known => join.end(flow, known.map(|known| unfinished(&known)), &mut lines),
                }
            }
        }
        // The time of day may be set while we run.
        let midnight = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let epoch = midnight.saturating_sub(monotonic());
        text.clear();
        for line in &lines {
            line.write(options.format, epoch, &mut text);
        }
        let (written, lost) = if file.write(&text) {
            (lines.len(), 0)
        } else {
            (0, lines.len())
        };
        numbers.written.fetch_add(written as u64, Ordering::Relaxed);
        numbers
            .lost
            .fetch_add(lost as u64 + join.take_lost(), Ordering::Relaxed);
        if last {
            return;
        }
        sleep(PERIOD);
    }
}

/// How far the answer came that a flow is in the middle of.
fn unfinished(flow: &baton_kernel::abi::served_flow) -> Answered {
    let has_head = flow.access.head_ns != 0;
    Answered {
        flow: flow.access.flow,
        number: flow.framing.answers.wrapping_add(1),
        status: has_head.then_some(flow.framing.status),
        bytes: if has_head {
            flow.access.position.saturating_sub(flow.access.body_at)
        } else {
            0
        },
        head: has_head.then(|| Duration::from_nanos(flow.access.head_ns)),
        end: Duration::from_nanos(flow.seen_ns),
    }
}
