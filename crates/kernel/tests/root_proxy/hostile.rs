//! What must not get through.

use super::*;

#[test]
fn a_copy_of_the_first_segment_begins_nothing() {
    let mut bench = Bench::new();
    let syn = Tcp::syn(CLIENT, VIP);
    let request = bench.shake(&syn);
    bench.run(&request.frame());
    let key = FlowKey::new(at(CLIENT), at(VIP));
    let first = bench.proxy.flows().entry(&key).unwrap();
    // The flow has moved on to another server meanwhile.
    bench.bind(flow_entry {
        first_seq: first.first_seq,
        first_ack: first.first_ack,
        newest_ack: first.newest_ack.wrapping_add(500),
        ..bound(request.seq + 5000)
    });
    bench.run(&syn.frame());
    let (_, _, moved, punts) = bench.run(&request.frame());
    assert_eq!(
        (moved.join(" ").as_str(), punts.len()),
        ("forwarded/bound", 0)
    );
}

#[test]
fn what_a_blind_attacker_sends_is_not_parsed() {
    let mut bench = Bench::new();
    let key = bench.bind(bound(2000));
    for ack in [500 + (1 << 21), 500u32.wrapping_sub(1 << 21), 0x8000_0000] {
        let spoofed = Tcp {
            ack: Some(ack),
            ..data(2000, 1)
        };
        assert_eq!(bench.verdict(&spoofed.frame()), dropped("bad_ack"), "{ack}");
        bench.run(
            &Tcp {
                ack: Some(ack),
                ..data(1000, 0)
            }
            .frame(),
        );
        assert_eq!(
            bench.proxy.flows().entry(&key).unwrap().newest_ack,
            500,
            "nor remembered"
        );
    }
    for (seq, closes) in [(12_345, false), (2001, false), (2000, true)] {
        bench.bind(bound(2000));
        bench.run(
            &Tcp {
                flags: "R",
                ..data(seq, 0)
            }
            .frame(),
        );
        let closing = bench.proxy.flows().entry(&key).unwrap().flags & flow_flags::CLOSING != 0;
        assert_eq!(closing, closes, "RST at {seq}");
    }
}

#[test]
fn encapsulated_to_another_network() {
    let mut bench = Bench::new();
    bench.bind(flow_entry {
        server: 1,
        ..bound(2000)
    });
    let packet = data(1000, 64);
    let (verdict, after, moved, _) = bench.run(&packet.frame());
    assert_eq!(
        (verdict, moved),
        (REDIRECT, vec!["forwarded/bound_encapsulated".to_string()])
    );
    let sliced = etherparse::SlicedPacket::from_ethernet(&after).unwrap();
    let Some(etherparse::TransportSlice::Udp(udp)) = sliced.transport else {
        panic!("{after:02x?}")
    };
    assert_eq!(udp.destination_port(), 6950);
    assert_eq!(udp.payload()[..8], [b'B', b'T', 1, 2, 0, 0, 0, 0]);
    assert_eq!(
        udp.payload()[8..],
        packet.ip()[..],
        "the client's packet, unchanged"
    );
    let ip = etherparse::Ipv4HeaderSlice::from_slice(&after[14..]).unwrap();
    assert_eq!(ip.header_checksum(), ip.to_header().calc_header_checksum());
    assert_eq!(
        (ip.source(), ip.destination()),
        ([10, 77, 0, 11], [10, 77, 0, 21])
    );
}

#[test]
fn fragments_and_lies_about_lengths_are_dropped() {
    let mut bench = Bench::new();
    let good = Tcp {
        ack: Some(7),
        ..data(1000, 20)
    }
    .frame();
    let with = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        frame
    };
    assert_eq!(bench.verdict(&with(14 + 6, 0x20)), dropped("fragment"));
    assert_eq!(bench.verdict(&with(14 + 7, 0x08)), dropped("fragment"));
    assert_eq!(
        bench.verdict(&with(14 + 2, 0xff)),
        dropped("malformed"),
        "IP says more than there is"
    );
    assert_eq!(
        bench.verdict(&with(14 + 3, 30)),
        dropped("malformed"),
        "IP ends within the TCP header"
    );
    assert_eq!(
        bench.verdict(&with(14 + 20 + 12, 0xf0)),
        dropped("malformed"),
        "TCP header longer than the packet"
    );
    assert_eq!(
        bench.verdict(&with(14 + 20 + 12, 0x40)),
        dropped("malformed"),
        "TCP header shorter than a TCP header"
    );
    for cut in 34..good.len() {
        let (verdict, ..) = bench.run(&good[..cut]);
        assert!(
            verdict == DROP || verdict == NEXT,
            "cut at {cut}: {verdict}"
        );
    }
}

#[test]
fn a_full_table_refuses_new_flows() {
    let mut bench = Bench::with(sizes(2));
    let verdicts: Vec<_> = (0..200)
        .map(|i| {
            let request = bench.shake(&Tcp::syn(&format!("10.77.0.1:{}", 42000 + i), VIP));
            bench.watch.moved();
            bench.verdict(&request.frame()).1
        })
        .collect();
    assert!(verdicts.contains(&"dropped/flow_table_full".to_string()));
    assert!(bench.proxy.flows().all().unwrap().len() <= 128);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever a client sends, the program gives a verdict, keeps nothing, and answers nothing that is not TCP of its own.
    #[test]
    fn noise_keeps_nothing(noise in proptest::collection::vec(any::<u8>(), 20..200), options in proptest::collection::vec(any::<u8>(), 0..40), flags in any::<u8>()) {
        thread_local!(static BENCH: std::cell::RefCell<Bench> = std::cell::RefCell::new(Bench::new()));
        BENCH.with_borrow_mut(|bench| {
            let mut frame = Tcp { payload: noise.clone(), ..data(1, 0) }.frame();
            let header = 14 + 20;
            let room = options.len() / 4 * 4;
            frame[header + 12] = ((20 + room.min(noise.len() / 4 * 4)) as u8 / 4) << 4;
            frame[header + 13] = flags;
            for (i, b) in options.iter().take(room.min(noise.len())).enumerate() {
                frame[header + 20 + i] = *b;
            }
            let (verdict, after, _, punts) = bench.run(&frame);
            prop_assert!(punts.iter().all(|punt| punt.doubt && punt.fresh.is_none()));
            prop_assert!(bench.proxy.flows().all().unwrap().is_empty());
            if verdict == REDIRECT {
                prop_assert_eq!(after[header + 13], 0x12);
            } else {
                prop_assert_eq!(verdict, DROP);
            }
            Ok(())
        })?;
    }
}
