//! `bpf/proxy.bpf.c`, packet by packet: every row of its decision table, and what hostile lengths and options do.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../common/mod.rs"]
mod common;
mod flows;
mod handshake;
mod hostile;
mod odd;
mod owners;
mod silent;

use baton_kernel::abi::{flow_entry, flow_flags, flow_state, offer};
use baton_kernel::{Events, Membership, Proxy, Punt, Server, Settings, Sizes, Via, Vip};
use baton_packet::FlowKey;
use common::*;
use etherparse::TcpOptionElement as Opt;
use proptest::prelude::*;

const CLIENT: &str = "10.77.0.1:40000";
const VIP: &str = "10.77.0.10:80";
const CLIENT6: &str = "[fd77::1]:40000";
const VIP6: &str = "[fd77::10]:80";

/// No request is known.
fn sizes(flows: u32) -> Sizes {
    Sizes {
        flows,
        known_requests: 0,
        known_key: [0; 16],
    }
}

/// A term that began so many seconds ago; by default longer than a slot of cookies is.
fn before_all(seconds: u64) -> u32 {
    (settings().clock.now_ms() - 1000 * seconds) as u32
}

fn vip(index: u16, address: &str) -> Vip {
    Vip {
        index,
        at: at(address),
        mss: 1384,
        offers: offer::ALL,
    }
}

fn server() -> Server {
    Server {
        address: at("10.77.0.21:1").ip(),
        source: at("10.77.0.11:1").ip(),
        ifindex: 1,
        via: Via::Neighbour,
    }
}

fn asked() -> (i32, String) {
    (DROP, "punted/no_flow".into())
}

struct Bench {
    proxy: Proxy,
    watch: Watch,
    punts: Events<Punt>,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(sizes(1024))
    }

    fn with(sizes: Sizes) -> Bench {
        let proxy = Proxy::load(&settings(), sizes, None).unwrap();
        let mut view = proxy.view().unwrap();
        view.show(&Membership::alone(before_all(300))).unwrap();
        proxy.set_vips(&[vip(0, VIP), vip(1, VIP6)]).unwrap();
        let server = server();
        proxy.set_server(0, Some(server)).unwrap();
        proxy
            .set_server(
                1,
                Some(Server {
                    via: Via::Udp,
                    ..server
                }),
            )
            .unwrap();
        Bench {
            watch: Watch::new(proxy.counters().unwrap()),
            punts: proxy.punts().unwrap().open().unwrap(),
            proxy,
        }
    }

    /// Verdict, frame after, what was counted, what was punted.
    fn run(&mut self, frame: &[u8]) -> (i32, Vec<u8>, Vec<String>, Vec<Punt>) {
        let (verdict, after) = self.proxy.test_run(frame).unwrap();
        let mut punts = Vec::new();
        self.punts.drain(&mut punts);
        (verdict, after, self.watch.moved(), punts)
    }

    /// Verdict and the one counter that moved.
    fn verdict(&mut self, frame: &[u8]) -> (i32, String) {
        let (verdict, _, moved, _) = self.run(frame);
        (verdict, moved.join(" "))
    }

    /// Shakes hands; returns the segment that would carry the first request.
    fn shake(&mut self, syn: &Tcp) -> Tcp {
        let (verdict, answer, _, _) = self.run(&syn.frame());
        assert_eq!(verdict, REDIRECT);
        let (header, _) = tcp_of(&answer);
        let options = timestamps_of(&header)
            .map(|(value, _)| vec![Opt::Noop, Opt::Noop, Opt::Timestamp(78, value)])
            .unwrap_or_default();
        Tcp {
            seq: syn.seq + 1,
            ack: Some(header.sequence_number.wrapping_add(1)),
            flags: "P",
            options,
            payload: b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            ..syn.clone()
        }
    }

    fn bind(&self, entry: flow_entry) -> FlowKey {
        let key = FlowKey::new(at(CLIENT), at(VIP));
        self.proxy.flows().put(&key, &entry).unwrap();
        key
    }
}

fn dropped(reason: &str) -> (i32, String) {
    (DROP, format!("dropped/{reason}"))
}

fn bound(boundary: u32) -> flow_entry {
    flow_entry {
        state: flow_state::BOUND,
        flags: flow_flags::CONFIRMED,
        boundary,
        newest_ack: 500,
        header_ack: 500,
        min_rtt_ms: u32::MAX,
        offers: offer::ALL,
        ..flow_entry::default()
    }
}

fn data(seq: u32, length: usize) -> Tcp {
    Tcp {
        seq,
        ack: Some(500),
        flags: "P",
        payload: vec![b'x'; length],
        ..Tcp::new(CLIENT, VIP)
    }
}
