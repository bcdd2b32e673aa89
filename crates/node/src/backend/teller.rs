//! Tells the proxies what happened to their binds.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use baton_kernel::{Backend, Events, Told};
use baton_wire::{Key, Notice, Secrets, What, encode_notices};
use nix::poll::{PollFd, PollFlags, poll};
use tokio::sync::Notify;

use crate::config::Config;
use crate::keys;

/// How long a wait may last (ms).
const WAIT_MS: u16 = 500;
/// `REFUSED_STALE` in `bpf/include/abi.h`: says nothing of the web server.
const STALE: u8 = 3;

/// The thread that reads the agent's ring buffer.
pub(super) struct Teller {
    stop: Arc<AtomicBool>,
    key: Arc<Mutex<Key>>,
    thread: JoinHandle<()>,
}

impl Teller {
    /// Starts it. It owns the node's socket for messages, from whose address proxies expect to hear.
    /// Each refused bind asks `look_again` to find out why.
    pub(super) fn start(
        program: &Backend,
        config: &Config,
        look_again: Arc<Notify>,
    ) -> Result<Teller> {
        let address = keys::address(config)?;
        let socket = UdpSocket::bind(address).with_context(|| {
            format!("cannot listen on {address} (UDP, [node] address and [cluster] port)")
        })?;
        let key = Arc::new(Mutex::new(keys::secrets(config)?.current.message));
        let stop = Arc::new(AtomicBool::new(false));
        let (queue, own_stop, own_key) = (program.told()?, stop.clone(), key.clone());
        let thread = std::thread::Builder::new().name("teller".into()).spawn(move || match queue.open() {
            Ok(told) => run(&told, &socket, address, &own_key, &own_stop, &look_again),
            Err(error) => tracing::error!(%error, "the teller could not start: proxies will not hear what happens here"),
        })?;
        Ok(Teller { stop, key, thread })
    }

    /// From now on signs with these.
    pub(super) fn use_keys(&self, secrets: Secrets) {
        *self.key.lock().unwrap_or_else(PoisonError::into_inner) = secrets.current.message;
    }

    /// Ends the thread and waits for it.
    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
    }
}

fn run(
    told: &Events<Told>,
    socket: &UdpSocket,
    address: SocketAddr,
    key: &Mutex<Key>,
    stop: &AtomicBool,
    look_again: &Notify,
) {
    let mut batch = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        // An interrupted wait is a short one.
        let _ = poll(
            &mut [PollFd::new(told.fd().as_fd(), PollFlags::POLLIN)],
            WAIT_MS,
        );
        told.drain(&mut batch);
        let mut notices: BTreeMap<IpAddr, Vec<Notice>> = BTreeMap::new();
        // What is said to this node itself is about a bind of its own (`path`), which looks at the table.
        for told in batch.drain(..).filter(|told| told.proxy != address.ip()) {
            if let Some(notice) = notice(&told) {
                if matches!(notice.what, What::Refused { reason } if reason != STALE) {
                    look_again.notify_one();
                }
                notices.entry(told.proxy).or_default().push(notice);
            }
        }
        let key = *key.lock().unwrap_or_else(PoisonError::into_inner);
        for (proxy, notices) in notices {
            for message in encode_notices(&notices, &key) {
                if let Err(error) = socket.send_to(&message, SocketAddr::new(proxy, address.port()))
                {
                    tracing::debug!(%proxy, %error, "a notice could not be sent");
                }
            }
        }
    }
}

fn notice(told: &Told) -> Option<Notice> {
    let what = match told.what {
        1 => What::Ready,
        2 => What::Gone,
        3 => What::Refused {
            reason: told.reason,
        },
        4 => What::Unknown,
        _ => return None,
    };
    Some(Notice {
        what,
        key: told.key,
        epoch: told.epoch,
        seq: told.seq,
        ack: told.ack,
    })
}
