//! A flow's entry: the kernel's layout and the owner's type.

use std::time::Duration;

use baton_flow::{ClientOptions, Entry, PeerId, ServerId, Target};
use baton_kernel::abi::{flow_entry, flow_flags as flag, flow_state, offer};
use baton_packet::Seq;

use super::peers::Peers;

/// `server` of an entry that is bound to the relay.
const NO_SERVER: u16 = u16::MAX;
/// A place that no peer has.
const NO_PEER: PeerId = PeerId(u16::MAX);

/// What the owner works with.
pub(super) fn from_kernel(e: &flow_entry, peers: &Peers) -> Entry {
    let has = |flag: u8| e.flags & flag != 0;
    Entry {
        bound: (e.state == flow_state::BOUND).then(|| {
            if has(flag::LOCAL) {
                Target::Relay
            } else if has(flag::ELSEWHERE) {
                // A peer that was removed cannot be asked for, as if its place were nobody's.
                Target::Peer(peers.at_slot(e.server).unwrap_or(NO_PEER))
            } else {
                Target::Server(ServerId(e.server))
            }
        }),
        pinned: has(flag::PINNED),
        confirmed: has(flag::CONFIRMED),
        reused: has(flag::REUSED),
        closing: has(flag::CLOSING),
        reset: e.state == flow_state::RESET,
        epoch: e.epoch,
        boundary: Seq(e.boundary),
        bind_seq: Seq(e.bind_seq),
        bind_ack: Seq(e.bind_ack),
        unconfirmed: Seq(e.unconfirmed),
        header_end: Seq(e.header_end),
        header_ack: Seq(e.header_ack),
        requests: e.requests,
        bodiless: e.bodiless,
        newest_ack: Seq(e.newest_ack),
        newest_tsval: e.newest_tsval,
        min_rtt_ms: (e.min_rtt_ms != u32::MAX).then_some(e.min_rtt_ms),
        window: e.window,
        options: ClientOptions {
            mss: e.mss,
            wscale: (e.offers & offer::WSCALE != 0).then_some(e.client_wscale),
            sack: e.offers & offer::SACK != 0,
            timestamps: e.offers & offer::TIMESTAMPS != 0,
        },
        vip: e.vip,
        first_seq: Seq(e.first_seq),
        first_ack: Seq(e.first_ack),
        seen: Duration::from_nanos(e.seen_ns),
        claimed: e.claimed == e.boundary,
        known: e.known,
        term: e.term,
    }
}

/// What the kernel works with.
pub(super) fn to_kernel(e: &Entry, peers: &Peers) -> flow_entry {
    let flags = [
        (e.pinned, flag::PINNED),
        (e.confirmed, flag::CONFIRMED),
        (e.bound == Some(Target::Relay), flag::LOCAL),
        (matches!(e.bound, Some(Target::Peer(_))), flag::ELSEWHERE),
        (e.reused, flag::REUSED),
        (e.closing, flag::CLOSING),
    ];
    let offers = [
        (e.options.timestamps, offer::TIMESTAMPS),
        (e.options.sack, offer::SACK),
        (e.options.wscale.is_some(), offer::WSCALE),
    ];
    let bits = |set: &[(bool, u8)]| {
        set.iter()
            .filter(|(on, _)| *on)
            .fold(0, |all, (_, bit)| all | bit)
    };
    flow_entry {
        state: match e.bound {
            Some(_) => flow_state::BOUND,
            None if e.reset => flow_state::RESET,
            None => flow_state::PENDING,
        },
        flags: bits(&flags),
        server: match e.bound {
            Some(Target::Server(server)) => server.0,
            Some(Target::Peer(peer)) => peers.slot(peer).map_or(NO_SERVER, u16::from),
            Some(Target::Relay) | None => NO_SERVER,
        },
        epoch: e.epoch,
        boundary: e.boundary.0,
        bind_seq: e.bind_seq.0,
        bind_ack: e.bind_ack.0,
        unconfirmed: e.unconfirmed.0,
        header_end: e.header_end.0,
        header_ack: e.header_ack.0,
        requests: e.requests,
        bodiless: e.bodiless,
        newest_ack: e.newest_ack.0,
        newest_tsval: e.newest_tsval,
        min_rtt_ms: e.min_rtt_ms.unwrap_or(u32::MAX),
        window: e.window,
        mss: e.options.mss,
        offers: bits(&offers),
        client_wscale: e.options.wscale.unwrap_or(0),
        vip: e.vip,
        first_seq: e.first_seq.0,
        first_ack: e.first_ack.0,
        claimed: if e.claimed {
            e.boundary.0
        } else {
            !e.boundary.0
        },
        seen_ns: e.seen.as_nanos() as u64,
        known: e.known,
        term: e.term,
        told: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn there_and_back() {
        let [own, other] = [1, 2].map(|last| IpAddr::from([10, 77, 0, last]));
        let peers = Peers::new(vec![(other, 0), (own, 5)], own);
        let mut entry = from_kernel(
            &flow_entry {
                min_rtt_ms: u32::MAX,
                ..Default::default()
            },
            &peers,
        );
        entry.options = ClientOptions {
            mss: 1460,
            wscale: Some(7),
            sack: true,
            timestamps: false,
        };
        let bounds = [
            None,
            Some(Target::Relay),
            Some(Target::Server(ServerId(3))),
            Some(Target::Peer(PeerId(1))),
        ];
        for bound in bounds {
            for bits in 0..16u8 {
                let on = |bit: u8| bits >> bit & 1 == 1;
                let entry = Entry {
                    bound,
                    pinned: on(0),
                    confirmed: on(1),
                    reused: on(2),
                    closing: on(3),
                    reset: bound.is_none() && on(0),
                    epoch: 7,
                    boundary: Seq(8),
                    min_rtt_ms: on(0).then_some(50),
                    seen: Duration::from_nanos(99),
                    claimed: on(1),
                    known: u64::from(bits),
                    term: 17,
                    ..entry
                };
                let there = to_kernel(&entry, &peers);
                assert_eq!(from_kernel(&there, &peers), entry);
            }
        }
    }
}
