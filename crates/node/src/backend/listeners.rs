//! Where somebody listens on this machine. Asked of the kernel by `sock_diag(7)`, which goes through the listeners only: `/proc/net/tcp` goes
//! through every connection of every network namespace.

use std::io;
use std::net::SocketAddr;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

/// The listeners of this network namespace, and their sockets' inodes.
///
/// # Errors
/// When the kernel does not tell.
pub(super) fn listeners() -> io::Result<Vec<(SocketAddr, u64)>> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    let mut all = Vec::new();
    for (family, id) in [
        (AF_INET, SocketId::new_v4()),
        (AF_INET6, SocketId::new_v6()),
    ] {
        ask(&socket, family, id)?;
        while receive(&socket, &mut all)? {}
    }
    Ok(all)
}

fn ask(socket: &Socket, family: u8, socket_id: SocketId) -> io::Result<()> {
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::LISTEN,
        socket_id,
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    Ok(())
}

/// One datagram's; whether more are to come.
fn receive(socket: &Socket, all: &mut Vec<(SocketAddr, u64)>) -> io::Result<bool> {
    let (bytes, _) = socket.recv_from_full()?;
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let message =
            NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(io::Error::other)?;
        match message.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                let id = &response.header.socket_id;
                let at = SocketAddr::new(id.source_address.to_canonical(), id.source_port);
                all.push((at, u64::from(response.header.inode)));
            }
            NetlinkPayload::Error(error) => return Err(error.to_io()),
            NetlinkPayload::InnerMessage(_) | NetlinkPayload::Noop => {}
            _ => return Ok(false),
        }
        let length = message.header.length as usize;
        rest = rest.get(length.max(1)..).unwrap_or_default();
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn listeners_are_found_and_connections_are_not() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(local).unwrap();
            let at = listener.local_addr().unwrap();
            let client = std::net::TcpStream::connect(at).unwrap();
            let found = listeners().unwrap();
            let has = |at| {
                found
                    .iter()
                    .any(|(listener, inode)| *listener == at && *inode != 0)
            };
            assert!(has(at), "{at}");
            assert!(!has(client.local_addr().unwrap()));
        }
    }
}
