//! Several proxies: one decides, and another one later.

use baton_wire::{Fate, Known};

use super::*;

impl World {
    /// So many proxies, of which another one decides in so many percent of all steps.
    pub(super) fn share(&mut self, proxies: usize, changes: u64) {
        self.changes = changes;
        while self.proxies.len() < proxies {
            let limits = self.limits();
            self.proxies.push(Bench::new(limits));
        }
        for proxy in &mut self.proxies {
            // Whichever servers `ByPath` may choose.
            let servers = (0..5).flat_map(|i| (1..4).map(move |pool| ServerId(10 * i + pool)));
            proxy.decide.holders = servers.map(Target::Server).collect();
        }
        self.follow(TERM);
    }

    /// Another one decides, or the same one again.
    pub(super) fn change(&mut self) {
        let (owner, how) = (self.owner, self.chance(3));
        let until = self.proxies[0].now.mono;
        // What the client will not send again is with a server, or with the one that decides next; or else nothing happens.
        let successor = self.view(owner, TERM, until).successor(&key()).unwrap();
        let successor = usize::from(successor.0);
        let promised = self.promised();
        let is_delivered = promised.at_or_before(FIRST + self.client.delivered as u32);
        let kept = self.proxies[successor].owner.keeps(&key());
        let is_kept = kept.is_some_and(|kept| kept.at_or_after(promised));
        let is_on_its_way = |(_, packet): &(Duration, Packet)| {
            matches!(packet, Packet::Keep(..) | Packet::Pass(..))
        };
        if how > 0 && !is_delivered && !is_kept || self.packets.iter().any(is_on_its_way) {
            return;
        }
        // First the one before stops, and what it has said arrives or is lost: that is what half an interval is for.
        let view = self.view(owner, self.proxies[owner].term, until);
        self.proxies[owner].owner.follow(view);
        let (told, others) = std::mem::take(&mut self.packets)
            .into_iter()
            .partition(|(_, packet)| matches!(packet, Packet::Bind(..) | Packet::Release(..)));
        self.packets = others;
        let told: Vec<(Duration, Packet)> = told;
        for (_, packet) in told {
            let is_lost = self.chance(2) == 0;
            match packet {
                Packet::Bind(from, to, header, segment) if !is_lost => {
                    self.adopt(from, to, header, segment);
                }
                Packet::Release(from, to, request) if !is_lost => self.release(from, to, request),
                _ => {}
            }
        }
        if how > 0 {
            let fresh = Bench::new(self.limits());
            let bench = &mut self.proxies[owner];
            bench.owner = fresh.owner;
            if how == 1 {
                bench.entries = Entries::default();
            }
        }
        self.owner = match is_delivered {
            false if how > 0 => successor,
            _ => self.chance(self.proxies.len() as u64) as usize,
        };
        // No term comes twice.
        let last = self.proxies[0].term;
        let pause = self.chance(1000) as u32;
        self.follow(last + 1 + pause);
        for proxy in 0..self.proxies.len() {
            let actions = self.proxies[proxy].pass(Duration::from_millis(1));
            self.carry_out(proxy, actions);
        }
    }

    fn limits(&self) -> Limits {
        let patient = Duration::from_secs(10_000);
        Limits {
            head_wait: patient,
            release_timeout: patient,
            max_held_bytes: 64 * 12_000,
            ..limits()
        }
    }

    /// Up to where the client is told that all has arrived, or will be soon.
    fn promised(&self) -> Seq {
        let acks = self.packets.iter().filter_map(|(_, packet)| match packet {
            Packet::ToClient { ack, .. } => Some(*ack),
            _ => None,
        });
        acks.fold(FIRST + self.client.acknowledged as u32, Seq::latest)
    }

    fn follow(&mut self, term: u32) {
        for proxy in 0..self.proxies.len() {
            let view = self.view(proxy, term, Duration::MAX);
            self.proxies[proxy].term = term;
            self.proxies[proxy].owner.follow(view);
        }
    }

    fn view(&self, proxy: usize, term: u32, until: Duration) -> View {
        let address = |proxy: usize| [10, 77, 0, 11 + proxy as u8].into();
        View {
            term,
            until,
            proxies: (0..self.proxies.len()).map(address).collect(),
            own: Some(PeerId(proxy as u16)),
            live: (0..self.proxies.len() as u16).map(PeerId).collect(),
            owners: vec![self.owner as u8; crate::SLOTS].into(),
        }
    }

    pub(super) fn pass(&mut self, proxy: usize, segment: Segment, hops: u8) {
        assert_ne!(proxy, self.owner);
        if hops < 2 {
            // What is handed over comes this way, too.
            let at = self.proxies[0].now.mono;
            self.packets.push((at, Packet::Pass(self.owner, segment)));
        }
    }

    /// The others are told, now and then.
    pub(super) fn replicate(&mut self, proxy: usize, entry: Entry) {
        for other in 0..self.proxies.len() {
            if other != proxy && self.chance(2) == 0 {
                self.put(Packet::Replica(other, Entry { term: 0, ..entry }));
            }
        }
    }

    /// The newer one counts.
    pub(super) fn replica(&mut self, proxy: usize, told: Entry) {
        let entries = &mut self.proxies[proxy].entries.0;
        let is_newer = entries.get(&key()).is_none_or(|entry| {
            let stage = |entry: &Entry| (entry.bound.is_none(), entry.requests);
            match Seq(told.epoch) - Seq(entry.epoch) {
                0 => stage(&told) > stage(entry),
                ahead => ahead > 0,
            }
        });
        if is_newer && told.epoch != 0 {
            entries.insert(key(), told);
        }
    }

    /// An agent is asked.
    pub(super) fn ask(&mut self, from: usize, id: ServerId, ask: Ask) {
        let server = self.servers.entry(id).or_default();
        server.proxy = from;
        let known = |bind: &Bind, next| Known {
            timestamps: bind.timestamps,
            sack: bind.sack,
            scales: bind.scales,
            pinned: bind.pinned,
            mss: bind.mss,
            epoch: bind.epoch,
            seq: bind.seq,
            ack: bind.ack,
            boundary: bind.boundary,
            requests: bind.requests,
            bodiless: bind.bodiless,
            next,
        };
        let fate = match (&server.held, server.ended.last()) {
            (Some(held), _) => Fate::Held(known(&held.header, held.written)),
            (None, Some((bind, ack))) => Fate::Released(known(bind, *ack)),
            (None, None) => Fate::Unknown,
        };
        let truth = ask.answer(fate);
        let from_it = Target::Server(id);
        self.put(Packet::ToOwner(
            from,
            Event::Truth {
                from: from_it,
                truth,
            },
        ));
    }
}
