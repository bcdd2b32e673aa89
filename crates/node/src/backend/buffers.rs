//! The receive buffers of the web servers' listeners (H7). An adopted connection begins with its listener's, and what of a client's upload
//! is beyond the window is lost. A client that has sent to another server before sends as fast as that one let it: much more than
//! the kernel's first window of 64 KiB.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use baton_kernel::{Service, descriptor_of, receive_buffer, set_receive_buffer};

use super::listeners::listeners;

/// What was done to listeners, by their inodes.
#[derive(Default)]
pub(super) struct Buffers {
    seen: BTreeSet<u64>,
    raised: BTreeMap<u64, usize>,
}

impl Buffers {
    /// Listeners of these services have buffers of at least so many bytes, unless their programs chose otherwise. Each listener is looked
    /// at once.
    pub(super) fn raise(&mut self, services: &[Service], least: usize) {
        let serves = |at: std::net::SocketAddr| {
            let takes = |service: &Service| {
                at.port() == service.listen.port()
                    && (at.ip() == service.listen.ip() || at.ip().is_unspecified())
            };
            services.iter().any(takes)
        };
        let Ok(listeners) = listeners() else { return };
        let present: BTreeSet<u64> = listeners.iter().map(|(_, inode)| *inode).collect();
        self.seen.retain(|inode| present.contains(inode));
        self.raised.retain(|inode, _| present.contains(inode));
        let new = listeners.into_iter().filter(|(at, _)| serves(*at));
        let new: BTreeSet<u64> = new.map(|(_, inode)| inode).collect();
        let new: BTreeSet<u64> = new.difference(&self.seen).copied().collect();
        if new.is_empty() || least == 0 {
            return;
        }
        for (inode, socket) in sockets_of_processes(&new) {
            match raise(&socket, least) {
                Ok(before) => self.raised.extend(before.map(|before| (inode, before))),
                Err(error) => {
                    tracing::debug!(inode, %error, "the receive buffer of a listener stays as it is");
                }
            }
        }
        self.seen.extend(new);
    }

    /// As they were.
    pub(super) fn restore(self) {
        for (inode, socket) in sockets_of_processes(&self.raised.keys().copied().collect()) {
            if let Some(before) = self.raised.get(&inode) {
                let _ = set_receive_buffer(socket.as_fd(), *before);
            }
        }
    }
}

/// The size before, if it was changed.
fn raise(socket: &OwnedFd, least: usize) -> io::Result<Option<usize>> {
    let Some(before) = receive_buffer(socket.as_fd())?.filter(|before| *before < least) else {
        return Ok(None);
    };
    set_receive_buffer(socket.as_fd(), least)?;
    Ok(Some(before))
}

/// A descriptor for each of these sockets that some process has, to be closed soon: as long as it is open the socket is.
fn sockets_of_processes(inodes: &BTreeSet<u64>) -> BTreeMap<u64, OwnedFd> {
    let mut found = BTreeMap::new();
    for process in numbered("/proc") {
        for descriptor in numbered(&format!("/proc/{process}/fd")) {
            if found.len() == inodes.len() {
                return found;
            }
            let link = fs::read_link(format!("/proc/{process}/fd/{descriptor}"));
            let inode = link.ok().as_deref().and_then(inode_of);
            let Some(inode) = inode.filter(|inode| inodes.contains(inode)) else {
                continue;
            };
            if let Ok(socket) = descriptor_of(process, descriptor) {
                found.insert(inode, socket);
            }
        }
    }
    found
}

/// `socket:[INODE]`
fn inode_of(link: &std::path::Path) -> Option<u64> {
    let inode = link.to_str()?.strip_prefix("socket:[")?;
    inode.strip_suffix(']')?.parse().ok()
}

fn numbered(directory: &str) -> impl Iterator<Item = i32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use nix::unistd::geteuid;

    use super::*;

    #[test]
    fn a_listener_is_found_raised_and_put_back() {
        if !geteuid().is_root() {
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let service = Service {
            vip: "10.77.0.10:80".parse().unwrap(),
            listen: listener.local_addr().unwrap(),
        };
        let before = receive_buffer(listener.as_fd()).unwrap().unwrap();
        let mut buffers = Buffers::default();
        buffers.raise(&[service], 4 * before);
        assert_eq!(receive_buffer(listener.as_fd()).unwrap(), Some(4 * before));
        buffers.raise(&[service], 8 * before);
        assert_eq!(
            receive_buffer(listener.as_fd()).unwrap(),
            Some(4 * before),
            "once"
        );
        buffers.restore();
        assert_eq!(receive_buffer(listener.as_fd()).unwrap(), Some(before));
    }
}
