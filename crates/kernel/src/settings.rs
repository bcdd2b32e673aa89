//! What every program is told when it is loaded.

use crate::abi::{self, Plain, as_bytes, from_bytes};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The node's keys, address and clock, in both programs' `settings`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Keys of the messages' tags: the one that signs, the one that is accepted too.
    pub message_keys: [[u8; 16]; 2],
    /// Keys of the SYN cookies, likewise.
    pub cookie_keys: [[u8; 16]; 2],
    /// This node, as other nodes reach it; the port is the cluster's. `[::]`: whatever address a message was sent to.
    pub address: SocketAddr,
    /// The cluster clock.
    pub clock: Clock,
    /// Clients' packets come by balancers or other proxies: answers go as the routes say, not back to the link-layer address that sent them.
    pub answers_by_route: bool,
}

impl Settings {
    /// As either skeleton's `settings`: one layout, generated twice.
    pub(crate) fn to_kernel<T: Plain + Default>(&self) -> T {
        let words = |key: &[u8; 16]| {
            let [a, b] = [0, 8].map(|at| u64::from_le_bytes(std::array::from_fn(|i| key[at + i])));
            [a, b]
        };
        let settings = abi::settings {
            message_key: [words(&self.message_keys[0]), words(&self.message_keys[1])],
            cookie_key: [words(&self.cookie_keys[0]), words(&self.cookie_keys[1])],
            clock_offset_ms: self.clock.offset_ms,
            address: abi::address_words(self.address.ip()),
            port: self.address.port().to_be(),
            answers_by_route: self.answers_by_route.into(),
            pad: [0; 5],
        };
        from_bytes(as_bytes(&settings)).unwrap_or_default()
    }
}

/// The cluster clock: Unix time in milliseconds when the node started, carried on by CLOCK_MONOTONIC, so that it never jumps. Its low 32 bits
/// are the TSvals of all flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    offset_ms: u64,
}

impl Clock {
    /// Begins at the system's time of day.
    pub fn start() -> Clock {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Clock {
            offset_ms: (wall.as_millis() as u64).wrapping_sub(monotonic().as_millis() as u64),
        }
    }

    /// CLOCK_MONOTONIC and so many milliseconds.
    pub(crate) fn at_offset(offset_ms: u64) -> Clock {
        Clock { offset_ms }
    }

    /// The one that is ahead of CLOCK_MONOTONIC by so much.
    pub fn ahead(offset_ns: i64) -> Clock {
        Clock {
            offset_ms: offset_ns.div_euclid(1_000_000) as u64,
        }
    }

    /// The same clock, ahead by so much.
    pub fn later(self, by: Duration) -> Clock {
        Clock {
            offset_ms: self.offset_ms.wrapping_add(by.as_millis() as u64),
        }
    }

    /// Now, in milliseconds.
    pub fn now_ms(&self) -> u64 {
        (monotonic().as_millis() as u64).wrapping_add(self.offset_ms)
    }
}

/// CLOCK_MONOTONIC, as `bpf_ktime_get_ns` reads it.
pub fn monotonic() -> Duration {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    now.map(Duration::from).unwrap_or_default()
}
