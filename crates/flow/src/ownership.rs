//! Which proxy decides for a flow: rendezvous hashing (Thaler and Ravishankar, 1998) over slots, so that the kernel has a table to look it up.

use std::net::IpAddr;

use baton_packet::FlowKey;
use siphasher::sip::SipHasher24;

/// Flows are owned by slot.
pub const SLOTS: usize = 16384;

/// The slot of a flow: `flow_slot` of `bpf/include/slot.h`. SipHash-2-4 with a key that everybody knows: whoever chooses its ports chooses its
/// proxy, and gains nothing.
pub fn slot(key: &FlowKey) -> u16 {
    let mut bytes = [0; 40];
    bytes[..36].copy_from_slice(&key.to_bytes());
    (SipHasher24::new().hash(&bytes) % SLOTS as u64) as u16
}

/// Which of the proxies owns each slot: its index. Nobody (an index beyond) if there are none. When a proxy goes, only its slots change
/// hands; when one comes, it takes its part of all others.
pub fn owners(proxies: &[IpAddr]) -> Vec<u8> {
    let seeds = seeds(proxies);
    let owner = |slot| best(&seeds, |seed| score(*seed, slot));
    (0..SLOTS).map(|slot| owner(slot as u16)).collect()
}

/// All proxies, as indices, in the order in which they are to own a slot: the second is the first's successor.
pub fn ranking(slot: u16, proxies: &[IpAddr]) -> Vec<u8> {
    let mut ranked: Vec<_> = seeds(proxies)
        .iter()
        .map(|seed| score(*seed, slot))
        .zip(0u8..)
        .collect();
    ranked.sort_by_key(|(score, index)| (std::cmp::Reverse(*score), *index));
    ranked.into_iter().map(|(_, index)| index).collect()
}

/// Which of the proxies gets the packets of each slot when each is to have its share (per mille of its own capacity, or any other weight).
/// Equal weights give the table of [`owners`]; a weight that changes moves no more slots than it must (weighted rendezvous hashing: Schindelhauer
/// and Schomaker, 2005).
pub fn weighted(proxies: &[(IpAddr, u16)]) -> Vec<u8> {
    let addresses: Vec<_> = proxies.iter().map(|(address, _)| *address).collect();
    let drawn: Vec<_> = seeds(&addresses)
        .into_iter()
        .zip(proxies.iter().map(|(_, weight)| f64::from(*weight)))
        .collect();
    let wins = |(seed, weight): &(u64, f64), slot| {
        let uniform = (score(*seed, slot) as f64 + 0.5) / (1u64 << 53) as f64;
        weight / -uniform.ln()
    };
    let owner = |slot| best(&drawn, |drawn| wins(drawn, slot));
    (0..SLOTS).map(|slot| owner(slot as u16)).collect()
}

/// The first of those with the highest score.
fn best<T, S: PartialOrd>(all: &[T], score: impl Fn(&T) -> S) -> u8 {
    let mut best: Option<(S, u8)> = None;
    for (candidate, index) in all.iter().zip(0u8..) {
        let score = score(candidate);
        if best.as_ref().is_none_or(|(most, _)| score > *most) {
            best = Some((score, index));
        }
    }
    best.map_or(u8::MAX, |(_, index)| index)
}

fn seeds(proxies: &[IpAddr]) -> Vec<u64> {
    let octets = |address: &IpAddr| match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let seed = |address| SipHasher24::new().hash(&octets(address));
    proxies.iter().map(seed).collect()
}

/// 53 bits, as many as a float tells apart.
fn score(seed: u64, slot: u16) -> u64 {
    // The finalizer of MurmurHash3 (Appleby).
    let mut hash = seed.wrapping_add((u64::from(slot) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    (hash ^ hash >> 33) >> 11
}
