//! VIP addresses and kernel settings, in a network namespace of the test's own. Needs root.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::fs::read_to_string;
use std::process::Command;
use std::thread;

use baton::addresses::{Addresses, Placed, Subnets, Sysctls};
use nix::sched::{CloneFlags, unshare};

/// Runs `test` on a thread of its own in a fresh network namespace, where `veth0` has 10.77.0.11/24 and fd77::11/64.
fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    thread::scope(|scope| {
        let outcome = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ip("link set lo up");
            ip("link add veth0 type veth peer name veth1");
            ip("addr add 10.77.0.11/24 dev veth0");
            ip("addr add fd77::11/64 dev veth0 nodad");
            ip("link set veth0 up");
            ip("link set veth1 up");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(test());
        });
        outcome.join().unwrap();
    });
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn placed(addresses: &[(&str, &str)]) -> BTreeSet<Placed> {
    let placed = |(address, interface): &(&str, &str)| Placed {
        address: address.parse().unwrap(),
        interface: (*interface).to_owned(),
    };
    addresses.iter().map(placed).collect()
}

#[test]
fn addresses_come_and_go() {
    in_namespace(|| async {
        let before = ip("-o addr");
        let mut addresses = Addresses::new().unwrap();
        let wanted = placed(&[
            ("10.77.0.10", "veth0"),
            ("fd77::10", "veth0"),
            ("10.77.0.9", "lo"),
        ]);
        addresses.hold(&wanted).await.unwrap();
        addresses.hold(&wanted).await.unwrap();
        let held = ip("-o addr");
        assert_eq!(held.matches("10.77.0.10/32").count(), 1, "{held}");
        assert!(held.contains("inet 10.77.0.9/32 scope global lo"), "{held}");
        let v6 = held
            .lines()
            .find(|line| line.contains("fd77::10/128"))
            .unwrap();
        assert!(v6.contains("nodad") && !v6.contains("tentative"), "{v6}");

        addresses
            .hold(&placed(&[("10.77.0.10", "veth0")]))
            .await
            .unwrap();
        let held = ip("-o addr");
        assert!(
            held.contains("10.77.0.10/32")
                && !held.contains("10.77.0.9/32")
                && !held.contains("fd77::10"),
            "{held}"
        );
        addresses.hold(&BTreeSet::new()).await.unwrap();
        assert_eq!(
            without_lifetimes(&ip("-o addr")),
            without_lifetimes(&before)
        );
    });
}

/// An interface may come up meanwhile; what counts is which addresses there are.
fn without_lifetimes(listing: &str) -> Vec<Vec<String>> {
    let words = |line: &str| {
        line.split_whitespace()
            .skip(1)
            .take(3)
            .map(str::to_owned)
            .collect()
    };
    listing
        .lines()
        .filter(|line| !line.contains("fe80"))
        .map(words)
        .collect()
}

#[test]
fn an_address_that_was_there_stays() {
    in_namespace(|| async {
        ip("addr add 10.77.0.10/32 dev veth0");
        let mut addresses = Addresses::new().unwrap();
        addresses
            .hold(&placed(&[("10.77.0.10", "veth0")]))
            .await
            .unwrap();
        addresses.hold(&BTreeSet::new()).await.unwrap();
        assert!(ip("-o addr").contains("10.77.0.10/32"));
    });
}

#[test]
fn a_missing_interface_is_told() {
    in_namespace(|| async {
        let mut addresses = Addresses::new().unwrap();
        let error = addresses
            .hold(&placed(&[("10.77.0.10", "eth7")]))
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("no interface \"eth7\""),
            "{error}"
        );
    });
}

#[test]
fn settings_are_put_back() {
    in_namespace(|| async {
        let values = || {
            ["arp_ignore", "arp_announce"]
                .map(|key| read_to_string(format!("/proc/sys/net/ipv4/conf/veth0/{key}")).unwrap())
        };
        let before = values();
        assert_ne!(before, ["1\n", "2\n"]);
        let mut sysctls = Sysctls::default();
        sysctls.keep_addresses_quiet("veth0").unwrap();
        assert_eq!(values(), ["1\n", "2\n"]);
        sysctls.restore();
        assert_eq!(values(), before);
    });
}

#[test]
fn neighbours_are_those_of_the_namespace() {
    in_namespace(|| async {
        let subnets = Subnets::of(&["veth0".to_owned()]).unwrap();
        let index: u32 = ip("-o link show veth0")
            .split(':')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(
            subnets.neighbour("10.77.0.21".parse().unwrap()),
            Some(index)
        );
        assert_eq!(subnets.neighbour("fd77::21".parse().unwrap()), Some(index));
        assert_eq!(subnets.neighbour("10.77.1.21".parse().unwrap()), None);
        assert_eq!(subnets.neighbour("127.0.0.2".parse().unwrap()), None);
    });
}
