//! An answer's body on its way to the client.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::exchange::InProgress;
use crate::stats::{Stats, UpstreamError};
use crate::upstream::Upstream;
use crate::upstreams::Upstreams;

/// The body of any answer. Dropping it ends the exchange, and whatever of it is still under way.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    source: Source,
    /// `None` when a tunnel has it.
    in_progress: Option<InProgress>,
}

#[derive(Debug)]
enum Source {
    Own(Full<Bytes>),
    Server(Download),
}

impl AnswerBody {
    /// The relay's own words.
    pub(crate) fn own(text: Full<Bytes>, in_progress: Option<InProgress>) -> Self {
        Self {
            source: Source::Own(text),
            in_progress,
        }
    }

    /// What a server sends.
    pub(crate) fn server(download: Download, in_progress: InProgress) -> Self {
        Self {
            source: Source::Server(download),
            in_progress: Some(in_progress),
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        match &mut this.source {
            Source::Own(text) => Pin::new(text)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|never: Infallible| match never {}))),
            Source::Server(download) => {
                let frame = ready!(download.poll_frame(cx));
                if let (Some(Err(_)), Some(in_progress)) = (&frame, &this.in_progress) {
                    in_progress.broken();
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(text) => text.is_end_stream(),
            Source::Server(download) => download.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(text) => text.size_hint(),
            Source::Server(download) => download.incoming.size_hint(),
        }
    }
}

/// The rest of a server's answer, and the connection that it comes on.
#[derive(Debug)]
pub(crate) struct Download {
    incoming: Incoming,
    /// Taken when the answer is complete.
    upstream: Option<Box<Upstream>>,
    upstreams: Arc<Upstreams>,
    stats: Arc<Stats>,
}

impl Download {
    pub(crate) fn new(
        incoming: Incoming,
        upstream: Box<Upstream>,
        upstreams: Arc<Upstreams>,
        stats: Arc<Stats>,
    ) -> Self {
        let mut download = Self {
            incoming,
            upstream: Some(upstream),
            upstreams,
            stats,
        };
        download.release_if_complete();
        download
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        // Only the connection, which gets this task's waker, can bring more.
        let mut unwoken = Context::from_waker(Waker::noop());
        let mut polled = Pin::new(&mut self.incoming).poll_frame(&mut unwoken);
        if polled.is_pending() {
            if let Some(upstream) = &mut self.upstream {
                let _ = upstream.poll_drive(cx);
            }
            polled = Pin::new(&mut self.incoming).poll_frame(&mut unwoken);
        }
        match ready!(polled) {
            Some(Ok(frame)) if frame.is_data() => {
                self.release_if_complete();
                Poll::Ready(Some(Ok(frame)))
            }
            // Trailers are dropped: the client was not told of them.
            Some(Ok(_)) | None => {
                self.release();
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                self.stats.upstream_failed(UpstreamError::Broken);
                self.upstream = None;
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn release_if_complete(&mut self) {
        if self.incoming.is_end_stream() {
            self.release();
        }
    }

    fn release(&mut self) {
        if let Some(upstream) = self.upstream.take() {
            self.upstreams.give_back(upstream);
        }
    }
}
