//! `bpf/backend.bpf.c`, packet by packet. Adoption itself needs a real ingress and is the lab's to test; here are all the refusals before it, the
//! release, the fence, and the framing of answers.
#![allow(clippy::unwrap_used, missing_docs)]

mod binds;
#[path = "../common/mod.rs"]
mod common;
mod flows;
mod framing;
mod questions;

use baton_kernel::abi::{served_flow, served_state};
use baton_kernel::{Backend, Events, Service, Told};
use baton_packet::{FlowKey, Seq};
use baton_wire::{Bind, Key, Keys, Outcome, Release, ReleaseAnswer, Scales};
use common::*;
use proptest::prelude::*;

const CLIENT: &str = "10.77.0.1:40000";
const VIP: &str = "10.77.0.10:80";
const PROXY: &str = "10.77.0.11:6950";
const NODE: &str = "10.77.0.21:6950";
const REFUSED: u8 = 3;
const NO_LISTENER: u8 = 1;

struct Bench {
    backend: Backend,
    watch: Watch,
    told: Events<Told>,
}

impl Bench {
    fn new() -> Bench {
        let backend = Backend::load(&settings(), 1024, None).unwrap();
        backend
            .set_services(&[Service {
                vip: at(VIP),
                listen: at("127.0.0.1:1"),
            }])
            .unwrap();
        Bench {
            watch: Watch::new(backend.counters().unwrap()),
            told: backend.told().unwrap().open().unwrap(),
            backend,
        }
    }

    fn ingress(&mut self, frame: &[u8]) -> (i32, String, Vec<Told>, Vec<u8>) {
        let (verdict, after) = self.backend.test_ingress(frame).unwrap();
        let mut told = Vec::new();
        self.told.drain(&mut told);
        (verdict, self.watch.moved().join(" "), told, after)
    }

    fn verdict(&mut self, frame: &[u8]) -> (i32, String) {
        let (verdict, moved, ..) = self.ingress(frame);
        (verdict, moved)
    }

    fn hold(&self, flow: served_flow) {
        self.backend.put_flow(&key(), &flow).unwrap();
    }

    fn held(&self) -> served_flow {
        self.backend.flow(&key()).unwrap()
    }
}

fn key() -> FlowKey {
    FlowKey::new(at(CLIENT), at(VIP))
}

fn keys() -> Keys {
    Keys {
        current: Key::new(MESSAGE_KEY),
        previous: Some(Key::new(OLD_KEY)),
    }
}

fn request(seq: u32) -> Tcp {
    Tcp {
        seq,
        ack: Some(500),
        flags: "P",
        payload: b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        ..Tcp::new(CLIENT, VIP)
    }
}

fn bind() -> Bind {
    Bind {
        timestamps: false,
        sack: true,
        scales: Some(Scales {
            client: 7,
            server: 10,
        }),
        pinned: false,
        tell: false,
        mss: 1460,
        epoch: 100,
        seq: Seq(1000),
        ack: Seq(500),
        boundary: Seq(1018),
        requests: 1,
        bodiless: 0,
        clock: settings().clock.now_ms() as u32,
    }
}

fn bind_frame(bind: &Bind, signed_by: [u8; 16], packet: &Tcp) -> Vec<u8> {
    let header = bind.encode(&Key::new(signed_by), &FlowKey::new(packet.from, packet.to));
    udp_frame(PROXY, NODE, &[&header[..], &packet.ip()].concat())
}

fn serving(requests: u32) -> served_flow {
    let mut flow = served_flow {
        state: served_state::HELD,
        epoch: 100,
        seq: 1000,
        ack: 500,
        boundary: 1018,
        requests,
        ..Default::default()
    };
    flow.framing.next = 500;
    flow.framing.names = 3;
    flow
}

fn dropped(reason: &str) -> (i32, String) {
    (DROP, format!("dropped/{reason}"))
}
