use std::time::Duration;

use baton_packet::Seq;
use baton_policy::ServerId;
use baton_wire::{Bind, Scales};

/// Where a flow's packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// To this back end.
    Server(ServerId),
    /// To this node's user-space relay, which also answers what cannot be routed (400, 404, 408, 431, 503).
    Relay,
    /// To another proxy, whose relay has it (`FLOW_ELSEWHERE`). Such a flow is pinned, and ends with that proxy.
    Peer(PeerId),
}

/// A proxy: its place in [`View::proxies`](crate::View::proxies), and in the kernel's map `peers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u16);

/// What was agreed with the client in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// The client's MSS (bytes).
    pub mss: u16,
    /// The client's window scale; `None`: neither side scales.
    pub wscale: Option<u8>,
    /// Selective acknowledgements.
    pub sack: bool,
    /// Timestamps.
    pub timestamps: bool,
}

/// A flow as the kernel's table holds it: `struct flow_entry` of `bpf/include/abi.h`.
///
/// While the flow is undecided, `bind_seq` and `bind_ack` are where it will be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where packets go; `None`: undecided (`FLOW_PENDING`), payload comes to user space. [`Target::Relay`] is `FLOW_LOCAL`.
    pub bound: Option<Target>,
    /// The boundary is at infinity: nothing is parsed any more.
    pub pinned: bool,
    /// The server has the newest bind header.
    pub confirmed: bool,
    /// A SYN came for it: first segments are checked for a new flow.
    pub reused: bool,
    /// A FIN or RST passed.
    pub closing: bool,
    /// The connection was reset (`FLOW_RESET`): the kernel answers what still comes of it with resets, and nobody has it.
    pub reset: bool,
    /// Number of the present (or last) bind, 0 before the first: the cluster clock when it was made, and above the one before.
    pub epoch: u32,
    /// Client sequence number at which its next request begins.
    pub boundary: Seq,
    /// Client sequence number at which the flow was bound.
    pub bind_seq: Seq,
    /// Server sequence number at which the flow was bound.
    pub bind_ack: Seq,
    /// Client bytes from here to `header_end` need the bind header until the flow is confirmed.
    pub unconfirmed: Seq,
    /// See `unconfirmed`.
    pub header_end: Seq,
    /// Confirmed once the client acknowledges more than this. Only a bind is confirmed so: behind a later header answers to earlier requests may
    /// still be on their way, and their acknowledgements say nothing of it.
    pub header_ack: Seq,
    /// Requests since the bind.
    pub requests: u32,
    /// Bit i: request number `requests - i` is a HEAD.
    pub bodiless: u32,
    /// Newest acknowledgement number of the client.
    pub newest_ack: Seq,
    /// Newest TSval of the client.
    pub newest_tsval: u32,
    /// Smallest round trip seen (ms).
    pub min_rtt_ms: Option<u32>,
    /// Newest window of the client, not scaled.
    pub window: u16,
    /// What was agreed with the client.
    pub options: ClientOptions,
    /// Index of the VIP.
    pub vip: u16,
    /// Sequence number of the segment that opened the cookie, the connection's first.
    pub first_seq: Seq,
    /// Its acknowledgement number.
    pub first_ack: Seq,
    /// When the newest packet came (the kernel's monotonic clock).
    pub seen: Duration,
    /// Bytes from the boundary on are held here: the kernel must not decide by itself what begins there.
    pub claimed: bool,
    /// Hash of the newest request, if the kernel decided it; else 0.
    pub known: u64,
    /// The term ([`View::term`](crate::View::term)) in which this node decided it or had it confirmed. 0: never; it came from another node.
    pub term: u32,
}

impl Entry {
    /// Client sequence number at which the next bytes for a decision begin.
    pub(crate) fn next_request(&self) -> Seq {
        if self.bound.is_some() {
            self.boundary
        } else {
            self.bind_seq
        }
    }

    /// The same flow, held by no server: the next bind is made here.
    pub(crate) fn undecided_at(self, seq: Seq, ack: Seq) -> Entry {
        Entry {
            bound: None,
            pinned: false,
            confirmed: false,
            boundary: seq,
            bind_seq: seq,
            bind_ack: ack,
            unconfirmed: seq,
            header_end: seq,
            header_ack: ack,
            requests: 0,
            bodiless: 0,
            claimed: false,
            known: 0,
            ..self
        }
    }

    /// The number of the next bind. Agents take a higher one for newer (wrapping), also when this proxy has forgotten
    /// the flow in between: hence the clock.
    pub(crate) fn next_epoch(&self, clock_ms: u32) -> u32 {
        let clock_is_ahead = self.epoch == 0 || Seq(clock_ms).after(Seq(self.epoch));
        let next = if clock_is_ahead {
            clock_ms
        } else {
            self.epoch.wrapping_add(1)
        };
        next.max(1)
    }

    /// Whether the server is known to have adopted the present bind: the client has acknowledged something of its answers.
    pub(crate) fn is_adopted(&self) -> bool {
        self.bound.is_some() && self.newest_ack.after(self.bind_ack)
    }

    /// Whether payload from `seq` up to `end` must carry the bind header.
    pub(crate) fn needs_header(&self, seq: Seq, end: Seq) -> bool {
        !self.confirmed && seq.before(self.header_end) && end.after(self.unconfirmed)
    }

    /// The header that tells a server the state of this flow.
    pub(crate) fn header(&self, clock_ms: u32, promised_wscale: u8) -> Bind {
        Bind {
            timestamps: self.options.timestamps,
            sack: self.options.sack,
            scales: self.options.wscale.map(|client| Scales {
                client,
                server: promised_wscale,
            }),
            pinned: self.pinned,
            tell: false,
            mss: self.options.mss,
            epoch: self.epoch,
            seq: self.bind_seq,
            ack: self.bind_ack,
            boundary: self.boundary,
            requests: self.requests,
            bodiless: self.bodiless,
            clock: clock_ms,
        }
    }
}
