//! Whole Ethernet frames from and to one interface.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use anyhow::{Context, anyhow};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, bind, recv, send,
    setsockopt, socket, sockopt,
};

/// A frame of the largest MTU in use here, with its Ethernet header.
const MAX_FRAME: usize = 9216 + 18;
/// Frames that arrive while the forwarder sleeps wait here.
const RECEIVE_BUFFER: usize = 16 << 20;

/// A packet(7) socket bound to one interface. It sees what arrives there, not what it sends itself.
///
/// Frames are as the wire would have them only if the interfaces around have their offloads off: otherwise checksums are blank and
/// segments larger than the MTU. VLAN tags are taken off by the kernel and not put back.
pub(crate) struct PacketSocket {
    socket: OwnedFd,
    buffer: Box<[u8]>,
}

impl PacketSocket {
    /// Opens on the interface of that name in this thread's network namespace.
    ///
    /// # Errors
    /// When there is no such interface or the right (CAP_NET_RAW) is missing.
    pub(crate) fn open(interface: &str) -> anyhow::Result<Self> {
        // nix builds link-layer addresses only from the kernel's own list; their protocol is 0, which keeps the socket's.
        let address = getifaddrs()?
            .filter(|entry| entry.interface_name == interface)
            .filter_map(|entry| entry.address)
            .find(|address| address.family() == Some(AddressFamily::Packet))
            .ok_or_else(|| anyhow!("no interface {interface} in this network namespace"))?;
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::EthAll,
        )
        .context("cannot open a packet socket (CAP_NET_RAW is needed)")?;
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)
            .context("cannot set the receive buffer")?;
        bind(socket.as_raw_fd(), &address)
            .with_context(|| format!("cannot bind to {interface}"))?;
        Ok(Self {
            socket,
            buffer: vec![0; MAX_FRAME].into(),
        })
    }

    /// The next frame that has arrived, if any.
    ///
    /// # Errors
    /// When the interface is gone or down.
    pub(crate) fn receive(&mut self) -> nix::Result<Option<&[u8]>> {
        match recv(
            self.socket.as_raw_fd(),
            &mut self.buffer,
            MsgFlags::MSG_DONTWAIT,
        ) {
            Ok(length) => Ok(Some(&self.buffer[..length])),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a frame; one that finds no room is lost.
    ///
    /// # Errors
    /// When the interface is gone or down.
    pub(crate) fn send(&self, frame: &[u8]) -> nix::Result<()> {
        match send(self.socket.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT) {
            Ok(_) | Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::EMSGSIZE) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
