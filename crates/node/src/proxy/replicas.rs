//! Entries on their way between proxies. Numbers of servers, VIPs and peers are each node's own; on the wire are addresses.

use std::time::Duration;

use baton_flow::{ClientOptions, Entry, Target};
use baton_packet::{FlowKey, Seq};
use baton_policy::ServerId;
use baton_wire::{Holder, Replica};

use super::effects::Ways;

/// What other proxies are told of a flow that a server has, or had; nothing, if it cannot be said.
pub(super) fn replica(key: FlowKey, entry: &Entry, ways: &Ways) -> Option<Replica> {
    let is_begun = entry.bound.is_some() || entry.reset || entry.epoch != 0;
    is_begun.then(|| as_replica(key, entry, ways)).flatten()
}

/// The same of any flow.
pub(super) fn as_replica(key: FlowKey, entry: &Entry, ways: &Ways) -> Option<Replica> {
    let holder = match entry.bound {
        Some(Target::Server(ServerId(slot))) => {
            Holder::Server(*ways.addresses.get(usize::from(slot))?)
        }
        Some(Target::Relay) => Holder::Relay(ways.own),
        Some(Target::Peer(peer)) => Holder::Relay(ways.peers.address(peer)?),
        None if entry.reset => Holder::Reset,
        None => Holder::Nobody,
    };
    Some(Replica {
        key,
        holder,
        pinned: entry.pinned,
        confirmed: entry.confirmed,
        reused: entry.reused,
        closing: entry.closing,
        timestamps: entry.options.timestamps,
        sack: entry.options.sack,
        wscale: entry.options.wscale,
        mss: entry.options.mss,
        epoch: entry.epoch,
        boundary: entry.boundary,
        bind_seq: entry.bind_seq,
        bind_ack: entry.bind_ack,
        unconfirmed: entry.unconfirmed,
        header_end: entry.header_end,
        header_ack: entry.header_ack,
        requests: entry.requests,
        bodiless: entry.bodiless,
        newest_ack: entry.newest_ack,
        newest_tsval: entry.newest_tsval,
        min_rtt_ms: entry.min_rtt_ms,
        window: entry.window,
        first_seq: entry.first_seq,
        first_ack: entry.first_ack,
    })
}

/// What the table is to hold, now that another proxy says this; `None`: what it holds is as new, or newer, or this node knows nothing of the VIP
/// or the server.
pub(super) fn merge(
    present: Option<Entry>,
    replica: &Replica,
    ways: &Ways,
    now: Duration,
) -> Option<Entry> {
    let told = entry(replica, ways, now)?;
    let Some(present) = present else {
        return Some(told);
    };
    let is_newer = match Seq(told.epoch) - Seq(present.epoch) {
        0 => version(&told) > version(&present),
        ahead => ahead > 0,
    };
    if !is_newer {
        let closes = told.closing && !present.closing && told.epoch == present.epoch;
        return closes.then_some(Entry {
            closing: true,
            ..present
        });
    }
    let is_same = (told.first_seq, told.first_ack) == (present.first_seq, present.first_ack);
    if is_same && present.newest_ack.after(told.newest_ack) {
        return Some(Entry {
            newest_ack: present.newest_ack,
            newest_tsval: present.newest_tsval,
            window: present.window,
            seen: present.seen,
            ..told
        });
    }
    Some(told)
}

/// Of the entries of one epoch the later one: a flow is bound, gets requests, is let go, and may be reset.
fn version(entry: &Entry) -> (u8, u32) {
    let stage = match entry.bound {
        Some(_) => 0,
        None => 1 + u8::from(entry.reset),
    };
    (stage, entry.requests)
}

/// What another proxy says, in this one's numbers; nothing, if it knows nothing of the VIP or the server.
pub(super) fn entry(replica: &Replica, ways: &Ways, now: Duration) -> Option<Entry> {
    let bound = match replica.holder {
        Holder::Nobody | Holder::Reset => None,
        Holder::Server(node) => {
            let slot = ways.addresses.iter().position(|at| *at == node)?;
            Some(Target::Server(ServerId(slot as u16)))
        }
        Holder::Relay(node) if node == ways.own => Some(Target::Relay),
        Holder::Relay(node) => Some(Target::Peer(ways.peers.place(node)?)),
    };
    let (_, vip) = ways.vips.iter().find(|(at, _)| *at == replica.key.vip())?;
    Some(Entry {
        bound,
        pinned: replica.pinned,
        confirmed: replica.confirmed,
        reused: replica.reused,
        closing: replica.closing,
        reset: replica.holder == Holder::Reset,
        epoch: replica.epoch,
        boundary: replica.boundary,
        bind_seq: replica.bind_seq,
        bind_ack: replica.bind_ack,
        unconfirmed: replica.unconfirmed,
        header_end: replica.header_end,
        header_ack: replica.header_ack,
        requests: replica.requests,
        bodiless: replica.bodiless,
        newest_ack: replica.newest_ack,
        newest_tsval: replica.newest_tsval,
        min_rtt_ms: replica.min_rtt_ms,
        window: replica.window,
        options: ClientOptions {
            mss: replica.mss,
            wscale: replica.wscale,
            sack: replica.sack,
            timestamps: replica.timestamps,
        },
        vip: *vip,
        first_seq: replica.first_seq,
        first_ack: replica.first_ack,
        seen: now,
        claimed: false,
        known: 0,
        term: 0,
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use baton_flow::PeerId;
    use baton_wire::{Key, Keys};

    use super::super::peers::Peers;
    use super::*;

    const NOW: Duration = Duration::from_secs(7);

    fn node(last: u8) -> IpAddr {
        IpAddr::from([10, 77, 0, last])
    }

    fn key() -> FlowKey {
        FlowKey::new(
            "10.77.0.1:40000".parse().unwrap(),
            "10.77.0.10:80".parse().unwrap(),
        )
    }

    /// Of proxy 11 or 12; each has its own numbers.
    fn ways(own: u8, servers: &[u8], vip: u16) -> Ways {
        Ways {
            keys: Keys {
                current: Key::new([1; 16]),
                previous: None,
            },
            addresses: servers.iter().map(|last| node(*last)).collect(),
            port: 6950,
            mss: [1384; 2],
            own: node(own),
            peers: Peers::new(vec![(node(12), 0), (node(11), 1)], node(own)),
            vips: vec![(key().vip(), vip)],
        }
    }

    fn here() -> Ways {
        ways(11, &[21, 22], 3)
    }

    fn there() -> Ways {
        ways(12, &[22, 21], 5)
    }

    fn bound(to: Target, epoch: u32, requests: u32) -> Entry {
        let entry = super::super::entry::from_kernel(&Default::default(), &Peers::default());
        Entry {
            bound: Some(to),
            epoch,
            requests,
            boundary: Seq(100 * requests),
            vip: 3,
            ..entry
        }
    }

    /// What proxy 12 makes of what proxy 11 tells.
    fn told(present: Option<Entry>, entry: &Entry) -> Option<Entry> {
        merge(present, &replica(key(), entry, &here())?, &there(), NOW)
    }

    const SERVER: Target = Target::Server(ServerId(1));

    #[test]
    fn numbers_are_each_nodes_own() {
        let targets = [
            (SERVER, Target::Server(ServerId(0))),
            (Target::Relay, Target::Peer(PeerId(0))),
            (Target::Peer(PeerId(1)), Target::Relay),
        ];
        for (to, expected) in targets {
            let taken = told(None, &bound(to, 9, 1)).unwrap();
            assert_eq!((taken.bound, taken.vip), (Some(expected), 5));
            assert_eq!((taken.seen, taken.term), (NOW, 0), "to be asked about");
        }
        let unknown = Target::Server(ServerId(2));
        assert_eq!(told(None, &bound(unknown, 9, 1)), None);
    }

    #[test]
    fn the_newer_entry_counts() {
        let old = bound(SERVER, u32::MAX, 7);
        let steps = [
            old,
            bound(SERVER, 5, 1),
            bound(SERVER, 5, 2),
            Entry {
                bound: None,
                ..bound(SERVER, 5, 0)
            },
            Entry {
                bound: None,
                reset: true,
                ..bound(SERVER, 5, 0)
            },
            bound(SERVER, 6, 1),
        ];
        for (at, older) in steps.iter().enumerate() {
            let present = told(None, older);
            assert!(present.is_some());
            assert_eq!(told(present, older), None, "{at}: nothing new");
            for newer in &steps[at + 1..] {
                assert_eq!(told(present, newer), told(None, newer), "{at}");
                assert_eq!(told(told(None, newer), older), None, "{at}");
            }
        }
    }

    #[test]
    fn what_passed_here_is_not_forgotten() {
        let seen = Entry {
            newest_ack: Seq(5000),
            term: 3,
            ..told(None, &bound(SERVER, 5, 1)).unwrap()
        };
        let closing = Entry {
            closing: true,
            ..bound(SERVER, 5, 1)
        };
        let taken = told(Some(seen), &closing).unwrap();
        assert_eq!(
            taken,
            Entry {
                closing: true,
                ..seen
            }
        );
        let taken = told(Some(seen), &bound(SERVER, 5, 2)).unwrap();
        assert_eq!((taken.newest_ack, taken.term), (Seq(5000), 0));
    }

    #[test]
    fn a_flow_that_was_never_bound_is_nobodys_business() {
        let undecided = Entry {
            bound: None,
            ..bound(SERVER, 0, 0)
        };
        assert!(replica(key(), &undecided, &here()).is_none());
    }
}
