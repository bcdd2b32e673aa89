//! `bpf/balancer.bpf.c`, packet by packet: who gets which, by mode, and that nothing is remembered of flows.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../common/mod.rs"]
mod common;
mod packets;
mod spread;

use baton_kernel::{Balancer, Mode, SLOTS, Server, Spread, Via};
use common::*;

const VIP: &str = "10.77.0.10:80";
const VIP6: &str = "[fd77::10]:80";
const PORT: u16 = 6950;

struct Bench {
    balancer: Balancer,
    watch: Watch,
}

impl Bench {
    /// Three proxies, reached in UDP, so that the frame says which one got it.
    fn new() -> Bench {
        let balancer = Balancer::load(None).unwrap();
        balancer.set_vips(&[at(VIP), at(VIP6)]).unwrap();
        for index in 0..3 {
            balancer
                .set_proxy(index, Some(proxy(index, Via::Udp)))
                .unwrap();
        }
        Bench {
            watch: Watch::new(balancer.counters().unwrap()),
            balancer,
        }
    }

    fn spread(self, mode: Mode, places: Vec<u8>) -> Bench {
        let spread = Spread {
            mode,
            batch_packets: 40,
            port: PORT,
            places,
        };
        self.balancer.spreads().unwrap().set(&spread).unwrap();
        self
    }

    /// Verdict and the one counter that moved.
    fn verdict(&mut self, frame: &[u8]) -> (i32, String) {
        let (verdict, _) = self.balancer.test_run(frame).unwrap();
        (verdict, self.watch.moved().join(" "))
    }

    /// The proxy that gets the frame.
    fn proxy_of(&self, frame: &[u8]) -> u8 {
        let (verdict, after) = self.balancer.test_run(frame).unwrap();
        assert_eq!(verdict, REDIRECT);
        after[14 + 19] - 11 // last byte of the outer destination
    }
}

fn proxy(index: usize, via: Via) -> Server {
    Server {
        address: at(&format!("10.77.0.{}:1", 11 + index)).ip(),
        source: at("10.77.0.5:1").ip(),
        ifindex: 1,
        via,
    }
}

/// Each place has one of three proxies.
fn thirds() -> Vec<u8> {
    (0..SLOTS).map(|slot| (slot * 7 % 3) as u8).collect()
}

/// A segment of one of many flows, half of them IPv6.
fn segment(number: u16) -> Tcp {
    let (host, port) = (number % 250, 1024 + number);
    let tcp = match number % 2 {
        0 => Tcp::new(&format!("10.77.0.{}:{port}", 1 + host), VIP),
        _ => Tcp::new(&format!("[fd77::{host:x}]:{port}"), VIP6),
    };
    Tcp {
        ack: Some(1),
        payload: b"GET / HTTP/1.1\r\n".to_vec(),
        ..tcp
    }
}
