//! Every message goes round; forged, cut, damaged ones are refused; fixed vectors that the C side is checked against.

#![allow(clippy::unwrap_used, clippy::panic)]

use baton_packet::{FlowKey, Seq};
use baton_wire::{
    Accepts, BIND_LEN, Bind, FORWARD_HEADER, Finding, Heartbeat, Key, Keys, MAX_FINDINGS,
    MAX_NOTICES, Message, Notice, Outcome, Reason, Release, ReleaseAnswer, Role, Scales, What,
    WireError, decode_notices, encode_notices,
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
                    000000c800000000\
                    00000000000000000000ffffc633640700500200";
    assert_vector(&heartbeat().encode(&key()), expected, "52dd4c457e3ef55c");
}

#[test]
fn vector_forward() {
    assert_eq!(hex(&FORWARD_HEADER), "4254010200000000");
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
    assert_eq!(with(3, 9), Err(WireError::Kind(9)));
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
    fn heartbeats_go_round(bits: [bool; 5], numbers: [u64; 2], interval: u32, findings in proptest::collection::vec((any::<std::net::SocketAddrV4>(), 0u8..9), 0..MAX_FINDINGS)) {
        let findings = findings.into_iter().map(|(vip, reason)| {
            let reason = match reason {
                1 => Reason::NotServed,
                2 => Reason::NoListener,
                3 => Reason::Mptcp,
                4 => Reason::Refused,
                5 => Reason::Blocked,
                other => Reason::Other(other),
            };
            Finding { vip: vip.into(), reason }
        });
        let sent = Heartbeat {
            role: if bits[0] { Role::Proxy } else { Role::Backend },
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
    fn anything_is_read_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u8..9) {
        for (at, byte) in [b'B', b'T', 1, kind].into_iter().enumerate() {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        prop_assert!(Message::decode(&bytes, &keys()).is_err());
        prop_assert!(Bind::decode(&bytes, &keys(), &flow()).is_err());
    }
}
