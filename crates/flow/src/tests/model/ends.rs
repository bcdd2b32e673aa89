//! What the client, the kernel at the proxy and the servers do.

use baton_packet::{BodyLength, Parsed};

use super::*;

impl World {
    pub(super) fn client_sends(&mut self) {
        let answered = self
            .client
            .ends
            .iter()
            .filter(|(_, end)| *end <= self.client.received)
            .count();
        let last = (answered + self.pipelined).min(self.requests.len()) - 1;
        let end = self.client.ends[last].0;
        if self.client.sent < end {
            let length = (1 + self.chance(3000) as usize).min(end - self.client.sent);
            let outstanding = self.client.sent > self.client.acknowledged;
            if self.client.waits && outstanding && length < usize::from(options().mss) {
                return;
            }
            self.send_from(self.client.sent, length);
            self.client.sent += length;
        }
    }

    pub(super) fn client_repeats(&mut self) {
        let outstanding = self.client.sent - self.client.acknowledged;
        if outstanding > 0 {
            let length = (1 + self.chance(3000) as usize).min(outstanding);
            self.send_from(self.client.acknowledged, length);
        }
    }

    fn send_from(&mut self, at: usize, length: usize) {
        let mut segment = self.proxies[self.owner]
            .segment(FIRST + at as u32, &self.client.stream[at..at + length]);
        segment.ack = ACK + self.client.received;
        if self.client.closes && at + length == self.client.stream.len() {
            segment.flags = segment.flags | Flags::FIN;
        }
        self.put(Packet::ToProxy(segment));
    }

    pub(super) fn client_receives(&mut self, seq: Seq, length: u32, ack: Seq) {
        if (seq + length).before(ACK + self.client.received) {
            return self.client_acknowledges(); // all of it from before: not even its acknowledgement counts
        }
        let acknowledged = ack - FIRST;
        assert!(
            acknowledged as usize <= self.client.sent + 1,
            "what was never sent is acknowledged"
        );
        let acknowledged = (acknowledged.max(0) as usize).min(self.client.stream.len());
        self.client.acknowledged = self.client.acknowledged.max(acknowledged);
        let new = seq + length - (ACK + self.client.received);
        if seq.at_or_before(ACK + self.client.received) && new > 0 {
            self.client.received += new as u32;
        }
        if length > 0 {
            self.client_acknowledges();
        }
    }

    fn client_acknowledges(&mut self) {
        let mut answer = self.proxies[self.owner].segment(FIRST + self.client.sent as u32, b"");
        answer.ack = ACK + self.client.received;
        self.put(Packet::ToProxy(answer));
    }

    // ---- the kernel at the proxy, as in bpf/proxy.bpf.c

    pub(super) fn kernel(&mut self, proxy: usize, segment: Segment, hops: u8) {
        let end = segment.payload_end();
        let empty = segment.payload.is_empty();
        let is_owner = proxy == self.owner;
        let bench = &mut self.proxies[proxy];
        let Some(entry) = bench.entries.0.get_mut(&key()) else {
            let is_first = !empty && (segment.seq, segment.ack) == (FIRST, ACK);
            return match is_first {
                _ if !is_owner => self.pass(proxy, segment, hops),
                true if bench.term == TERM => {
                    bench.expect();
                    self.owner(proxy, fresh(segment));
                }
                true => {
                    if segment.payload.len().is_multiple_of(2) {
                        bench.expect();
                    }
                    self.owner(proxy, doubtful(segment));
                }
                false if self.changes > 0 || self.proxies.len() > 1 => {
                    self.owner(proxy, later(segment));
                }
                false => {}
            };
        };
        let Some(to) = entry.bound else {
            return match empty {
                true => {}
                false if is_owner => self.owner(proxy, later(segment)),
                false => self.pass(proxy, segment, hops),
            };
        };
        if segment.ack.at_or_after(entry.newest_ack) {
            entry.newest_ack = segment.ack;
            entry.confirmed |= segment.ack.after(entry.header_ack);
        }
        let unconfirmed = !entry.confirmed
            && segment.seq.before(entry.header_end)
            && end.after(entry.unconfirmed);
        let punted = !empty && (unconfirmed || !entry.pinned && end.after(entry.boundary));
        match to {
            _ if punted && is_owner => self.owner(proxy, later(segment)),
            _ if punted => self.pass(proxy, segment, hops),
            Target::Server(server) => self.put(Packet::Forward(server, segment)),
            Target::Relay | Target::Peer(_) => panic!("nothing goes to the relay here"),
        }
    }

    pub(super) fn owner(&mut self, proxy: usize, event: Event) {
        let actions = self.proxies[proxy].handle(event);
        self.carry_out(proxy, actions);
    }

    pub(super) fn carry_out(&mut self, proxy: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Put(_, entry) => self.replicate(proxy, entry),
                Action::Count(_) => {}
                Action::Bind {
                    to: Target::Server(to),
                    header,
                    segment,
                    ..
                } => self.put(Packet::Bind(proxy, to, header, segment)),
                Action::Forward {
                    to: Target::Server(to),
                    segment,
                    ..
                } => self.put(Packet::Forward(to, segment)),
                Action::Say { segment, .. } => self.put(Packet::ToClient {
                    seq: segment.seq,
                    length: segment.payload.len() as u32,
                    ack: segment.ack,
                }),
                Action::Release { to, request } => self.put(Packet::Release(proxy, to, request)),
                Action::Ask {
                    to: Target::Server(to),
                    ask,
                } => self.put(Packet::Ask(proxy, to, ask)),
                Action::Keep {
                    to,
                    key,
                    entry,
                    segment,
                    end,
                } => {
                    let event = Event::Keep {
                        from: PeerId(proxy as u16),
                        key,
                        entry: Entry { term: 0, ..entry },
                        segment,
                        end,
                    };
                    let at = self.proxies[0].now.mono;
                    let packet = Packet::Keep(usize::from(to.0), event);
                    self.packets.push((at, packet));
                }
                Action::Kept { to, key, end } => {
                    let event = Event::Kept { key, end };
                    self.put(Packet::ToOwner(usize::from(to.0), event));
                }
                Action::Pass { to, segment, .. } => {
                    // What is handed over is not sent again; the network between proxies is as good as it must be.
                    let at = self.proxies[0].now.mono;
                    self.packets
                        .push((at, Packet::Pass(usize::from(to.0), segment)));
                }
                other => panic!("not in this world: {other:?}"),
            }
        }
    }

    // ---- the servers

    pub(super) fn adopt(&mut self, from: usize, id: ServerId, header: Bind, segment: Segment) {
        let server = self.servers.entry(id).or_default();
        server.proxy = from;
        if let Some(held) = &mut server.held {
            if (held.header.epoch, held.header.seq) != (header.epoch, header.seq) {
                return;
            }
            if header.requests.wrapping_sub(held.header.requests) as i32 > 0 {
                held.header = header;
            }
            let next = held.next;
            if header.tell {
                self.notify(id, What::Taken, &header, next);
            }
            return self.take_in(id, segment);
        }
        let ended = server
            .ended
            .iter()
            .any(|(bind, _)| header.epoch.wrapping_sub(bind.epoch) as i32 <= 0);
        if ended || segment.seq != header.seq {
            return;
        }
        assert_eq!(segment.ack, header.ack);
        let refuses = self.refusals > 0 || server.refused.contains(&header.epoch);
        if refuses {
            self.refusals = self.refusals.saturating_sub(1);
            server.refused.push(header.epoch);
            return self.notify(id, What::Refused { reason: 1 }, &header, header.ack);
        }
        server.held = Some(Held {
            bytes: Vec::new(),
            fin: false,
            read: 0,
            next: header.seq,
            written: header.ack,
            acknowledged: header.ack,
            answered: 0,
            waited_for: false,
            header,
        });
        self.take_in(id, segment);
    }

    fn notify(&mut self, id: ServerId, what: What, bind: &Bind, ack: Seq) {
        let proxy = self.servers.entry(id).or_default().proxy;
        let notice = Notice {
            what,
            key: key(),
            epoch: bind.epoch,
            seq: bind.seq,
            ack,
        };
        self.put(Packet::ToOwner(proxy, Event::Notice(notice)));
    }

    pub(super) fn take_in(&mut self, id: ServerId, segment: Segment) {
        let Some(held) = self.servers.entry(id).or_default().held.as_mut() else {
            return;
        };
        if segment.ack.after(held.acknowledged) {
            assert!(
                segment.ack.at_or_before(held.written),
                "the client acknowledges what was not sent"
            );
            held.acknowledged = segment.ack;
        }
        let offset = segment.seq - held.header.seq;
        for (i, byte) in segment.payload.iter().enumerate() {
            let Ok(at) = usize::try_from(offset + i as i32) else {
                continue;
            };
            held.bytes.resize(held.bytes.len().max(at + 1), None);
            held.bytes[at].get_or_insert(*byte);
        }
        let stream: Vec<u8> = held.bytes.iter().map_while(|byte| *byte).collect();
        held.next = held.header.seq + stream.len() as u32;
        self.client.delivered = self.client.delivered.max((held.next - FIRST) as usize);
        held.fin |= segment.flags.contains(Flags::FIN);
        while let Some(length) = whole_request(&stream[held.read..]) {
            let request = &self.requests[self.executed.len()];
            self.executed
                .push((id, stream[held.read..held.read + length].to_vec()));
            let before = self
                .executed
                .len()
                .checked_sub(2)
                .map_or(0, |last| self.client.ends[last].1);
            assert_eq!(held.written, ACK + before, "answers follow one another");
            held.read += length;
            held.written += request.answer;
            held.answered += 1;
        }
        self.answer(id);
    }

    /// Sends what is not acknowledged, and says what has come.
    fn answer(&mut self, id: ServerId) {
        let Some(held) = self
            .servers
            .get_mut(&id)
            .and_then(|server| server.held.as_mut())
        else {
            return;
        };
        let length = (held.written - held.acknowledged) as u32;
        let packet = Packet::ToClient {
            seq: held.acknowledged,
            length,
            ack: held.next,
        };
        let is_ready = held.waited_for && length == 0;
        let header = held.header;
        held.waited_for &= !is_ready;
        if is_ready {
            self.notify(id, What::Ready, &header, header.ack);
        }
        self.put(packet);
    }

    pub(super) fn servers_repeat(&mut self) {
        let ids: Vec<_> = self.servers.keys().copied().collect();
        ids.into_iter().for_each(|id| self.answer(id));
    }

    pub(super) fn release(&mut self, from: usize, id: ServerId, request: Release) {
        let server = self.servers.entry(id).or_default();
        server.proxy = from;
        let outcome = match &mut server.held {
            Some(held) if (held.header.epoch, held.header.seq) == (request.epoch, request.seq) => {
                if request.requests.wrapping_sub(held.header.requests) as i32 > 0 {
                    held.header.requests = request.requests;
                    held.header.boundary = request.boundary;
                }
                let complete =
                    held.answered == held.header.requests && held.acknowledged == held.written;
                if held.header.boundary == request.boundary
                    && held.next == request.boundary
                    && complete
                {
                    let ack = held.written;
                    server.ended.push((held.header, ack));
                    server.held = None;
                    Outcome::Released { ack }
                } else {
                    held.waited_for = true;
                    Outcome::Busy
                }
            }
            _ => match server
                .ended
                .iter()
                .find(|(bind, _)| (bind.epoch, bind.seq) == (request.epoch, request.seq))
            {
                Some((_, ack)) => Outcome::Released { ack: *ack },
                None => Outcome::Unknown,
            },
        };
        self.put(Packet::ToOwner(
            from,
            Event::Answer(request.answer(outcome)),
        ));
    }
}

fn whole_request(bytes: &[u8]) -> Option<usize> {
    let Ok(Parsed::Complete(head)) = RequestHead::parse(bytes) else {
        return None;
    };
    let BodyLength::Length(body) = head.body else {
        return None;
    };
    let length = head.head_len + body as usize;
    (bytes.len() >= length).then_some(length)
}
