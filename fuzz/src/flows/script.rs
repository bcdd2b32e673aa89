//! What the bytes of an input mean.

use arbitrary::Arbitrary;
use baton_packet::Seq;
use baton_wire::{Outcome, What};

/// What happens, in order.
#[derive(Arbitrary, Debug)]
pub(super) struct Script {
    pub(super) budget: Budget,
    pub(super) messages: Vec<Message>,
    pub(super) steps: Vec<Step>,
}

/// Small limits, which are soon met.
#[derive(Arbitrary, Debug)]
pub(super) struct Budget {
    pub(super) head: u8,
    pub(super) held: u16,
}

/// What the clients' streams consist of.
#[derive(Arbitrary, Debug)]
pub(super) enum Message {
    Get { pool: u8 },
    Head { pool: u8 },
    Post { pool: u8, body: u16 },
    Chunked { pool: u8 },
    Upgrade { pool: u8 },
    LongHead { pool: u8, padding: u8 },
    Bytes([u8; 5]),
}

#[derive(Arbitrary, Debug)]
pub(super) enum Step {
    Client(Client),
    Server(Server),
    Kernel {
        flow: u8,
        change: Kernel,
    },
    Time {
        ms: u16,
    },
    Budget(Budget),
    /// A server is out; if it is already, it is heard again.
    Health {
        server: u8,
    },
}

/// A segment that the kernel punts.
#[derive(Arbitrary, Debug)]
pub(super) struct Client {
    pub(super) flow: u8,
    pub(super) anew: bool,
    pub(super) fresh: bool,
    pub(super) ahead: i8,
    pub(super) length: u16,
    pub(super) flags: u8,
    pub(super) acknowledges: u8,
    pub(super) timestamps: bool,
    pub(super) ack_clock: u8,
}

/// Bits of `stale` are turned in what identifies the bind.
#[derive(Arbitrary, Debug)]
pub(super) enum Server {
    Answers {
        flow: u8,
        outcome: Answer,
        ack: u8,
        stale: u8,
    },
    Tells {
        flow: u8,
        what: Tale,
        stale: u8,
    },
    /// Answers what it was asked when it was heard again.
    Settles {
        outcome: Answer,
        ack: u8,
    },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Answer {
    Released,
    Busy,
    Closed,
    Unknown,
}

impl Answer {
    pub(super) fn at(self, ack: Seq) -> Outcome {
        match self {
            Answer::Released => Outcome::Released { ack },
            Answer::Busy => Outcome::Busy,
            Answer::Closed => Outcome::Closed,
            Answer::Unknown => Outcome::Unknown,
        }
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Tale {
    Ready,
    Gone,
    Refused(u8),
    Unknown,
    Taken,
}

impl From<Tale> for What {
    fn from(tale: Tale) -> What {
        match tale {
            Tale::Ready => What::Ready,
            Tale::Gone => What::Gone,
            Tale::Refused(reason) => What::Refused { reason },
            Tale::Unknown => What::Unknown,
            Tale::Taken => What::Taken,
        }
    }
}

#[derive(Arbitrary, Debug)]
pub(super) enum Kernel {
    Forgets,
    Closing,
    Reused,
    Acknowledged {
        bytes: u8,
        window: u16,
        rtt: Option<u8>,
    },
}
