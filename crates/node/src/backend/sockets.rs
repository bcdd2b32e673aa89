//! Which flows have a socket on this machine.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use baton_packet::FlowKey;

/// A list is good for so long.
const FRESH: Duration = Duration::from_secs(1);

/// The kernel's lists of this network namespace's TCP sockets, by family.
const LISTS: [&str; 2] = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"];

/// The TCP sockets of this network namespace at a moment, as `/proc` lists them (Documentation/networking/proc_net_tcp.rst).
struct Sockets(HashSet<FlowKey>);

impl Sockets {
    fn now() -> io::Result<Sockets> {
        let mut flows = HashSet::new();
        for file in LISTS {
            match std::fs::read_to_string(file) {
                Ok(text) => flows.extend(text.lines().skip(1).filter_map(parse)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Sockets(flows))
    }

    fn has(&self, key: &FlowKey) -> bool {
        self.0.contains(key)
    }
}

/// Whether a flow has a socket; when that cannot be known, it has. The list is shared by calls in quick succession.
pub(crate) fn has_socket(key: &FlowKey) -> bool {
    static LAST: Mutex<Option<(Instant, Sockets)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if last.as_ref().is_none_or(|(at, _)| at.elapsed() > FRESH) {
        *last = Sockets::now().ok().map(|sockets| (Instant::now(), sockets));
    }
    last.as_ref().is_none_or(|(_, sockets)| sockets.has(key))
}

/// `sl local_address rem_address ...`; addresses are words in host byte order, ports in hexadecimal.
fn parse(line: &str) -> Option<FlowKey> {
    let mut fields = line.split_ascii_whitespace();
    let (local, remote) = (fields.nth(1)?, fields.next()?);
    Some(FlowKey::new(address(remote)?, address(local)?))
}

fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| {
        u32::from_str_radix(address.get(8 * at..8 * at + 8)?, 16)
            .ok()
            .map(u32::to_ne_bytes)
    };
    let ip: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for (at, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(at)?);
            }
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_connection_of_this_machine_is_found() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(local).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let key = FlowKey::new(client.local_addr().unwrap(), client.peer_addr().unwrap());
            let other = FlowKey::new(
                client.local_addr().unwrap(),
                "192.0.2.1:80".parse().unwrap(),
            );
            let sockets = Sockets::now().unwrap();
            assert!(sockets.has(&key), "{key}");
            assert!(!sockets.has(&other));
        }
    }
}
