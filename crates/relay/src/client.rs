//! The client's side of a connection: bytes between its socket and hyper.
//!
//! hyper is handed one request at a time: the head once it is complete and `baton-packet` has found it unambiguous,
//! then its body. What comes behind waits until the request is answered. Where hyper would close without a word, or
//! with a bare status, the reason is written here when hyper shuts the connection down.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use baton_packet::{Parsed, RequestHead};
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};
use tokio::net::TcpStream;

use crate::buffer::Buffer;
use crate::deadline::Deadline;
use crate::errors::Failure;
use crate::exchange::{Exchange, Phase};
use crate::framing::Framing;
use crate::limits::Limits;
use crate::stats::Stats;

/// A client that has closed its sending side may only have finished asking, or be gone: TCP does not tell. It has this
/// long to be sent the beginning of its answer; later, its kernel's reset tells the two apart.
const HALF_CLOSE_GRACE: Duration = Duration::from_secs(1);

/// How long the rest of what a refused client sends is read, so that a reset does not overtake the answer.
const LINGER: Duration = Duration::from_secs(2);

/// A client's socket as hyper sees it.
#[derive(Debug)]
pub(crate) struct ClientIo {
    stream: Take<TcpStream>,
    /// Bytes that were read and not passed on yet.
    ahead: Buffer,
    /// How much of `ahead` was searched for a head's end, and the length at which parsing it without one is worthwhile:
    /// a head that trickles in must not cost its square.
    searched: usize,
    parse_at: usize,
    reading: Reading,
    /// The client has closed its sending side.
    ended: bool,
    patience: Patience,
    deadline: Deadline,
    write_deadline: Deadline,
    write_blocked: bool,
    last_words: Bytes,
    exchange: Arc<Exchange>,
    limits: Limits,
    stats: Arc<Stats>,
}

/// What the next bytes are.
#[derive(Debug)]
enum Reading {
    /// A request head.
    Head,
    /// The rest of a checked head, so many bytes of `ahead`, then a body.
    Checked(usize, Framing),
    /// A body.
    Body(Framing),
    /// Another protocol.
    Tunnel,
    /// Nothing that interests anyone.
    Closing,
}

/// What the deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    Unset,
    Idle,
    Head,
    HalfClosed,
    Body,
    Linger,
}

impl ClientIo {
    pub(crate) fn new(
        stream: TcpStream,
        exchange: Arc<Exchange>,
        limits: Limits,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            stream: stream.take(u64::MAX),
            ahead: Buffer::default(),
            searched: 0,
            parse_at: 0,
            reading: Reading::Head,
            ended: false,
            patience: Patience::Unset,
            deadline: Deadline::default(),
            write_deadline: Deadline::default(),
            write_blocked: false,
            last_words: Bytes::new(),
            exchange,
            limits,
            stats,
        }
    }

    /// From here on all bytes are passed on as they come.
    pub(crate) fn into_tunnel(mut self) -> Self {
        self.reading = Reading::Tunnel;
        self
    }

    /// Waits for a complete head; false when there will be none.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            if self.exchange.phase() != Phase::Idle {
                ready!(self.poll_answered(cx))?;
                if self.exchange.phase() != Phase::Idle {
                    return Poll::Ready(Ok(false));
                }
                self.patience = Patience::Unset;
            }
            match self.parse() {
                Ok(Some((head, framing))) => {
                    self.reading = Reading::Checked(head.head_len, framing);
                    self.patience = Patience::Unset;
                    (self.searched, self.parse_at) = (0, 0);
                    self.exchange.begin(head);
                    return Poll::Ready(Ok(true));
                }
                Ok(None) if self.ended => return Poll::Ready(Ok(false)),
                Ok(None) => {}
                Err(failure) => return Poll::Ready(Ok(self.refuse(&failure))),
            }
            match self.poll_fill(cx)? {
                Poll::Ready(()) => {}
                Poll::Pending if self.ahead.is_empty() => {
                    ready!(self.poll_patience(cx, Patience::Idle));
                    return Poll::Ready(Ok(false));
                }
                Poll::Pending => {
                    ready!(self.poll_patience(cx, Patience::Head));
                    return Poll::Ready(Ok(self.refuse(&Failure::SlowHead)));
                }
            }
        }
    }

    /// Waits until the present request is answered, or its client is given up.
    fn poll_answered(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.ended && self.ahead.is_empty() {
            ready!(self.poll_fill(cx))?;
        }
        if self.exchange.poll_idle(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if self.ended && self.exchange.phase() == Phase::Waiting {
            return self.poll_patience(cx, Patience::HalfClosed).map(Ok);
        }
        Poll::Pending
    }

    fn parse(&mut self) -> Result<Option<(RequestHead, Framing)>, Failure> {
        let (bytes, max) = (self.ahead.bytes(), self.limits.max_head_bytes);
        let new = bytes
            .get(self.searched.saturating_sub(3)..)
            .unwrap_or_default();
        let ends = new.windows(4).any(|four| four == b"\r\n\r\n");
        self.searched = bytes.len();
        if bytes.is_empty() || (!ends && bytes.len() < self.parse_at.min(max)) {
            return Ok(None);
        }
        match RequestHead::parse(bytes).map_err(Failure::BadHead)? {
            Parsed::Complete(head) if head.head_len > max => Err(Failure::LongHead),
            Parsed::Complete(head) if head.method == "CONNECT" => Err(Failure::ConnectMethod),
            Parsed::Complete(head) => {
                let framing = Framing::of(&head);
                Ok(Some((head, framing)))
            }
            Parsed::Partial if bytes.len() > max => Err(Failure::LongHead),
            Parsed::Partial => {
                self.parse_at = bytes.len() * 2;
                Ok(None)
            }
        }
    }

    /// Reads some bytes into `ahead`, or learns that there are no more.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.set_limit(u64::MAX);
        let mut room = ReadBuf::new(self.ahead.room());
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room))?;
        let count = room.filled().len();
        self.ahead.added(count);
        self.stats.received(count);
        self.ended = count == 0;
        Poll::Ready(Ok(()))
    }

    /// Passes on bytes of a body.
    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Reading::Body(framing) = &mut self.reading else {
            return Poll::Ready(Ok(()));
        };
        if !self.ahead.is_empty() {
            let bytes = self.ahead.bytes();
            let bytes = &bytes[..bytes.len().min(buf.remaining())];
            let count = framing.advance(bytes).map_err(io::Error::other)?;
            buf.put_slice(&bytes[..count]);
            self.ahead.consume(count);
            return Poll::Ready(Ok(()));
        }
        // Of a body with a length, no byte behind it is read; of chunks, some may be, and are put back.
        self.stream
            .set_limit(if let Framing::Length(left) = framing {
                *left
            } else {
                u64::MAX
            });
        let before = buf.filled().len();
        if Pin::new(&mut self.stream).poll_read(cx, buf)?.is_pending() {
            ready!(self.poll_patience(cx, Patience::Body));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.patience = Patience::Unset;
        let bytes = &buf.filled()[before..];
        self.stats.received(bytes.len());
        self.ended = bytes.is_empty();
        let count = framing.advance(bytes).map_err(io::Error::other)?;
        if count < bytes.len() {
            self.ahead.push(&bytes[count..]);
            buf.set_filled(before + count);
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the client has been waited for long enough.
    fn poll_patience(&mut self, cx: &mut Context<'_>, patience: Patience) -> Poll<()> {
        if self.patience != patience {
            self.patience = patience;
            self.deadline.set(match patience {
                Patience::Head => self.limits.head_timeout,
                Patience::HalfClosed => HALF_CLOSE_GRACE,
                Patience::Linger => LINGER,
                Patience::Unset | Patience::Idle | Patience::Body => self.limits.idle_timeout,
            });
        }
        self.deadline.poll(cx)
    }

    /// Ends the connection for hyper; what is said to the client follows what it is still owed.
    fn refuse(&mut self, failure: &Failure) -> bool {
        self.stats.answered(failure.status());
        self.last_words = failure.last_words();
        self.reading = Reading::Closing;
        false
    }

    /// Counts what was written; a client that takes nothing for too long is given up.
    fn poll_written(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(count)) => {
                self.stats.sent(count);
                self.write_blocked = false;
                Poll::Ready(Ok(count))
            }
            Poll::Pending if !matches!(self.reading, Reading::Tunnel) => {
                if !self.write_blocked {
                    self.write_blocked = true;
                    self.write_deadline.set(self.limits.idle_timeout);
                }
                ready!(self.write_deadline.poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            other => other,
        }
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.reading {
                Reading::Head => {
                    if !ready!(this.poll_head(cx))? {
                        return Poll::Ready(Ok(()));
                    }
                }
                Reading::Checked(left, framing) => {
                    let count = buf.remaining().min(*left);
                    buf.put_slice(&this.ahead.bytes()[..count]);
                    this.ahead.consume(count);
                    *left -= count;
                    if *left == 0 {
                        let framing = std::mem::replace(framing, Framing::Length(0));
                        this.reading = Reading::Body(framing);
                    }
                    return Poll::Ready(Ok(()));
                }
                Reading::Body(framing) if framing.is_complete() => this.reading = Reading::Head,
                Reading::Body(_) => return this.poll_body(cx, buf),
                Reading::Tunnel if this.ahead.is_empty() => {
                    this.stream.set_limit(u64::MAX);
                    let before = buf.filled().len();
                    ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
                    this.stats.received(buf.filled().len() - before);
                    return Poll::Ready(Ok(()));
                }
                Reading::Tunnel => {
                    let count = buf.remaining().min(this.ahead.bytes().len());
                    buf.put_slice(&this.ahead.bytes()[..count]);
                    this.ahead.consume(count);
                    return Poll::Ready(Ok(()));
                }
                Reading::Closing => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(this.stream.get_mut()).poll_write(cx, bytes);
        this.poll_written(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(this.stream.get_mut()).poll_write_vectored(cx, slices);
        this.poll_written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().stream.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.last_words.has_remaining() {
            let written = Pin::new(this.stream.get_mut()).poll_write(cx, &this.last_words);
            let count = ready!(this.poll_written(cx, written))?;
            this.last_words.advance(count);
        }
        ready!(Pin::new(this.stream.get_mut()).poll_shutdown(cx))?;
        if matches!(this.reading, Reading::Tunnel)
            || (matches!(this.reading, Reading::Head) && this.ahead.is_empty())
        {
            return Poll::Ready(Ok(()));
        }
        // Closing a socket with unread bytes sends a reset, which would take the answer from the client.
        while !this.ended {
            this.ahead.consume(this.ahead.bytes().len());
            if this.poll_fill(cx)?.is_pending() {
                ready!(this.poll_patience(cx, Patience::Linger));
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for ClientIo {
    fn drop(&mut self) {
        if self.exchange.is_broken() {
            // A reset: an answer that ends with its connection would look complete otherwise.
            let _ = self.stream.get_ref().set_zero_linger();
        }
    }
}
