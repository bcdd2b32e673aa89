//! What becomes of a packet.

use super::*;

fn dropped(reason: &str) -> (i32, String) {
    (DROP, format!("dropped/{reason}"))
}

fn next() -> (i32, String) {
    (NEXT, String::new())
}

fn to_proxy(reason: &str) -> (i32, String) {
    (REDIRECT, format!("forwarded/{reason}"))
}

#[test]
fn on_the_same_network_the_packet_is_not_touched() {
    let mut bench = Bench::new().spread(Mode::Flow, vec![0; SLOTS]);
    bench
        .balancer
        .set_proxy(0, Some(proxy(0, Via::Neighbour)))
        .unwrap();
    for number in 0..2 {
        let frame = segment(number).frame();
        let (_, after) = bench.balancer.test_run(&frame).unwrap();
        assert_eq!(after[14..], frame[14..]);
        bench.watch.moved();
        assert_eq!(bench.verdict(&frame), to_proxy("to_proxy"));
    }
}

#[test]
fn to_another_network_it_is_passed_in_udp() {
    let mut bench = Bench::new().spread(Mode::Flow, vec![1; SLOTS]);
    let at6 = |text: &str| at(text).ip();
    let over6 = Server {
        address: at6("[fd77::11]:1"),
        source: at6("[fd77::5]:1"),
        ..proxy(1, Via::Udp)
    };
    for (proxy, outer) in [(proxy(1, Via::Udp), 28), (over6, 48)] {
        bench.balancer.set_proxy(1, Some(proxy)).unwrap();
        for number in 0..2 {
            let frame = segment(number).frame();
            let (_, after) = bench.balancer.test_run(&frame).unwrap();
            let udp = &after[14 + outer - 8..];
            assert_eq!(udp[2..4], PORT.to_be_bytes());
            assert_eq!(udp[8..16], [b'B', b'T', 1, 7, 0, 0, 0, 0], "no hop yet");
            assert_eq!(udp[16..], frame[14..]);
            bench.watch.moved();
            assert_eq!(bench.verdict(&frame), to_proxy("to_proxy_encapsulated"));
        }
    }
}

#[test]
fn without_a_proxy_it_is_dropped() {
    let frame = segment(0).frame();
    assert_eq!(
        Bench::new().verdict(&frame),
        dropped("no_proxy"),
        "no table yet"
    );
    let mut bench = Bench::new().spread(Mode::Batch, vec![]);
    assert_eq!(bench.verdict(&frame), dropped("no_proxy"), "none is live");
    let mut bench = Bench::new().spread(Mode::Flow, vec![2; SLOTS]);
    bench.balancer.set_proxy(2, None).unwrap();
    assert_eq!(bench.verdict(&frame), dropped("no_proxy"), "it was removed");
}

#[test]
fn an_icmp_error_goes_where_the_flow_goes() {
    let places = thirds();
    let mut bench = Bench::new().spread(Mode::Flow, places);
    for number in 0..200 {
        let flow = segment(number);
        let (kind, code) = if flow.to.is_ipv6() { (2, 0) } else { (3, 4) };
        let error = icmp_error(&flow, kind, code, 1300);
        assert_eq!(bench.proxy_of(&error), bench.proxy_of(&flow.frame()));
        bench.watch.moved();
        assert_eq!(bench.verdict(&error), to_proxy("icmp_error"));
    }
    let flow = segment(0);
    assert_eq!(
        bench.verdict(&icmp_error(&flow, 8, 0, 0)),
        next(),
        "echo request"
    );
    let ssh = Tcp {
        to: at("10.77.0.10:22"),
        ..flow
    };
    assert_eq!(
        bench.verdict(&icmp_error(&ssh, 3, 4, 1300)),
        next(),
        "of the host's own"
    );
}

#[test]
fn what_is_for_others_is_left_alone() {
    let mut bench = Bench::new().spread(Mode::Flow, thirds());
    let other = |to: &str| Tcp {
        to: at(to),
        ..segment(0)
    };
    assert_eq!(
        bench.verdict(&other("10.77.0.10:81").frame()),
        next(),
        "port"
    );
    assert_eq!(
        bench.verdict(&other("10.77.0.5:80").frame()),
        next(),
        "address"
    );
    assert_eq!(
        bench.verdict(&udp_frame("10.77.0.1:53", VIP, b"hello")),
        next(),
        "protocol"
    );
    let mut flooded = segment(0).frame();
    flooded[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    assert_eq!(bench.verdict(&flooded), next(), "link-layer address");
}

#[test]
fn fragments_and_nonsense_are_dropped() {
    let mut bench = Bench::new().spread(Mode::Flow, thirds());
    let mut fragment = segment(0).frame();
    fragment[14 + 6] = 0x20; // more fragments
    assert_eq!(bench.verdict(&fragment), dropped("fragment"));
    let mut fragment6 = segment(1).frame();
    fragment6[14 + 6] = 44;
    assert_eq!(bench.verdict(&fragment6), dropped("fragment"));
    let mut short = segment(0).frame();
    short[14 + 20 + 12] = 0x40; // a TCP header of 16 bytes
    assert_eq!(bench.verdict(&short), dropped("malformed"));
}
