use std::net::IpAddr;
use std::time::Duration;

use baton_packet::{FlowKey, RequestHead, Segment, Seq};
use baton_policy::{PoolId, ServerId};
use baton_wire::{Ask, Bind, Notice, Release, ReleaseAnswer, Truth};
use bytes::Bytes;

use crate::{ClientOptions, Entry, PeerId, Target};

/// The time of an event.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// A monotonic clock, the kernel's (`CLOCK_MONOTONIC`).
    pub mono: Duration,
    /// The cluster's clock (ms), in which TSvals are given.
    pub clock_ms: u32,
}

/// The kernel's table of flows.
pub trait Table {
    /// What the kernel knows of this flow now.
    fn entry(&self, key: &FlowKey) -> Option<Entry>;

    /// The bytes of a request that the kernel was taught ([`Action::Learn`]) and decided by itself, by its hash ([`Entry::known`]); as long as
    /// they are remembered.
    fn recall(&self, known: u64) -> Option<Bytes>;
}

/// Chooses where a request goes.
pub trait Decide {
    /// Where a request to VIP number `vip` goes.
    ///
    /// `present`: the server that has the flow; it is chosen again if the request's pool has it and nothing speaks
    /// against it. `excluded` servers have refused this request. The server's kernel must take `options` over. A request that cannot be routed
    /// goes to the relay.
    fn decide(
        &mut self,
        vip: u16,
        head: &RequestHead,
        client: IpAddr,
        options: &ClientOptions,
        present: Option<ServerId>,
        excluded: &[ServerId],
    ) -> Choice;

    /// Whether a holder of flows is out: what it has is lost. This node's relay never is.
    fn is_out(&self, holder: Target) -> bool;

    /// All that may have flows and can be asked: the back ends with an agent, and the other proxies if they answer for their relays, that are not
    /// out.
    fn holders(&self) -> Vec<Target>;
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// There.
    pub to: Target,
    /// The pool that every request with the same head routes to, at whichever of its servers the flow is.
    pub pool: Option<PoolId>,
}

/// A request that the kernel may decide itself from now on: one whole request in one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lesson {
    /// Index of the VIP.
    pub vip: u16,
    /// All its bytes.
    pub request: Bytes,
    /// Where it goes. A flow that is at one of this pool's servers stays.
    pub pool: PoolId,
    /// It is a HEAD.
    pub is_head_method: bool,
}

/// What bounds the owner in time and memory.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// What has arrived of an incomplete request head is acknowledged after this time: its client may wait for that.
    pub ack_wait: Duration,
    /// An incomplete request head is given to the relay after this time.
    pub head_wait: Duration,
    /// A server that does not answer a release for so long costs the flow a reset.
    pub release_timeout: Duration,
    /// A longer request head is given to the relay (bytes).
    pub max_head_bytes: usize,
    /// Undecided requests held in all (bytes).
    pub max_held_bytes: usize,
    /// The window scale that the SYN-ACK promises to clients.
    pub promised_wscale: u8,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A client's segment that the kernel does not decide about.
    Segment {
        /// The flow.
        key: FlowKey,
        /// Index of its VIP.
        vip: u16,
        /// The segment.
        segment: Segment,
        /// It opened the SYN cookie: a first segment, with these options.
        fresh: Option<ClientOptions>,
        /// Somebody else may have decided meanwhile, so it is asked first. A first segment (`fresh`): its handshake is older than the term (its
        /// TSecr is from before; without timestamps: the cookie's slot began before). Another one of a bound flow, at a boundary: it
        /// acknowledges what by the entry cannot have been sent, for the acknowledgements before went by other proxies.
        doubt: bool,
    },
    /// Somebody who may have a flow answers an [`Action::Ask`].
    Truth {
        /// Who: the node that the answer came from.
        from: Target,
        /// What it says.
        truth: Truth,
    },
    /// Another proxy has this kept: bytes of a request that the client will not send again. Answered by [`Action::Kept`].
    Keep {
        /// That proxy.
        from: PeerId,
        /// The flow.
        key: FlowKey,
        /// Its entry there.
        entry: Entry,
        /// The bytes.
        segment: Segment,
        /// The client is told that all before this has arrived, or will be.
        end: Seq,
    },
    /// The successor answers an [`Action::Keep`].
    Kept {
        /// The flow.
        key: FlowKey,
        /// All before this is kept.
        end: Seq,
    },
    /// A server answers a release.
    Answer(ReleaseAnswer),
    /// A server tells what happened to a bind.
    Notice(Notice),
    /// Who has the flow is out: a back end, or the proxy whose relay has it.
    Lost {
        /// The flow.
        key: FlowKey,
        /// Who has it.
        holder: Target,
    },
}

/// Something to do, in the given order and before the next event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write the kernel's entry.
    Put(FlowKey, Entry),
    /// Send a segment behind a bind header. It may be longer than an MSS.
    Bind {
        /// Where.
        to: Target,
        /// The flow.
        key: FlowKey,
        /// The flow's state after this segment.
        header: Bind,
        /// The client's bytes.
        segment: Segment,
    },
    /// Send a segment as the kernel would have.
    Forward {
        /// Where.
        to: Target,
        /// The flow.
        key: FlowKey,
        /// The client's segment.
        segment: Segment,
    },
    /// Ask a server to let a flow go.
    Release {
        /// The server that has the flow.
        to: ServerId,
        /// What it is asked.
        request: Release,
    },
    /// Ask what is known of a flow. The answer is an [`Event::Truth`]; the question comes again, to those that have not answered, until they
    /// have or are out.
    Ask {
        /// A back end, or another proxy: it knows the flows of its relay.
        to: Target,
        /// The question.
        ask: Ask,
    },
    /// Send the client's segment to the proxy that decides for it (wire kind 7).
    Pass {
        /// That proxy.
        to: PeerId,
        /// The flow.
        key: FlowKey,
        /// The client's segment.
        segment: Segment,
    },
    /// Have bytes of a request kept (wire kind 11).
    Keep {
        /// The proxy that decides next, or from now on.
        to: PeerId,
        /// The flow.
        key: FlowKey,
        /// Its entry.
        entry: Entry,
        /// The bytes: at most [`MAX_KEPT`](baton_wire::MAX_KEPT) of them.
        segment: Segment,
        /// The client is told that all before this has arrived, or will be.
        end: Seq,
    },
    /// Say that bytes are kept (wire kind 12).
    Kept {
        /// The proxy that asked for it.
        to: PeerId,
        /// The flow.
        key: FlowKey,
        /// All before this is kept.
        end: Seq,
    },
    /// Say this to the client, as its server.
    Say {
        /// The flow.
        key: FlowKey,
        /// What is said.
        segment: Segment,
    },
    /// Reset the client's connection. What still comes of it the kernel answers by its entry.
    Reset {
        /// The flow.
        key: FlowKey,
        /// Sequence number of the RST: what the client expects next.
        seq: Seq,
        /// What has arrived of the client's bytes.
        ack: Seq,
    },
    /// What the kernel may do by itself the next time.
    Learn(Lesson),
    /// One more of these.
    Count(Counter),
}

macro_rules! counters {
    ($($(#[$meaning:meta])* $name:ident = $label:literal,)*) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Counter {
            $($(#[$meaning])* $name,)*
        }

        impl Counter {
            /// All of them.
            pub const ALL: &[Counter] = &[$(Counter::$name,)*];

            /// Its name in the metrics.
            pub fn name(self) -> &'static str {
                match self {
                    $(Counter::$name => $label,)*
                }
            }
        }
    };
}

counters! {
    /// A first request was given to a server.
    FirstBind = "first_bind",
    /// A later request was given to another server.
    Rebind = "rebind",
    /// A later request was given to the server that has the flow.
    Stay = "stay",
    /// A flow was given to the relay.
    ToRelay = "to_relay",
    /// A release was asked (repetitions count).
    ReleaseAsked = "release_asked",
    /// A server let go of a flow.
    Released = "released",
    /// A server was not yet ready to let go.
    Busy = "busy",
    /// A server had closed the connection.
    Closed = "closed",
    /// A server did not know the flow that the table has there.
    UnknownFlow = "unknown_flow",
    /// A server did not answer releases.
    ReleaseTimeout = "release_timeout",
    /// A flow's server was out.
    ServerLost = "server_lost",
    /// A request whose server was out was given to another.
    AskedAnother = "asked_another",
    /// The client's connection was reset.
    Reset = "reset",
    /// The client's connection was begun anew while the old one lived.
    Reused = "reused",
    /// A server refused a bind.
    Refused = "refused",
    /// A server's socket is gone.
    Gone = "gone",
    /// Bytes that are no request head.
    BadHead = "bad_head",
    /// A request head that was not complete in time.
    SlowHead = "slow_head",
    /// A part of a request head was acknowledged.
    Acknowledged = "acknowledged",
    /// What had been acknowledged was sent to the server again, which had not yet confirmed it.
    Repeated = "repeated",
    /// What had been acknowledged could not be delivered.
    Undelivered = "undelivered",
    /// A segment was sent again with its header.
    SentAgain = "sent_again",
    /// What was held of a flow was forgotten: its server never became ready, or its entry is gone. The client's TCP sends
    /// it again.
    Forgotten = "forgotten",
    /// Somebody was asked about a flow that another proxy may have decided (repetitions count).
    Asked = "asked",
    /// What was asked is known.
    Confirmed = "confirmed",
    /// A segment was passed to the proxy that decides for it.
    Passed = "passed",
    /// A flow's proxy was out, and its relay with it.
    RelayLost = "relay_lost",
    /// Dropped: a segment of a flow that this node must not decide for now: no majority of the proxies has it.
    NotDeciding = "not_deciding",
    /// Dropped: a segment of an unknown flow, when too many were asked about.
    NotAsked = "not_asked",
    /// Dropped: a segment of a flow that is not in the table, or was reset.
    NoEntry = "no_entry",
    /// Dropped: a segment without ACK, or with SYN or RST, of a flow that no server has.
    BadFlags = "bad_flags",
    /// Dropped: a segment that would exceed a limit of held bytes.
    OverLimit = "over_limit",
    /// Ignored: an answer or a notice about another bind than the present one.
    Stale = "stale",
}
