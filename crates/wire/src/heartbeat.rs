use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::cursor::{Kind, Reader, Writer, address, octets};
use crate::{Key, Keys, WireError};

/// Findings in one heartbeat.
pub const MAX_FINDINGS: usize = 56;

/// Proxies of one cluster, and so nodes in one heartbeat.
pub const MAX_PROXIES: usize = 32;

const HEADER: usize = 72;
const EACH: usize = 20;
const ADDRESS: usize = 16;

/// A longer one would not fit into any path's MTU (IPv6's least, 1280, less headers).
const LONGEST: usize = 1232;

const TIMESTAMPS: u8 = 1;
const SACK: u8 = 2;
const WINDOW_SCALING: u8 = 4;
const SYNCOOKIES: u8 = 8;

const READY: u8 = 1;
const DRAINING: u8 = 2;
const LEAVING: u8 = 4;
const MINORITY: u8 = 8;

/// Where the number of nodes is.
const NODES: usize = 55;

/// I am here: between nodes, all the time.
///
/// ```text
///  0       4       5       6       8
/// +-------+-------+-------+-------+
/// |prefix | role  |accepts| count |
/// +-------+-------+-------+-------+
/// |             tag               |  8
/// +-------------------------------+
/// |  sender's address (16 bytes)  | 16
/// +-------------------------------+
/// |           sequence            | 32
/// +-------------------------------+
/// |             echo              | 40
/// +---------------+-------+---+---+
/// |   interval    |workld.|flg|cnt| 48   cnt: nodes
/// +---------------+-------+---+---+
/// |        cluster clock          | 56
/// +-------------------------------+
/// |            digest             | 64
/// +-------------------------------+ 72, then for each finding (20 bytes)
/// |  VIP address (16) |port|why| 0|
/// +-------------------------------+ then for each node
/// |         address (16)          |
/// +-------------------------------+
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The sender: the address where other nodes reach it.
    pub node: IpAddr,
    /// What it does.
    pub role: Role,
    /// Microseconds of the sender's own clock, from a random beginning that each start of the program chooses anew.
    pub sequence: u64,
    /// The newest `sequence` that the sender has from this receiver, 0: none. It proves that the message is not older than that one, and
    /// that the way back works.
    pub echo: u64,
    /// How often the sender speaks; whole milliseconds.
    pub interval: Duration,
    /// What the sender's kernel takes over.
    pub accepts: Accepts,
    /// Why its servers cannot be used; empty: they can.
    pub findings: Vec<Finding>,
    /// How much of the sender's own capacity is available (per mille).
    pub workload: u16,
    /// What it is doing.
    pub state: State,
    /// A proxy: the cluster clock (ms). A back end: the newest that it has seen in a header, and the time since then; 0: none.
    pub clock: u64,
    /// Of the part of the configuration that all nodes have in common.
    pub digest: u64,
    /// A proxy: the proxies, itself included, that it takes for live. A back end: the proxies that it hears. At most [`MAX_PROXIES`].
    pub nodes: Vec<IpAddr>,
}

/// What a node is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// It knows enough to be given its part.
    pub ready: bool,
    /// It shall be given nothing new.
    pub draining: bool,
    /// It is about to end.
    pub leaving: bool,
    /// A proxy that hears no majority: its list of nodes says nothing about those that are missing.
    pub minority: bool,
}

/// What a node does in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Binds flows.
    Proxy,
    /// Adopts flows.
    Backend,
    /// Spreads packets over proxies.
    Balancer,
}

/// TCP options that a kernel takes over from a handshake that it has not seen, and whether it does so at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepts {
    /// RFC 7323 timestamps.
    pub timestamps: bool,
    /// RFC 2018 selective acknowledgements.
    pub sack: bool,
    /// RFC 7323 window scaling.
    pub window_scaling: bool,
    /// `tcp_syncookies` is not 0: without, the kernel makes no socket of a bind.
    pub syncookies: bool,
}

impl Accepts {
    /// Everything.
    pub const ALL: Accepts = Accepts {
        timestamps: true,
        sack: true,
        window_scaling: true,
        syncookies: true,
    };
}

/// Something is in the way of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What clients connect to.
    pub vip: SocketAddr,
    /// What is in the way.
    pub reason: Reason,
}

/// Why a service cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The node has no service for this VIP.
    NotServed,
    /// Nobody listens where the service says.
    NoListener,
    /// The listener is an MPTCP socket, which the kernel hands nothing to.
    Mptcp,
    /// The kernel refused a bind that the agent made itself.
    Refused,
    /// Nothing came of a bind that the agent made itself.
    Blocked,
    /// The web server fails its pool's check.
    Unhealthy,
    /// Of a newer version of Baton.
    Other(u8),
}

impl Reason {
    fn number(self) -> u8 {
        match self {
            Reason::NotServed => 1,
            Reason::NoListener => 2,
            Reason::Mptcp => 3,
            Reason::Refused => 4,
            Reason::Blocked => 5,
            Reason::Unhealthy => 6,
            Reason::Other(number) => number,
        }
    }

    fn of(number: u8) -> Reason {
        match number {
            1 => Reason::NotServed,
            2 => Reason::NoListener,
            3 => Reason::Mptcp,
            4 => Reason::Refused,
            5 => Reason::Blocked,
            6 => Reason::Unhealthy,
            other => Reason::Other(other),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NotServed => {
                f.write_str("it has no [[backend.service]] for a VIP that needs it")
            }
            Reason::NoListener => f.write_str("nobody listens at its [[backend.service]] listen"),
            Reason::Mptcp => f.write_str(
                "its web server listens with MPTCP, and the kernel hands it no connection",
            ),
            Reason::Refused => {
                f.write_str("its kernel refuses to hand connections to the web server")
            }
            Reason::Blocked => f.write_str(
                "a connection that was handed over does not reach the web server: its firewall?",
            ),
            Reason::Unhealthy => f.write_str("its web server fails the pool's check"),
            Reason::Other(number) => {
                write!(f, "finding {number}, which this version does not know")
            }
        }
    }
}

impl Heartbeat {
    /// The datagram. No more than [`MAX_PROXIES`] nodes and [`MAX_FINDINGS`] go into it, and no more findings than fit into any path's MTU.
    pub fn encode(&self, key: &Key) -> Vec<u8> {
        let nodes = &self.nodes[..self.nodes.len().min(MAX_PROXIES)];
        let room = (LONGEST - HEADER - ADDRESS * nodes.len()) / EACH;
        let findings = &self.findings[..self.findings.len().min(MAX_FINDINGS).min(room)];
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let (accepts, state) = (self.accepts, self.state);
        let mut message = vec![0; HEADER + EACH * findings.len() + ADDRESS * nodes.len()];
        let mut fields = Writer::new(&mut message);
        fields
            .bytes(&Kind::Heartbeat.prefix())
            .u8(match self.role {
                Role::Proxy => 1,
                Role::Backend => 2,
                Role::Balancer => 3,
            })
            .u8(flag(accepts.timestamps, TIMESTAMPS)
                | flag(accepts.sack, SACK)
                | flag(accepts.window_scaling, WINDOW_SCALING)
                | flag(accepts.syncookies, SYNCOOKIES))
            .u16(findings.len() as u16)
            .skip(8)
            .bytes(&octets(self.node))
            .bytes(&self.sequence.to_be_bytes())
            .bytes(&self.echo.to_be_bytes())
            .u32(u32::try_from(self.interval.as_millis()).unwrap_or(u32::MAX))
            .u16(self.workload)
            .u8(flag(state.ready, READY)
                | flag(state.draining, DRAINING)
                | flag(state.leaving, LEAVING)
                | flag(state.minority, MINORITY))
            .u8(nodes.len() as u8)
            .bytes(&self.clock.to_be_bytes())
            .bytes(&self.digest.to_be_bytes());
        for Finding { vip, reason } in findings {
            fields
                .bytes(&octets(vip.ip()))
                .u16(vip.port())
                .u8(reason.number())
                .skip(1);
        }
        for node in nodes {
            fields.bytes(&octets(*node));
        }
        key.seal(&mut message, &[]);
        message
    }

    /// Reads a datagram.
    ///
    /// # Errors
    /// [`WireError`]: not a heartbeat, or none of the keys made it.
    pub fn decode(message: &[u8], keys: &Keys) -> Result<Heartbeat, WireError> {
        let mut fields = Reader(message.get(4..).unwrap_or_default());
        let (role, accepts, count) = (fields.u8(), fields.u8(), usize::from(fields.u16()));
        let nodes = message.get(NODES).copied().map_or(0, usize::from);
        if count > MAX_FINDINGS || nodes > MAX_PROXIES {
            return Err(WireError::Length(message.len()));
        }
        Kind::Heartbeat.check(message, HEADER + EACH * count + ADDRESS * nodes)?;
        keys.open(message, &[])?;
        fields.bytes::<8>();
        let node = address(fields.bytes());
        let (sequence, echo) = (fields.bytes(), fields.bytes());
        let interval = Duration::from_millis(fields.u32().into());
        let (workload, state) = (fields.u16(), fields.u8());
        fields.bytes::<1>();
        let (clock, digest) = (fields.bytes(), fields.bytes());
        let findings = (0..count).map(|_| {
            let vip = SocketAddr::new(address(fields.bytes()), fields.u16());
            let reason = Reason::of(fields.u8());
            fields.bytes::<1>();
            Finding { vip, reason }
        });
        let findings = findings.collect();
        let nodes = (0..nodes).map(|_| address(fields.bytes())).collect();
        Ok(Heartbeat {
            node,
            role: match role {
                1 => Role::Proxy,
                2 => Role::Backend,
                3 => Role::Balancer,
                other => return Err(WireError::Value(other)),
            },
            sequence: u64::from_be_bytes(sequence),
            echo: u64::from_be_bytes(echo),
            interval,
            accepts: Accepts {
                timestamps: accepts & TIMESTAMPS != 0,
                sack: accepts & SACK != 0,
                window_scaling: accepts & WINDOW_SCALING != 0,
                syncookies: accepts & SYNCOOKIES != 0,
            },
            findings,
            workload,
            state: State {
                ready: state & READY != 0,
                draining: state & DRAINING != 0,
                leaving: state & LEAVING != 0,
                minority: state & MINORITY != 0,
            },
            clock: u64::from_be_bytes(clock),
            digest: u64::from_be_bytes(digest),
            nodes,
        })
    }
}
