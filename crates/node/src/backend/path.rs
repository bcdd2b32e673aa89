//! Does a bind get from the interface to the web server (H18, H19)? The agent tries it: it lets the interface receive a bind of its own, of a
//! connection without a request, and removes the socket that should have come of it. The web server sees a connection that opens and
//! closes, as it does of any TCP health check; nothing leaves the machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use baton_kernel::abi::{refusal, served_flow, served_state};
use baton_kernel::{Backend, Clock, Injector, Served, Service};
use baton_packet::{Flags, FlowKey, Segment, Seq};
use baton_wire::{Bind, Key};
use bytes::Bytes;
use tokio::time::sleep;

use crate::addresses::{Interface, Subnets};
use crate::config::Config;
use crate::keys;

/// What came of a bind of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// The web server has it.
    Open,
    /// Nobody listens where the service says.
    NoListener,
    /// The listener is an MPTCP socket.
    Mptcp,
    /// The kernel refused for another reason.
    Refused,
    /// It was given to the kernel, and no socket came of it.
    Blocked,
}

/// A kernel that is busy, or whose listener's queue is full for a moment, gets another chance.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(300);
/// A frame of our own has been dealt with in this time.
const STEP: Duration = Duration::from_millis(10);
const STEPS: u32 = 10;

const MSS: u16 = 1220;
/// RFC 5737, RFC 3849: where the interface has no network of the family.
const ELSEWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];
/// A listener with TCP_DEFER_ACCEPT takes no connection without a byte; an empty line is no request (RFC 9112 2.2).
const EMPTY_LINE: &[u8] = b"\r\n";

/// Tries paths.
pub(super) struct PathTest {
    injector: Injector,
    served: Served,
    interface: Interface,
    clock: Clock,
}

impl PathTest {
    /// For the first interface.
    pub(super) fn new(program: &Backend, config: &Config, clock: Clock) -> Result<PathTest> {
        let name = config.node.interfaces.first();
        let interface = Interface::of(name.context("[node] interfaces is empty")?)?;
        Ok(PathTest {
            injector: program.injector()?,
            served: program.served()?,
            interface,
            clock,
        })
    }

    /// # Errors
    /// When it could not be tried.
    pub(super) async fn examine(&self, config: &Config, service: Service) -> Result<Finding> {
        let taken = [service.vip.ip(), keys::address(config)?.ip()];
        let subnets = Subnets::of(std::slice::from_ref(&self.interface.name))?;
        let ipv6 = service.vip.is_ipv6();
        let client = subnets.another_host(ipv6, &taken);
        let client = client.unwrap_or(ELSEWHERE[usize::from(ipv6)]);
        let mut finding = Finding::Blocked;
        for attempt in 0..ATTEMPTS {
            for payload in [&b""[..], EMPTY_LINE] {
                let trial = Trial::new(client, service.vip, payload, self.clock);
                finding = self.attempt(config, &trial).await?;
                if finding != Finding::Blocked {
                    return Ok(finding);
                }
            }
            sleep(PAUSE * attempt).await;
        }
        Ok(finding)
    }

    async fn attempt(&self, config: &Config, trial: &Trial) -> Result<Finding> {
        let node = keys::address(config)?;
        let bind = trial.bind(&keys::secrets(config)?.current.message);
        self.inject(&datagram(node, &bind))?;
        let flow = self
            .state(&trial.key, |_| true)
            .await
            .with_context(|| format!("{} did not receive a frame of ours", self.interface.name))?;
        if flow.state == served_state::REFUSED {
            return Ok(match flow.refusal {
                refusal::NO_LISTENER => Finding::NoListener,
                refusal::MPTCP => Finding::Mptcp,
                _ => Finding::Refused,
            });
        }
        // The agent looks for the socket before it passes another packet of the flow; this one then removes it.
        let reset = trial.reset();
        for _ in 0..2 {
            self.inject(&reset)?;
            let held = |flow: &served_flow| flow.state != served_state::ADOPTING;
            if self.state(&trial.key, held).await.is_some() {
                return Ok(Finding::Open);
            }
        }
        Ok(Finding::Blocked)
    }

    fn inject(&self, packet: &[u8]) -> Result<()> {
        let frame = frame(self.interface.link_address, packet);
        Ok(self.injector.inject(self.interface.index, &frame)?)
    }

    /// What the agent knows of the flow once that is as `expected`.
    async fn state(
        &self,
        key: &FlowKey,
        expected: impl Fn(&served_flow) -> bool,
    ) -> Option<served_flow> {
        for _ in 0..STEPS {
            let flow = self.served.flow(key).filter(&expected);
            if flow.is_some() {
                return flow;
            }
            sleep(STEP).await;
        }
        None
    }
}

/// From the interface to itself.
fn frame(link: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = if packet[0] >> 4 == 6 {
        [0x86, 0xdd]
    } else {
        [0x08, 0x00]
    };
    [&link[..], &link, &kind, packet].concat()
}

/// A connection that nobody opened.
struct Trial {
    key: FlowKey,
    clock_ms: u32,
    first: Segment,
}

impl Trial {
    fn new(client: IpAddr, vip: SocketAddr, payload: &'static [u8], clock: Clock) -> Trial {
        let client = SocketAddr::new(client, rand::random_range(49_152..=u16::MAX));
        Trial {
            key: FlowKey::new(client, vip),
            clock_ms: clock.now_ms() as u32,
            first: Segment {
                seq: Seq(rand::random()),
                ack: Seq(rand::random()),
                flags: Flags::ACK,
                window: u16::MAX,
                timestamps: None,
                traffic_class: 0,
                hop_limit: 64,
                payload: Bytes::from_static(payload),
            },
        }
    }

    /// Without any option that a kernel may have switched off.
    fn bind(&self, key: &Key) -> Vec<u8> {
        let bind = Bind {
            timestamps: false,
            sack: false,
            scales: None,
            pinned: true,
            tell: false,
            mss: MSS,
            epoch: self.clock_ms,
            seq: self.first.seq,
            ack: self.first.ack,
            boundary: self.first.payload_end(),
            requests: 0,
            bodiless: 0,
            clock: self.clock_ms,
        };
        [
            &bind.encode(key, &self.key)[..],
            &self.first.encode(&self.key),
        ]
        .concat()
    }

    fn reset(&self) -> Vec<u8> {
        Segment {
            seq: self.first.payload_end(),
            flags: Flags::RST,
            payload: Bytes::new(),
            ..self.first.clone()
        }
        .encode(&self.key)
    }
}

/// A UDP packet from this node to itself. Without checksums: the agent's program takes it before anybody looks at them.
fn datagram(node: SocketAddr, message: &[u8]) -> Vec<u8> {
    const UDP: u8 = 17;
    let port = node.port().to_be_bytes();
    let length = (8 + message.len()) as u16;
    let udp = [port, port, length.to_be_bytes(), [0, 0]].concat();
    let header = match node.ip() {
        IpAddr::V4(address) => {
            let total = (20 + length).to_be_bytes();
            let fixed = [0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, UDP, 0, 0];
            [&fixed[..], &address.octets(), &address.octets()].concat()
        }
        IpAddr::V6(address) => {
            let length = length.to_be_bytes();
            let fixed = [0x60, 0, 0, 0, length[0], length[1], UDP, 64];
            [&fixed[..], &address.octets(), &address.octets()].concat()
        }
    };
    [&header[..], &udp, message].concat()
}
