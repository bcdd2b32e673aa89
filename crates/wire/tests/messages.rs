//! Every message goes round; forged, cut, damaged ones are refused; fixed vectors that the C side is checked against.

#![allow(clippy::unwrap_used, clippy::panic)]

use baton_packet::{FlowKey, Seq};
use baton_wire::{
    Accepts, Ask, BIND_LEN, Bind, FORWARD_HEADER, Fate, Finding, Heartbeat, Holder, Keep, Kept,
    Key, Keys, Known, MAX_NOTICES, MAX_PROXIES, MAX_REPLICAS, Message, Notice, Outcome, Reason,
    Release, ReleaseAnswer, Replica, Role, Scales, State, What, WireError, decode_notices,
    encode_notices, encode_replicas, pass_header,
};
use proptest::prelude::*;

/// Key bytes 0, 1, 2 ... as in the SipHash paper's test vectors.
fn key() -> Key {
    Key::new(std::array::from_fn(|i| i as u8))
}

fn keys() -> Keys {
    Keys {
        current: key(),
        previous: None,
    }
}

fn flow() -> FlowKey {
    FlowKey::new(
        "192.0.2.1:40000".parse().unwrap(),
        "198.51.100.7:80".parse().unwrap(),
    )
}

fn bind() -> Bind {
    Bind {
        timestamps: true,
        sack: true,
        scales: Some(Scales {
            client: 10,
            server: 7,
        }),
        pinned: false,
        tell: false,
        mss: 1460,
        epoch: 0x0102_0304,
        seq: Seq(0x1122_3344),
        ack: Seq(0x5566_7788),
        boundary: Seq(0x1122_3399),
        requests: 3,
        bodiless: 0b101,
        clock: 0x99aa_bbcc,
    }
}

fn release() -> Release {
    Release {
        key: flow(),
        epoch: 0x0102_0304,
        seq: Seq(0x1122_3344),
        boundary: Seq(0x1122_3399),
        requests: 3,
        bodiless: 0b101,
        ack: Seq(0),
        force: true,
    }
}

fn notice(what: What) -> Notice {
    Notice {
        what,
        key: flow(),
        epoch: 0x0102_0304,
        seq: Seq(0x1122_3344),
        ack: Seq(0x5566_7788),
    }
}

fn heartbeat() -> Heartbeat {
    Heartbeat {
        node: "192.0.2.21".parse().unwrap(),
        role: Role::Backend,
        sequence: 0x0102_0304_0506_0708,
        echo: 0x1112_1314_1516_1718,
        interval: std::time::Duration::from_millis(200),
        accepts: Accepts {
            sack: false,
            ..Accepts::ALL
        },
        findings: vec![Finding {
            vip: "198.51.100.7:80".parse().unwrap(),
            reason: Reason::NoListener,
        }],
        workload: 750,
        state: State {
            ready: true,
            minority: true,
            ..State::default()
        },
        clock: 0x2122_2324_2526_2728,
        digest: 0x3132_3334_3536_3738,
        nodes: vec![
            "192.0.2.11".parse().unwrap(),
            "2001:db8::12".parse().unwrap(),
        ],
    }
}

fn known() -> Known {
    Known {
        timestamps: true,
        sack: false,
        scales: Some(Scales {
            client: 10,
            server: 7,
        }),
        pinned: true,
        mss: 1460,
        epoch: 0x0102_0304,
        seq: Seq(0x1122_3344),
        ack: Seq(0x5566_7788),
        boundary: Seq(0x1122_3399),
        requests: 3,
        bodiless: 0b101,
        next: Seq(0x99aa_bbcc),
    }
}

fn ask() -> Ask {
    Ask {
        key: flow(),
        nonce: 0x0a0b_0c0d,
    }
}

fn replica() -> Replica {
    Replica {
        key: flow(),
        holder: Holder::Server("192.0.2.21".parse().unwrap()),
        pinned: true,
        confirmed: false,
        reused: false,
        closing: true,
        timestamps: true,
        sack: false,
        wscale: Some(9),
        mss: 1460,
        epoch: 1,
        boundary: Seq(2),
        bind_seq: Seq(3),
        bind_ack: Seq(4),
        unconfirmed: Seq(5),
        header_end: Seq(6),
        header_ack: Seq(7),
        requests: 8,
        bodiless: 9,
        newest_ack: Seq(10),
        newest_tsval: 11,
        min_rtt_ms: None,
        window: 12,
        first_seq: Seq(13),
        first_ack: Seq(14),
    }
}

fn keep() -> Keep {
    Keep {
        entry: replica(),
        seq: Seq(0x1122_3344),
        end: Seq(0x1122_3346),
        bytes: b"GET".to_vec(),
    }
}

fn kept() -> Kept {
    Kept {
        key: flow(),
        end: Seq(0x1122_3346),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const FLOW: &str = "00000000000000000000ffffc000020100000000000000000000ffffc63364079c400050";

#[test]
fn vector_bind() {
    assert_eq!(hex(&flow().to_bytes()), FLOW);
    let expected = "4254010107a705b4\
                    TAG\
                    0102030411223344\
                    5566778811223399\
                    0000000300000005\
                    99aabbcc00000000";
    assert_vector(
        &bind().encode(&key(), &flow()),
        expected,
        "755ed8ec1b2cf087",
    );
}

#[test]
fn vector_release() {
    let expected = format!(
        "4254010300010000TAG{FLOW}01020304112233990000000300000005000000001122334400000000"
    );
    assert_vector(&release().encode(&key()), &expected, "926c141c6080db39");
}

#[test]
fn vector_release_answer() {
    let expected = format!(
        "4254010401000000TAG{FLOW}01020304112233990000000300000005aabbccdd1122334400000000"
    );
    let answer = release().answer(Outcome::Released {
        ack: Seq(0xaabb_ccdd),
    });
    assert_vector(&answer.encode(&key()), &expected, "a912d5a6674d851e");
}

#[test]
fn vector_notices() {
    let expected = format!("4254010500010000TAG03040000{FLOW}010203041122334455667788");
    let message = encode_notices(&[notice(What::Refused { reason: 4 })], &key())
        .next()
        .unwrap();
    assert_vector(&message, &expected, "76b5daf53e47c530");
}

#[test]
fn vector_heartbeat() {
    let expected = "42540106020d0001\
                    TAG\
                    00000000000000000000ffffc0000215\
                    0102030405060708\
                    1112131415161718\
                    000000c802ee0902\
                    2122232425262728\
                    3132333435363738\
                    00000000000000000000ffffc633640700500200\
                    00000000000000000000ffffc000020b\
                    20010db8000000000000000000000012";
    assert_vector(&heartbeat().encode(&key()), expected, "53f45c6e099e61fa");
}

#[test]
fn vector_ask() {
    let expected = format!("4254010900000000TAG{FLOW}{}0a0b0c0d", "00".repeat(32));
    assert_vector(&ask().encode(&key()), &expected, "f9ecb1c5e5de1bfd");
}

#[test]
fn vector_truth() {
    let expected = format!(
        "4254010a030d05b4TAG{FLOW}000000a701020304112233445566778811223399000000030000000599aabbcc0a0b0c0d"
    );
    let truth = ask().answer(Fate::Released(known()));
    assert_vector(&truth.encode(&key()), &expected, "d2ee99dad65f165b");
}

#[test]
fn vector_entries() {
    let numbers: String = (1..12).map(|number| format!("{number:08x}")).collect();
    let expected = format!(
        "4254010800010000TAG{FLOW}0211050900000000000000000000ffffc0000215{numbers}ffffffff000c05b40000000d0000000e00000000"
    );
    let message = encode_replicas(&[replica()], &key()).next().unwrap();
    assert_vector(&message, &expected, "8725a28d4f090c29");
}

#[test]
fn vector_keep_and_kept() {
    let numbers: String = (1..12).map(|number| format!("{number:08x}")).collect();
    let expected = format!(
        "4254010b00030000TAG{FLOW}0211050900000000000000000000ffffc0000215{numbers}ffffffff000c05b40000000d0000000e000000001122334411223346474554"
    );
    assert_vector(&keep().encode(&key()), &expected, "811a4f6dd74d6a6c");
    let expected = format!("4254010c00000000TAG{FLOW}11223346");
    assert_vector(&kept().encode(&key()), &expected, "d07eb0eaefbc3e4f");
}

#[test]
fn vectors_without_a_tag() {
    assert_eq!(hex(&FORWARD_HEADER), "4254010200000000");
    assert_eq!(hex(&pass_header(2)), "4254010702000000");
}

/// The tags were computed by another implementation of SipHash.
fn assert_vector(message: &[u8], expected: &str, tag: &str) {
    assert_eq!(hex(message), expected.replace("TAG", tag));
}

/// SipHash-2-4 of the reference implementation for 15 bytes 0, 1, 2 ...: the primitive is the one that C has.
#[test]
fn primitive_is_siphash_2_4() {
    let hash = siphasher::sip::SipHasher24::new_with_key(key().bytes());
    let message: Vec<u8> = (0..15).collect();
    assert_eq!(hash.hash(&message), 0xa129_ca61_49be_45e5);
}

#[test]
fn every_single_bit_counts() {
    let (message, answer) = (
        release().encode(&key()),
        release().answer(Outcome::Busy).encode(&key()),
    );
    let header = bind().encode(&key(), &flow());
    let notices = encode_notices(&[notice(What::Gone)], &key())
        .next()
        .unwrap();
    let alive = heartbeat().encode(&key());
    let flipped = |bytes: &[u8], bit: usize| {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    };
    for bit in 0..8 * message.len() {
        assert!(
            Message::decode(&flipped(&message, bit), &keys()).is_err(),
            "release, bit {bit}"
        );
        assert!(
            Message::decode(&flipped(&answer, bit), &keys()).is_err(),
            "answer, bit {bit}"
        );
    }
    for bit in 0..8 * notices.len() {
        assert!(
            Message::decode(&flipped(&notices, bit), &keys()).is_err(),
            "notices, bit {bit}"
        );
    }
    for bit in 0..8 * alive.len() {
        assert!(
            Message::decode(&flipped(&alive, bit), &keys()).is_err(),
            "heartbeat, bit {bit}"
        );
    }
    let others = [
        ask().encode(&key()).to_vec(),
        ask().answer(Fate::Held(known())).encode(&key()).to_vec(),
        encode_replicas(&[replica()], &key()).next().unwrap(),
        keep().encode(&key()),
        kept().encode(&key()),
    ];
    for message in others {
        for bit in 0..8 * message.len() {
            let read = Message::decode(&flipped(&message, bit), &keys());
            assert!(read.is_err(), "kind {}, bit {bit}", message[3]);
        }
    }
    for bit in 0..8 * BIND_LEN {
        assert!(
            Bind::decode(&flipped(&header, bit), &keys(), &flow()).is_err(),
            "bind, bit {bit}"
        );
    }
    for bit in 0..8 * 36 {
        let other = FlowKey::from_bytes(&flipped(&flow().to_bytes(), bit).try_into().unwrap());
        assert_eq!(
            Bind::decode(&header, &keys(), &other),
            Err(WireError::Tag),
            "flow, bit {bit}"
        );
    }
}

#[test]
fn both_keys_are_accepted_and_no_other() {
    let old = Key::new([9; 16]);
    let message = release().encode(&old);
    assert_eq!(Message::decode(&message, &keys()), Err(WireError::Tag));
    let rotating = Keys {
        current: key(),
        previous: Some(old),
    };
    assert_eq!(
        Message::decode(&message, &rotating),
        Ok(Message::Release(release()))
    );
    assert_eq!(
        Message::decode(&release().encode(&key()), &rotating),
        Ok(Message::Release(release()))
    );
}

#[test]
fn errors_say_what_is_wrong() {
    let message = release().encode(&key());
    let with = |at: usize, byte: u8| {
        let mut message = message;
        message[at] = byte;
        Message::decode(&message, &keys())
    };
    assert_eq!(Message::decode(&[], &keys()), Err(WireError::Length(0)));
    assert_eq!(
        Message::decode(&message[..79], &keys()),
        Err(WireError::Length(79))
    );
    assert_eq!(
        Message::decode(&[&message[..], &[0]].concat(), &keys()),
        Err(WireError::Length(81))
    );
    assert_eq!(with(0, b'X'), Err(WireError::Magic));
    assert_eq!(with(2, 2), Err(WireError::Version(2)));
    assert_eq!(with(3, 99), Err(WireError::Kind(99)));
    assert_eq!(
        with(3, 1),
        Err(WireError::Kind(1)),
        "a bind is not for user space"
    );
    assert_eq!(
        with(3, 4),
        Err(WireError::Tag),
        "a request is not an answer"
    );
    assert_eq!(with(8, !message[8]), Err(WireError::Tag));
    assert_eq!(
        Bind::decode(&message, &keys(), &flow()),
        Err(WireError::Kind(3))
    );
}

#[test]
fn many_notices_take_many_datagrams() {
    let all: Vec<Notice> = (0..60)
        .map(|i| Notice {
            epoch: i,
            what: [What::Ready, What::Gone, What::Unknown, What::Taken][i as usize % 4],
            ..notice(What::Gone)
        })
        .collect();
    let datagrams: Vec<_> = encode_notices(&all, &key()).collect();
    assert_eq!(
        datagrams.iter().map(Vec::len).collect::<Vec<_>>(),
        [16 + 24 * 52, 16 + 24 * 52, 16 + 12 * 52]
    );
    let read: Vec<Notice> = datagrams
        .iter()
        .flat_map(|datagram| decode_notices(datagram, &keys()).unwrap())
        .collect();
    assert_eq!(read, all);
    assert_eq!(MAX_NOTICES, 24);
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        any::<u32>().prop_map(|ack| Outcome::Released { ack: Seq(ack) }),
        Just(Outcome::Busy),
        Just(Outcome::Closed),
        Just(Outcome::Unknown),
    ]
}

proptest! {
    #[test]
    fn binds_go_round(flags: (bool, bool, bool, bool), scales in proptest::option::of((0u8..15, 0u8..15)), mss: u16, words: [u32; 7], flow: [u8; 32], ports: [u8; 4]) {
        let header = Bind {
            timestamps: flags.0,
            sack: flags.1,
            scales: scales.map(|(client, server)| Scales { client, server }),
            pinned: flags.2,
            tell: flags.3,
            mss,
            epoch: words[0],
            seq: Seq(words[1]),
            ack: Seq(words[2]),
            boundary: Seq(words[3]),
            requests: words[4],
            bodiless: words[5],
            clock: words[6],
        };
        let flow = FlowKey::from_bytes(&[&flow[..], &ports].concat().try_into().unwrap());
        prop_assert_eq!(Bind::decode(&header.encode(&key(), &flow), &keys(), &flow), Ok(header));
    }

    #[test]
    fn releases_go_round(words: [u32; 6], force: bool, outcome in outcome()) {
        let release = Release {
            key: flow(),
            epoch: words[0],
            seq: Seq(words[1]),
            boundary: Seq(words[2]),
            requests: words[3],
            bodiless: words[4],
            ack: Seq(words[5]),
            force,
        };
        prop_assert_eq!(Message::decode(&release.encode(&key()), &keys()), Ok(Message::Release(release)));
        let answer: ReleaseAnswer = release.answer(outcome);
        prop_assert_eq!(Message::decode(&answer.encode(&key()), &keys()), Ok(Message::ReleaseAnswer(answer)));
    }

    #[test]
    fn truths_go_round(flags: [bool; 4], scales in (0u8..15, 0u8..15), mss: u16, words: [u32; 8], state in 0..5) {
        let known = Known {
            timestamps: flags[0],
            sack: flags[1],
            scales: flags[2].then_some(Scales { client: scales.0, server: scales.1 }),
            pinned: flags[3],
            mss,
            epoch: words[0],
            seq: Seq(words[1]),
            ack: Seq(words[2]),
            boundary: Seq(words[3]),
            requests: words[4],
            bodiless: words[5],
            next: Seq(words[6]),
        };
        let fate = match state {
            0 => Fate::Held(known),
            1 => Fate::Unknown,
            2 => Fate::Released(known),
            3 => Fate::Ended(known),
            _ => Fate::Forgotten,
        };
        let ask = Ask { nonce: words[7], ..ask() };
        prop_assert_eq!(Message::decode(&ask.encode(&key()), &keys()), Ok(Message::Ask(ask)));
        let truth = ask.answer(fate);
        prop_assert_eq!(Message::decode(&truth.encode(&key()), &keys()), Ok(Message::Truth(truth)));
    }

    #[test]
    fn replicas_go_round(count in 0..30usize, flags: [bool; 6], scale in proptest::option::of(0u8..15), words: [u32; 8], holder in 0..4usize, server: [u8; 16]) {
        let server = std::net::Ipv6Addr::from(server).to_canonical();
        let replica = Replica {
            holder: [Holder::Nobody, Holder::Server(server), Holder::Relay(server), Holder::Reset][holder],
            pinned: flags[0],
            confirmed: flags[1],
            reused: flags[2],
            closing: flags[3],
            timestamps: flags[4],
            sack: flags[5],
            wscale: scale,
            epoch: words[0],
            boundary: Seq(words[1]),
            newest_ack: Seq(words[2]),
            newest_tsval: words[3],
            min_rtt_ms: Some(words[4] >> 1),
            window: words[5] as u16,
            first_seq: Seq(words[6]),
            first_ack: Seq(words[7]),
            ..replica()
        };
        let all: Vec<_> = (0..count as u32).map(|i| Replica { requests: i, ..replica }).collect();
        let mut read = Vec::new();
        for message in encode_replicas(&all, &key()) {
            prop_assert!(message.len() <= 1400);
            let Ok(Message::Entries(some)) = Message::decode(&message, &keys()) else {
                panic!("not read");
            };
            prop_assert!(some.len() <= MAX_REPLICAS);
            read.extend(some);
        }
        prop_assert_eq!(read, all);
    }

    #[test]
    fn what_is_kept_goes_round(words: [u32; 3], bytes in proptest::collection::vec(any::<u8>(), 0..1200)) {
        let keep = Keep { seq: Seq(words[0]), end: Seq(words[1]), bytes, ..keep() };
        let message = keep.encode(&key());
        prop_assert!(message.len() <= 1400);
        prop_assert_eq!(Message::decode(&message, &keys()), Ok(Message::Keep(Box::new(keep))));
        let kept = Kept { end: Seq(words[2]), ..kept() };
        prop_assert_eq!(Message::decode(&kept.encode(&key()), &keys()), Ok(Message::Kept(kept)));
    }

    #[test]
    fn heartbeats_fit_and_lose_findings_before_nodes(findings in 0..100usize, nodes in 0..50usize) {
        let sent = Heartbeat {
            findings: vec![heartbeat().findings[0]; findings],
            nodes: vec![heartbeat().nodes[0]; nodes],
            ..heartbeat()
        };
        let message = sent.encode(&key());
        prop_assert!(message.len() <= 1232);
        let Ok(Message::Heartbeat(read)) = Message::decode(&message, &keys()) else {
            panic!("not read");
        };
        prop_assert_eq!(read.nodes.len(), nodes.min(MAX_PROXIES));
        prop_assert!(read.findings.len() >= findings.min(32));
    }

    #[test]
    fn heartbeats_go_round(bits: [bool; 9], nodes in proptest::collection::vec(any::<[u8; 16]>(), 0..5), numbers: [u64; 4], workload: u16, interval: u32, findings in proptest::collection::vec((any::<std::net::SocketAddrV4>(), 0u8..9), 0..50)) {
        let findings = findings.into_iter().map(|(vip, reason)| {
            let reason = match reason {
                1 => Reason::NotServed,
                2 => Reason::NoListener,
                3 => Reason::Mptcp,
                4 => Reason::Refused,
                5 => Reason::Blocked,
                6 => Reason::Unhealthy,
                other => Reason::Other(other),
            };
            Finding { vip: vip.into(), reason }
        });
        let sent = Heartbeat {
            role: if bits[0] { Role::Proxy } else { Role::Balancer },
            workload,
            state: State { ready: bits[5], draining: bits[6], leaving: bits[7], minority: bits[8] },
            clock: numbers[2],
            digest: numbers[3],
            nodes: nodes.into_iter().map(|octets| std::net::Ipv6Addr::from(octets).to_canonical()).collect(),
            accepts: Accepts { timestamps: bits[1], sack: bits[2], window_scaling: bits[3], syncookies: bits[4] },
            sequence: numbers[0],
            echo: numbers[1],
            interval: std::time::Duration::from_millis(interval.into()),
            findings: findings.collect(),
            ..heartbeat()
        };
        prop_assert_eq!(Message::decode(&sent.encode(&key()), &keys()), Ok(Message::Heartbeat(sent)));
    }

    #[test]
    fn anything_is_read_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u8..15) {
        for (at, byte) in [b'B', b'T', 1, kind].into_iter().enumerate() {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        prop_assert!(Message::decode(&bytes, &keys()).is_err());
        prop_assert!(Bind::decode(&bytes, &keys(), &flow()).is_err());
    }
}
