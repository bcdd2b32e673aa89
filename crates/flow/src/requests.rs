use baton_packet::{BodyLength, Parsed, RequestHead};
use baton_policy::PoolId;

use crate::{Choice, Target};

/// Longest request that is followed by its length; longer ones pin the flow. Sequence numbers compare within 2^31.
const MAX_FOLLOWED: u64 = 1 << 30;

/// Methods that may be executed twice (RFC 9110 9.2.2).
const IDEMPOTENT: [&str; 5] = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"];

/// What stands where a request must begin.
pub(crate) enum Found {
    /// Nothing, or the beginning of a head.
    Partial,
    /// A whole head.
    Head(RequestHead),
    /// No request that can be routed.
    Bad,
}

/// Reads the head at the beginning of `bytes`.
pub(crate) fn read(bytes: &[u8], max_head_bytes: usize) -> Found {
    match RequestHead::parse(bytes) {
        Ok(Parsed::Complete(head)) if head.head_len <= max_head_bytes => Found::Head(head),
        Ok(Parsed::Partial) if bytes.len() <= max_head_bytes => Found::Partial,
        _ => Found::Bad,
    }
}

/// Whether it may be executed twice.
pub(crate) fn is_idempotent(head: &RequestHead) -> bool {
    IDEMPOTENT.contains(&head.method.as_str())
}

/// Requests that follow one another in the stream and go to one server together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) to: Target,
    /// Its pool, if it is one request alone.
    pub(crate) pool: Option<PoolId>,
    /// How many.
    pub(crate) requests: u32,
    /// Bit i: the last but i is a HEAD.
    pub(crate) bodiless: u32,
    /// From the first one's beginning to where the next request begins (bytes).
    pub(crate) length: u32,
    /// Where the last one ends is not known: everything from here on belongs to it.
    pub(crate) pinned: bool,
    /// All may be executed twice (RFC 9110 9.2.2).
    pub(crate) idempotent: bool,
}

impl Batch {
    /// A first request.
    pub(crate) fn new(choice: Choice, head: &RequestHead) -> Batch {
        let Choice { to, pool } = choice;
        let mut batch = Batch {
            to,
            pool: None,
            requests: 0,
            bodiless: 0,
            length: 0,
            pinned: to == Target::Relay,
            idempotent: true,
        };
        batch.add(head);
        Batch { pool, ..batch }
    }

    /// Whatever the bytes are, the relay deals with them.
    pub(crate) fn for_relay() -> Batch {
        Batch {
            to: Target::Relay,
            pool: None,
            requests: 1,
            bodiless: 0,
            length: 0,
            pinned: true,
            idempotent: false,
        }
    }

    /// One more request behind the others.
    pub(crate) fn add(&mut self, head: &RequestHead) {
        self.pool = None;
        self.requests += 1;
        self.idempotent &= is_idempotent(head);
        self.bodiless = self.bodiless << 1 | u32::from(head.is_head_method());
        let body = match head.body {
            BodyLength::Length(length) => Some(length),
            BodyLength::Chunked | BodyLength::Tunnel => None,
        };
        let length =
            body.and_then(|body| body.checked_add(u64::from(self.length) + head.head_len as u64));
        match length.filter(|length| *length <= MAX_FOLLOWED) {
            Some(length) => self.length = length as u32,
            None => {
                self.length += head.head_len as u32;
                self.pinned = true;
            }
        }
    }
}
