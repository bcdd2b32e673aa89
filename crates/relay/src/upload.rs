//! A request's body on its way to the server.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::deadline::Deadline;

/// How long a server may leave an `Expect: 100-continue` unanswered; then the body is sent (RFC 9110, section 10.1.1).
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// Passes a client's body on, without trailers; `None` for a request without body.
#[derive(Debug)]
pub(crate) struct Upload(Option<Sending>);

#[derive(Debug)]
struct Sending {
    incoming: Incoming,
    progress: Arc<Progress>,
    /// Holds the body back until the server wants it. hyper says `100 Continue` to the client at the first read.
    held: Option<Deadline>,
}

/// What is known of a body while it is sent; shared with who waits for the answer.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Rises with each piece and at the end.
    steps: AtomicU64,
    /// The client has to send the next piece; otherwise it is the server's turn.
    on_client: AtomicBool,
    /// All of it was taken for sending.
    ended: AtomicBool,
    /// The server has said `100 Continue`.
    wanted: AtomicBool,
    waiting: AtomicWaker,
}

impl Upload {
    /// `held`: the request asks the server for `100 Continue`.
    pub(crate) fn new(incoming: Incoming, held: bool) -> Self {
        if incoming.is_end_stream() {
            return Self::none();
        }
        let held = held.then(|| {
            let mut deadline = Deadline::default();
            deadline.set(CONTINUE_TIMEOUT);
            deadline
        });
        Self(Some(Sending {
            incoming,
            progress: Arc::default(),
            held,
        }))
    }

    pub(crate) fn none() -> Self {
        Self(None)
    }

    pub(crate) fn progress(&self) -> Option<Arc<Progress>> {
        self.0.as_ref().map(|sending| Arc::clone(&sending.progress))
    }
}

impl Sending {
    fn poll_wanted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(deadline) = &mut self.held {
            self.progress.waiting.register(cx.waker());
            if !self.progress.wanted.load(Ordering::Acquire) {
                ready!(deadline.poll(cx));
            }
            self.held = None;
        }
        Poll::Ready(())
    }
}

impl Progress {
    /// Changes whenever the server gets something new to work on; `None` while the client is waited for.
    pub(crate) fn server_turn(&self) -> Option<u64> {
        (!self.on_client.load(Ordering::Relaxed)).then(|| self.steps.load(Ordering::Relaxed))
    }

    /// Whether the client has sent all of it.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// The server wants the body.
    pub(crate) fn want(&self) {
        self.wanted.store(true, Ordering::Release);
        self.waiting.wake();
    }

    fn record(&self, is_pending: bool, is_ended: bool) {
        self.on_client.store(is_pending, Ordering::Relaxed);
        self.ended.store(is_ended, Ordering::Relaxed);
        if !is_pending {
            self.steps.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let Some(sending) = &mut self.get_mut().0 else {
            return Poll::Ready(None);
        };
        ready!(sending.poll_wanted(cx));
        let polled = match Pin::new(&mut sending.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => Poll::Ready(None),
            other => other,
        };
        let is_ended = matches!(polled, Poll::Ready(None)) || sending.incoming.is_end_stream();
        sending.progress.record(polled.is_pending(), is_ended);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|sending| sending.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or(SizeHint::with_exact(0), |sending| {
            sending.incoming.size_hint()
        })
    }
}
