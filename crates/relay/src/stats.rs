//! What a relay counts.

use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;

/// Counters of one relay, for the metrics. All only grow, but those named `active`.
#[derive(Debug, Default)]
pub struct Stats {
    connections: AtomicU64,
    connections_active: AtomicU64,
    accept_errors: AtomicU64,
    requests_active: AtomicU64,
    answers: [AtomicU64; 5],
    upstream_connections: AtomicU64,
    upstream_reuses: AtomicU64,
    upstream_errors: [AtomicU64; UpstreamError::ALL.len()],
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
}

/// What can go wrong with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamError {
    /// It refused the connection, or could not be reached.
    Connect,
    /// Connecting took too long.
    ConnectTimeout,
    /// It closed or reset the connection before the head of its answer.
    Closed,
    /// Its answer is not HTTP/1.x.
    Malformed,
    /// The head of its answer did not come in time.
    ResponseTimeout,
    /// It broke in the middle of an answer.
    Broken,
}

impl UpstreamError {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Connect,
        Self::ConnectTimeout,
        Self::Closed,
        Self::Malformed,
        Self::ResponseTimeout,
        Self::Broken,
    ];

    /// A name for metrics, in snake case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::Closed => "closed",
            Self::Malformed => "malformed",
            Self::ResponseTimeout => "response_timeout",
            Self::Broken => "broken",
        }
    }
}

impl Stats {
    /// Client connections accepted.
    pub fn connections(&self) -> u64 {
        read(&self.connections)
    }

    /// Client connections open now.
    pub fn connections_active(&self) -> u64 {
        read(&self.connections_active)
    }

    /// Connections that could not be accepted, for want of file descriptors for example.
    pub fn accept_errors(&self) -> u64 {
        read(&self.accept_errors)
    }

    /// Requests that are not completely answered now.
    pub fn requests_active(&self) -> u64 {
        read(&self.requests_active)
    }

    /// Answers begun, with a status of `class` hundred (1 to 5); those of the relay itself included.
    pub fn answers(&self, class: u16) -> u64 {
        class
            .checked_sub(1)
            .and_then(|class| self.answers.get(usize::from(class)))
            .map_or(0, read)
    }

    /// Connections made to servers.
    pub fn upstream_connections(&self) -> u64 {
        read(&self.upstream_connections)
    }

    /// Requests sent on a connection that had served another.
    pub fn upstream_reuses(&self) -> u64 {
        read(&self.upstream_reuses)
    }

    /// Failures of servers.
    pub fn upstream_errors(&self, kind: UpstreamError) -> u64 {
        read(&self.upstream_errors[kind as usize])
    }

    /// Bytes from clients, heads included.
    pub fn bytes_received(&self) -> u64 {
        read(&self.bytes_received)
    }

    /// Bytes to clients, heads included.
    pub fn bytes_sent(&self) -> u64 {
        read(&self.bytes_sent)
    }

    pub(crate) fn connection_opened(&self) {
        add(&self.connections, 1);
        add(&self.connections_active, 1);
    }

    pub(crate) fn connection_closed(&self) {
        self.connections_active.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn accept_failed(&self) {
        add(&self.accept_errors, 1);
    }

    pub(crate) fn request_began(&self) {
        add(&self.requests_active, 1);
    }

    pub(crate) fn request_ended(&self) {
        self.requests_active.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn answered(&self, status: StatusCode) {
        if let Some(counter) = self
            .answers
            .get(usize::from(status.as_u16() / 100).wrapping_sub(1))
        {
            add(counter, 1);
        }
    }

    pub(crate) fn upstream_connected(&self) {
        add(&self.upstream_connections, 1);
    }

    pub(crate) fn upstream_reused(&self) {
        add(&self.upstream_reuses, 1);
    }

    pub(crate) fn upstream_failed(&self, kind: UpstreamError) {
        add(&self.upstream_errors[kind as usize], 1);
    }

    pub(crate) fn received(&self, bytes: usize) {
        add(&self.bytes_received, bytes as u64);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        add(&self.bytes_sent, bytes as u64);
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn add(counter: &AtomicU64, value: u64) {
    counter.fetch_add(value, Ordering::Relaxed);
}
