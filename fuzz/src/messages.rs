//! Messages between nodes: only authentic ones are read, and what is read is written back the same.

use std::hash::Hasher;

use baton_packet::FlowKey;
use baton_wire::{BIND_LEN, Bind, Key, Keys, Message, Secrets, encode_notices, encode_replicas};
use siphasher::sip::SipHasher24;

use crate::split_first;

const CURRENT: [u8; 16] = *b"the current key.";
const PREVIOUS: [u8; 16] = *b"the previous key";
const TAG: std::ops::Range<usize> = 8..16;

/// A byte that says which key makes the tag (or none: it is in the bytes) and which bit is turned, and a message.
pub fn run(data: &[u8]) {
    let (how, message) = split_first(data);
    let mut message = message.to_vec();
    let flow = FlowKey::from_bytes(b"0123456789abcdef0123456789abcdefPORT");
    let context = if message.get(3) == Some(&1) {
        flow.to_bytes().to_vec()
    } else {
        Vec::new()
    };
    let sealed = match how & 3 {
        1 => Some(&CURRENT),
        2 => Some(&PREVIOUS),
        _ => None,
    };
    if let (Some(key), true) = (sealed, message.len() >= TAG.end) {
        let right = tag(key, &message, &context);
        message[TAG].copy_from_slice(&right);
    }

    let is_read = read(&message, &flow);
    if is_read {
        let made_by = |key| tag(key, &message, &context) == message[TAG];
        assert!(made_by(&CURRENT) || made_by(&PREVIOUS), "not authentic");
        let bit = usize::from(how >> 2) * 31 % (8 * message.len());
        message[bit / 8] ^= 1 << (bit % 8);
        assert!(!read(&message, &flow), "bit {bit} does not count");
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Secrets::parse(text);
    }
}

/// Whether it is taken for a message; if so, it goes round.
fn read(message: &[u8], flow: &FlowKey) -> bool {
    let (current, previous) = (Key::new(CURRENT), Key::new(PREVIOUS));
    let keys = Keys {
        current,
        previous: Some(previous),
    };
    if message.get(3) == Some(&1) {
        assert!(
            Message::decode(message, &keys).is_err(),
            "not for user space"
        );
        let Ok(bind) = Bind::decode(message, &keys, flow) else {
            return false;
        };
        assert_eq!(message.len(), BIND_LEN);
        let again = Bind::decode(&bind.encode(&current, flow), &keys, flow).unwrap();
        assert_eq!(again.scales.is_some(), bind.scales.is_some());
        let unscaled = |bind: Bind| Bind {
            scales: None,
            ..bind
        };
        assert_eq!(unscaled(again), unscaled(bind));
        return true;
    }
    let Ok(read) = Message::decode(message, &keys) else {
        return false;
    };
    let written = match &read {
        Message::Release(release) => vec![release.encode(&current).to_vec()],
        Message::ReleaseAnswer(answer) => vec![answer.encode(&current).to_vec()],
        Message::Heartbeat(heartbeat) => vec![heartbeat.encode(&current)],
        Message::Notices(notices) => encode_notices(notices, &current).collect(),
        Message::Entries(replicas) => encode_replicas(replicas, &current).collect(),
        Message::Keep(keep) => vec![keep.encode(&current)],
        Message::Kept(kept) => vec![kept.encode(&current)],
        Message::Ask(ask) => vec![ask.encode(&current).to_vec()],
        Message::Truth(truth) => vec![truth.encode(&current).to_vec()],
    };
    match &written[..] {
        // A heartbeat gives up findings for nodes.
        [one] if matches!(read, Message::Heartbeat(_)) => assert!(one.len() <= message.len()),
        [one] => {
            assert_eq!(one.len(), message.len());
            assert_eq!(Message::decode(one, &keys), Ok(read));
        }
        none => {
            let nothing = [Message::Notices(Vec::new()), Message::Entries(Vec::new())];
            assert!(none.is_empty() && nothing.contains(&read));
        }
    }
    true
}

/// As `docs/wire.md` says it: the tag counts as zero, and the end is filled up to whole words.
fn tag(key: &[u8; 16], message: &[u8], context: &[u8]) -> [u8; 8] {
    let mut hash = SipHasher24::new_with_key(key);
    let length = message.len() + context.len();
    let mut input = [message, context].concat();
    input.resize(length.next_multiple_of(8), 0);
    input[TAG].fill(0);
    hash.write(&input);
    hash.finish().to_le_bytes()
}
