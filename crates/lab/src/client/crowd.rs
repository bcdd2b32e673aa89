//! A crowd of clients that does not exist: connections made of raw packets from many addresses, which cost the client's host no sockets.
//!
//! All it knows of TCP is what a connection needs that opens, asks once and is then silent: SYN, the handshake's ACK, a request in one
//! segment, an ACK for each segment of the answer; and sending again what got no answer. No options but the MSS.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use etherparse::{PacketBuilder, SlicedPacket, TcpOptionElement, TcpSlice, TransportSlice};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::cluster::Lab;
use crate::impair::PacketSocket;
use crate::interrupt;
use crate::topology::INTERFACE;

/// The crowd's addresses are behind the client's: 10.77.100.0 to 10.77.103.255.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 100, 0);
const NETWORK: &str = "10.77.100.0/22";
const ADDRESSES: u32 = 1024;
/// Connections from one address.
const PORTS: u16 = 200;
const FIRST_PORT: u16 = 10_000;
/// Waiting for an answer at once: a queue of a kernel between the namespaces has room for 1000 frames.
const AT_ONCE: usize = 200;
/// What got no answer for so long is sent again.
const PATIENCE: Duration = Duration::from_millis(500);
/// Nothing from anybody for so long means that nothing will come.
const SILENCE: Duration = Duration::from_secs(20);
const MSS: u16 = 1460;
const WINDOW: u16 = 65_535;
/// No frame of the crowd is larger.
const FRAME: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    New,
    Open,
    Answered,
}

#[derive(Clone, Copy)]
struct Connection {
    state: State,
    /// The next byte to send, and the next one expected.
    seq: u32,
    ack: u32,
}

/// Connections from everywhere to one address.
pub(crate) struct Crowd {
    socket: PacketSocket,
    from: [u8; 6],
    /// Who has the address.
    next_hop: [u8; 6],
    to: SocketAddrV4,
    request: Vec<u8>,
    connections: Vec<Connection>,
}

impl Crowd {
    /// A crowd that is not connected yet, on the client of a lab; `host` is the one that has the address `to`.
    ///
    /// # Errors
    /// When there are more connections than addresses, or the hosts cannot be told of the addresses.
    pub(crate) fn gather(
        lab: &Lab,
        host: &str,
        to: SocketAddrV4,
        path: &str,
        connections: usize,
    ) -> anyhow::Result<Self> {
        ensure!(
            connections <= ADDRESSES as usize * usize::from(PORTS),
            "more connections than addresses and ports"
        );
        // The client's kernel knows nothing of them, and shall not send elsewhere what comes for them.
        lab.netns("client").sysctl("net.ipv4.ip_forward", "0")?;
        let by = lab.topology.client().v4();
        for host in lab.topology.servers() {
            lab.netns(&host.name)
                .ip(&format!("route replace {NETWORK} via {by}"))?;
        }
        let new = Connection {
            state: State::New,
            seq: 0,
            ack: 0,
        };
        Ok(Self {
            socket: lab
                .netns("client")
                .inside(|| PacketSocket::open(INTERFACE))?,
            from: lab.hardware_address("client")?,
            next_hop: lab.hardware_address(host)?,
            to,
            request: format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n\r\n").into_bytes(),
            connections: vec![new; connections],
        })
    }

    /// Every connection is opened.
    ///
    /// # Errors
    /// When one cannot be.
    pub(crate) fn connect(&mut self) -> anyhow::Result<()> {
        self.until_all(State::Open)
    }

    /// Every connection asks and is answered.
    ///
    /// # Errors
    /// When one is not.
    pub(crate) fn ask(&mut self) -> anyhow::Result<()> {
        self.until_all(State::Answered)
    }

    /// Takes what comes for so long.
    ///
    /// # Errors
    /// When a connection is closed.
    pub(crate) fn be_silent(&mut self, duration: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.receive()?;
        }
        Ok(())
    }

    fn until_all(&mut self, state: State) -> anyhow::Result<()> {
        let mut waiting: VecDeque<(usize, Instant)> = VecDeque::new();
        let (mut next, mut progress) = (0, Instant::now());
        while next < self.connections.len() || !waiting.is_empty() {
            interrupt::check()?;
            let now = Instant::now();
            while next < self.connections.len() && waiting.len() < AT_ONCE {
                self.speak(next)?;
                waiting.push_back((next, now));
                next += 1;
            }
            if self.receive()? {
                progress = now;
            }
            let before = waiting.len();
            waiting.retain(|(number, _)| self.connections[*number].state < state);
            while let Some(&(number, since)) = waiting.front()
                && since + PATIENCE < now
            {
                waiting.pop_front();
                self.speak(number)?;
                waiting.push_back((number, now));
            }
            if before == waiting.len() && progress + SILENCE < now {
                let left = waiting.len() + self.connections.len() - next;
                bail!("{left} connections have no answer");
            }
        }
        Ok(())
    }

    /// What a connection has to say in its state.
    fn speak(&self, number: usize) -> anyhow::Result<()> {
        let what = match self.connections[number].state {
            State::New => Segment::Syn,
            State::Open => Segment::Data(&self.request),
            State::Answered => Segment::Ack,
        };
        self.send(number, what)
    }

    /// Takes all that has arrived, or waits for a moment; says whether anything had.
    fn receive(&mut self) -> anyhow::Result<bool> {
        let mut ends = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        poll(&mut ends, PollTimeout::from(10_u8))?;
        let mut any = false;
        for _ in 0..AT_ONCE {
            let Some(frame) = self.socket.receive()? else {
                break;
            };
            let Some((number, segment)) = for_us(frame, self.to) else {
                continue;
            };
            if let Some(connection) = self.connections.get_mut(number) {
                any = true;
                let answer = connection.take(number, &segment, &self.request)?;
                if answer {
                    self.send(number, Segment::Ack)?;
                }
            }
        }
        Ok(any)
    }

    fn send(&self, number: usize, segment: Segment<'_>) -> anyhow::Result<()> {
        let Connection { seq, ack, .. } = self.connections[number];
        let seq = match segment {
            Segment::Syn => initial(number),
            // Also when it is sent again because the rest of the answer is missing.
            Segment::Data(_) => initial(number).wrapping_add(1),
            Segment::Ack => seq,
        };
        let (address, port) = address(number);
        let builder = PacketBuilder::ethernet2(self.from, self.next_hop)
            .ipv4(address.octets(), self.to.ip().octets(), 64)
            .tcp(port, self.to.port(), seq, WINDOW);
        let mut frame = Vec::with_capacity(FRAME);
        match segment {
            Segment::Syn => builder
                .syn()
                .options(&[TcpOptionElement::MaximumSegmentSize(MSS)])?
                .write(&mut frame, &[])?,
            Segment::Ack => builder.ack(ack).write(&mut frame, &[])?,
            Segment::Data(payload) => builder.ack(ack).psh().write(&mut frame, payload)?,
        }
        self.socket.send(&frame).map_err(Into::into)
    }
}

#[derive(Clone, Copy)]
enum Segment<'a> {
    Syn,
    Ack,
    Data(&'a [u8]),
}

/// What matters of a segment that arrived.
#[derive(Debug, PartialEq)]
struct Arrived {
    seq: u32,
    ack: u32,
    syn: bool,
    end: bool,
    payload: u32,
    /// The payload ends with the end of a head: the whole answer, as its body is empty.
    head_ends: bool,
}

impl Connection {
    /// Takes a segment in; says whether it is to be acknowledged.
    fn take(&mut self, number: usize, arrived: &Arrived, request: &[u8]) -> anyhow::Result<bool> {
        ensure!(
            !arrived.end,
            "a connection was closed (state {:?})",
            self.state
        );
        let first = initial(number).wrapping_add(1);
        let asked = first.wrapping_add(u32::try_from(request.len())?);
        match self.state {
            State::New if arrived.syn && arrived.ack == first => {
                (self.seq, self.ack) = (first, arrived.seq.wrapping_add(1));
                self.state = State::Open;
                Ok(true)
            }
            State::Open
                if arrived.payload > 0 && arrived.seq == self.ack && arrived.ack == asked =>
            {
                (self.seq, self.ack) = (asked, self.ack.wrapping_add(arrived.payload));
                if arrived.head_ends {
                    self.state = State::Answered;
                }
                Ok(true)
            }
            // Again what is here already: the ACK was lost.
            _ => Ok(arrived.syn || arrived.payload > 0),
        }
    }
}

fn for_us(frame: &[u8], from: SocketAddrV4) -> Option<(usize, Arrived)> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(etherparse::NetSlice::Ipv4(ip)) = packet.net else {
        return None;
    };
    let Some(TransportSlice::Tcp(tcp)) = packet.transport else {
        return None;
    };
    if ip.header().source_addr() != *from.ip() || tcp.source_port() != from.port() {
        return None;
    }
    let number = number_of(ip.header().destination_addr(), tcp.destination_port())?;
    Some((number, arrived(&tcp)))
}

fn arrived(tcp: &TcpSlice<'_>) -> Arrived {
    Arrived {
        seq: tcp.sequence_number(),
        ack: tcp.acknowledgment_number(),
        syn: tcp.syn(),
        end: tcp.rst() || tcp.fin(),
        payload: u32::try_from(tcp.payload().len()).unwrap_or(0),
        head_ends: tcp.payload().ends_with(b"\r\n\r\n"),
    }
}

/// Where a connection comes from.
fn address(number: usize) -> (Ipv4Addr, u16) {
    let number = u32::try_from(number).unwrap_or(0);
    let address = FIRST_ADDRESS.to_bits() + number / u32::from(PORTS);
    let port = number % u32::from(PORTS);
    (
        address.into(),
        FIRST_PORT + u16::try_from(port).unwrap_or(0),
    )
}

/// The inverse of [`address`].
fn number_of(address: Ipv4Addr, port: u16) -> Option<usize> {
    let address = address.to_bits().checked_sub(FIRST_ADDRESS.to_bits())?;
    let port = port.checked_sub(FIRST_PORT).filter(|&port| port < PORTS)?;
    usize::try_from(address.checked_mul(u32::from(PORTS))? + u32::from(port)).ok()
}

fn initial(number: usize) -> u32 {
    u32::try_from(number)
        .unwrap_or(0)
        .wrapping_mul(2_654_435_761)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: usize = ADDRESSES as usize * PORTS as usize;

    #[test]
    fn every_connection_has_an_address_of_its_own_inside_the_network() {
        for number in (0..ALL).step_by(97).chain([ALL - 1]) {
            let (from, port) = address(number);
            assert_eq!(number_of(from, port), Some(number));
            assert!(from >= FIRST_ADDRESS && from <= Ipv4Addr::new(10, 77, 103, 255));
        }
        assert_eq!(number_of(Ipv4Addr::new(10, 77, 0, 1), FIRST_PORT), None);
        assert_eq!(number_of(FIRST_ADDRESS, FIRST_PORT + PORTS), None);
    }

    #[test]
    fn a_connection_opens_asks_and_is_answered() {
        let request = b"GET";
        let first = initial(7).wrapping_add(1);
        let mut connection = Connection {
            state: State::New,
            seq: initial(7),
            ack: 0,
        };
        let mut take = |seq, ack, syn, payload, head_ends| {
            let arrived = Arrived {
                seq,
                ack,
                syn,
                end: false,
                payload,
                head_ends,
            };
            let answer = connection.take(7, &arrived, request).unwrap();
            (answer, connection.state, connection.seq, connection.ack)
        };
        let asked = first.wrapping_add(3);
        assert_eq!(take(99, 1, true, 0, false).1, State::New, "a stranger's");
        assert_eq!(
            take(99, first, true, 0, false),
            (true, State::Open, first, 100)
        );
        assert_eq!(
            take(99, first, true, 0, false),
            (true, State::Open, first, 100)
        );
        assert_eq!(
            take(100, asked, false, 0, false),
            (false, State::Open, first, 100)
        );
        assert_eq!(
            take(100, asked, false, 40, false),
            (true, State::Open, asked, 140)
        );
        assert_eq!(
            take(140, asked, false, 4, true),
            (true, State::Answered, asked, 144)
        );
        assert_eq!(
            take(140, asked, false, 4, true),
            (true, State::Answered, asked, 144)
        );
    }
}
