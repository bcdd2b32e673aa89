//! What stays in the kernel when a process goes, and who goes on with it: on an interface of a network namespace of the test's own.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../common/mod.rs"]
mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use baton_kernel::abi::{flow_entry, flow_flags, flow_state, offer, served_flow, served_state};
use baton_kernel::{
    Backend, Error, Injector, Membership, Pins, Proxy, Server, Service, Sizes, Via, Vip,
};
use baton_packet::FlowKey;
use common::*;
use nix::sched::{CloneFlags, unshare};

const CLIENT: &str = "10.77.0.1:40000";
const VIP: &str = "10.77.0.10:80";
const INTERFACE: &str = "veth0";
const HOUR: Duration = Duration::from_secs(3600);
const SIZES: Sizes = Sizes {
    flows: 1024,
    known_requests: 0,
    known_key: [0; 16],
};

fn in_namespace(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let outcome = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            // It would send by itself.
            fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
            make_interface();
            test();
        });
        outcome.join().unwrap();
    });
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.unwrap().success(), "ip {arguments}");
}

fn make_interface() {
    ip("link add veth0 address 02:00:00:00:00:02 type veth peer name veth1");
    ip("link set veth0 up");
    ip("link set veth1 up");
}

/// The interface receives it.
fn receive(injector: &Injector, segment: &Tcp) {
    let mut frame = segment.frame();
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    injector.inject(interface(), &frame).unwrap();
}

fn interface() -> u32 {
    baton_kernel::interface_index(INTERFACE).unwrap()
}

/// Packets that the interface has sent.
fn sent() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("veth0:"));
    line.unwrap()
        .split_whitespace()
        .nth(9)
        .unwrap()
        .parse()
        .unwrap()
}

/// Whether the interface answers a SYN.
fn answers(injector: &Injector) -> bool {
    let before = sent();
    receive(injector, &Tcp::syn(CLIENT, VIP));
    sent() > before
}

/// A process of the role proxy, as far as it is in the kernel.
fn proxy(node: &str) -> Proxy {
    let pins = Pins::open(node, "proxy").unwrap();
    alone(Proxy::load(&settings(), SIZES, Some(pins)).unwrap())
}

/// It shakes hands from now on.
fn alone(proxy: Proxy) -> Proxy {
    proxy.view().unwrap().show(&Membership::alone(1)).unwrap();
    proxy
}

fn vip() -> Vip {
    Vip {
        index: 3,
        at: at(VIP),
        mss: 1384,
        offers: offer::ALL,
    }
}

fn server() -> Server {
    Server {
        address: at("10.77.0.21:1").ip(),
        source: at("10.77.0.11:1").ip(),
        ifindex: interface(),
        via: Via::Udp,
    }
}

fn places(node: &str) -> Vec<PathBuf> {
    let all = fs::read_dir("/sys/fs/bpf/baton").into_iter().flatten();
    let all = all.map(|entry| entry.unwrap().path());
    all.filter(|path| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with(node)
    })
    .collect()
}

#[test]
fn the_next_process_goes_on_with_what_is_there() {
    in_namespace(|| {
        let injector = Backend::load(&settings(), 16, None)
            .unwrap()
            .injector()
            .unwrap();
        let key = FlowKey::new(at(CLIENT), at(VIP));
        let entry = flow_entry {
            state: flow_state::BOUND,
            flags: flow_flags::CONFIRMED,
            server: 5,
            boundary: 2000,
            newest_ack: 500,
            header_ack: 500,
            ..flow_entry::default()
        };
        let mut ahead = settings();
        ahead.clock = ahead.clock.later(HOUR);
        let pins = Pins::open("goes-on", "proxy").unwrap();
        let mut first = alone(Proxy::load(&ahead, SIZES, Some(pins)).unwrap());
        first.set_vips(&[vip()]).unwrap();
        first.set_server(5, Some(server())).unwrap();
        first.flows().put(&key, &entry).unwrap();
        first.attach(&[interface()]).unwrap();
        drop(first);

        assert!(answers(&injector), "while no process is there");
        let request = Tcp {
            seq: 2000,
            ack: Some(500),
            flags: "P",
            payload: b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            ..Tcp::new(CLIENT, VIP)
        };
        receive(&injector, &request);

        let pins = Pins::open("goes-on", "proxy").unwrap();
        assert!(pins.found());
        let clock = pins.clock().unwrap();
        let off = ahead.clock.now_ms().abs_diff(clock.now_ms());
        assert!(off < 2, "the clock is {off} ms off");
        let mut second = Proxy::load(&settings(), SIZES, Some(pins)).unwrap();
        assert_eq!(second.vips().unwrap(), [(3, at(VIP))]);
        assert_eq!(second.servers().unwrap(), [(5, server().address)].into());
        assert_eq!(second.flows().entry(&key).unwrap().boundary, 2000);
        let mut waited = Vec::new();
        second.punts().unwrap().open().unwrap().drain(&mut waited);
        assert_eq!(waited.len(), 1, "the request that came meanwhile");
        assert_eq!(waited[0].key, key);

        let mut watch = Watch::new(second.counters().unwrap());
        assert!(answers(&injector));
        assert_eq!(
            watch.moved(),
            [""; 0],
            "it is the first one's program still"
        );
        second.attach(&[interface()]).unwrap();
        assert!(answers(&injector));
        assert_eq!(watch.moved(), ["answered/syn"], "in the first one's place");

        second.detach().unwrap();
        assert!(!answers(&injector), "nothing is left of either");
        assert_eq!(places("goes-on"), [""; 0].map(PathBuf::from));
    });
}

#[test]
fn an_agent_goes_on_too() {
    in_namespace(|| {
        let key = FlowKey::new(at(CLIENT), at(VIP));
        let flow = served_flow {
            state: served_state::FENCED,
            epoch: 7,
            ..served_flow::default()
        };
        let agent = || {
            let pins = Pins::open("agent", "backend").unwrap();
            Backend::load(&settings(), 16, Some(pins)).unwrap()
        };
        let mut first = agent();
        let service = Service {
            vip: at(VIP),
            listen: at("127.0.0.1:8080"),
        };
        first.set_services(&[service]).unwrap();
        first.put_flow(&key, &flow).unwrap();
        first.attach(&[interface()]).unwrap();
        drop(first);
        let mut second = agent();
        assert_eq!(second.vips().unwrap(), [at(VIP).ip()].into());
        assert_eq!(second.flow(&key).unwrap().epoch, 7);
        second.attach(&[interface()]).unwrap();
        second.detach().unwrap();
        assert_eq!(places("agent"), [""; 0].map(PathBuf::from));
    });
}

#[test]
fn another_layout_is_refused_until_it_is_given_up() {
    in_namespace(|| {
        let injector = Backend::load(&settings(), 16, None)
            .unwrap()
            .injector()
            .unwrap();
        let mut first = proxy("other.layout");
        first.set_vips(&[vip()]).unwrap();
        first.attach(&[interface()]).unwrap();
        drop(first);
        let place = places("other%2elayout")[0].join("proxy");
        let names = fs::read_dir(&place).unwrap();
        let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let own = names.find(|name| name.starts_with("settings-")).unwrap();
        fs::rename(place.join(own), place.join("settings-0123456789abcdef")).unwrap();

        let refused = Pins::open("other.layout", "proxy").unwrap_err().to_string();
        assert!(refused.contains("another version"), "{refused}");
        assert!(refused.contains("baton detach other.layout"), "{refused}");
        assert!(answers(&injector), "it still forwards");

        let detached = baton_kernel::detach("other.layout").unwrap();
        assert_eq!(detached.roles, ["proxy"]);
        assert_eq!(detached.vips, [at(VIP).ip()].into());
        assert!(!answers(&injector));
        assert!(!Pins::open("other.layout", "proxy").unwrap().found());
    });
}

#[test]
fn a_place_has_one_process_and_what_was_never_attached_does_not_stay() {
    in_namespace(|| {
        let first = proxy("alone");
        let second = Pins::open("alone", "proxy").unwrap_err();
        assert!(matches!(second, Error::Running { .. }), "{second}");
        let given_up = baton_kernel::detach("alone").unwrap_err();
        assert!(matches!(given_up, Error::Running { .. }), "{given_up}");
        drop(first);
        assert!(!Pins::open("alone", "proxy").unwrap().found());
        assert_eq!(places("alone"), [""; 0].map(PathBuf::from));
    });
}

#[test]
fn interfaces_that_are_gone_or_not_wanted_any_more_are_left() {
    in_namespace(|| {
        let injector = Backend::load(&settings(), 16, None)
            .unwrap()
            .injector()
            .unwrap();
        let other = baton_kernel::interface_index("veth1").unwrap();
        let mut first = proxy("moves");
        first.set_vips(&[vip()]).unwrap();
        first.attach(&[other, interface()]).unwrap();
        drop(first);
        let mut second = proxy("moves");
        second.attach(&[other]).unwrap();
        assert!(!answers(&injector), "the second was not told of it");
        drop(second);
        ip("link delete veth0");
        make_interface();
        let mut third = proxy("moves");
        third.attach(&[interface()]).unwrap();
        assert!(answers(&injector));
        third.detach().unwrap();
    });
}
