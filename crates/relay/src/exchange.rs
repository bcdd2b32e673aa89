//! Where a client connection stands between a request and its answer.
//!
//! [`ClientIo`](crate::client::ClientIo), which reads requests, and the [`Forwarder`](crate::forward::Forwarder), which
//! answers them, sit on two sides of hyper; this is what they know of each other.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use baton_packet::RequestHead;

use crate::stats::Stats;

/// Shared by the two sides of one client connection.
#[derive(Debug)]
pub(crate) struct Exchange {
    state: Mutex<State>,
    stats: Arc<Stats>,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    head: Option<RequestHead>,
    reader: Option<Waker>,
    broken: bool,
}

/// What the client is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Phase {
    /// Nothing: it may send the next request.
    #[default]
    Idle,
    /// An answer that has not begun.
    Waiting,
    /// The rest of an answer.
    Answering,
}

impl Exchange {
    pub(crate) fn new(stats: Arc<Stats>) -> Self {
        Self {
            state: Mutex::default(),
            stats,
        }
    }

    /// A request begins; its head waits for the answering side.
    pub(crate) fn begin(&self, head: RequestHead) {
        let mut state = self.state();
        state.phase = Phase::Waiting;
        state.head = Some(head);
    }

    /// The head of the request that began, and the duty to answer it. `None` if none did.
    pub(crate) fn accept(self: &Arc<Self>) -> Option<(RequestHead, InProgress)> {
        let head = self.state().head.take()?;
        self.stats.request_began();
        Some((head, InProgress(Arc::clone(self))))
    }

    pub(crate) fn phase(&self) -> Phase {
        self.state().phase
    }

    /// Ready between requests; else the task is woken at the end of the present one.
    pub(crate) fn poll_idle(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.phase == Phase::Idle {
            return Poll::Ready(());
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether an answer broke off, so that the client must not take it for complete.
    pub(crate) fn is_broken(&self) -> bool {
        self.state().broken
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is not completely answered; dropping it ends the exchange.
#[derive(Debug)]
pub(crate) struct InProgress(Arc<Exchange>);

impl InProgress {
    /// The answer begins.
    pub(crate) fn answering(&self) {
        self.0.state().phase = Phase::Answering;
    }

    /// The answer breaks off.
    pub(crate) fn broken(&self) {
        self.0.state().broken = true;
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        let reader = {
            let mut state = self.0.state();
            state.phase = Phase::Idle;
            state.reader.take()
        };
        self.0.stats.request_ended();
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}
