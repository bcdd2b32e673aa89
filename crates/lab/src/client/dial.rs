//! Connections as odd clients make them.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::Context;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::Connection;
use crate::cluster::Lab;

/// A connection takes at most so long.
const PATIENCE: i64 = 30;

/// What the client asks of its socket before it connects.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dial {
    /// SO_RCVBUF (bytes; the kernel takes twice that, and no less than about 2 KiB).
    pub(crate) receive_buffer: Option<usize>,
    /// TCP_MAXSEG: longest segment (bytes), if shorter than the path's.
    pub(crate) mss: Option<u32>,
    /// Nothing small is sent while something is not acknowledged (Nagle's algorithm, RFC 896): no TCP_NODELAY.
    pub(crate) waits: bool,
    /// The client's port, whatever socket had it before.
    pub(crate) port: Option<u16>,
    /// Keepalive probes after so long (whole seconds), and each second from then on; three unanswered ones end the connection.
    pub(crate) keepalive: Option<Duration>,
}

impl Dial {
    /// From the client of a lab to its VIP.
    ///
    /// # Errors
    /// When nobody accepts.
    pub(crate) fn vip(self, lab: &Lab) -> anyhow::Result<Connection> {
        self.from(lab, lab.vip())
    }

    /// From the client of a lab.
    ///
    /// # Errors
    /// When nobody accepts.
    pub(crate) fn from(self, lab: &Lab, to: SocketAddr) -> anyhow::Result<Connection> {
        let stream = lab.netns("client").inside(|| self.connect(to))?;
        let connection = Connection::over(stream)?;
        connection.stream().set_nodelay(!self.waits)?;
        Ok(connection)
    }

    /// From this thread's network namespace.
    ///
    /// # Errors
    /// When nobody accepts.
    pub(crate) fn connect(self, to: SocketAddr) -> anyhow::Result<TcpStream> {
        let family = if to.is_ipv6() {
            AddressFamily::Inet6
        } else {
            AddressFamily::Inet
        };
        let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        // Also the limit for connect(), see socket(7).
        setsockopt(&socket, sockopt::SendTimeout, &TimeVal::new(PATIENCE, 0))?;
        if let Some(bytes) = self.receive_buffer {
            setsockopt(&socket, sockopt::RcvBuf, &bytes)?;
        }
        if let Some(mss) = self.mss {
            setsockopt(&socket, sockopt::TcpMaxSeg, &mss)?;
        }
        if let Some(idle) = self.keepalive {
            setsockopt(&socket, sockopt::KeepAlive, &true)?;
            setsockopt(&socket, sockopt::TcpKeepIdle, &(idle.as_secs() as u32))?;
            setsockopt(&socket, sockopt::TcpKeepInterval, &1)?;
            setsockopt(&socket, sockopt::TcpKeepCount, &3)?;
        }
        if let Some(port) = self.port {
            setsockopt(&socket, sockopt::ReuseAddr, &true)?;
            let any: SocketAddr = if to.is_ipv6() {
                ([0u16; 8], port).into()
            } else {
                ([0u8; 4], port).into()
            };
            bind(socket.as_raw_fd(), &SockaddrStorage::from(any))
                .with_context(|| format!("port {port} of the client"))?;
        }
        connect(socket.as_raw_fd(), &SockaddrStorage::from(to))
            .with_context(|| format!("cannot connect to {to}"))?;
        Ok(socket.into())
    }
}
