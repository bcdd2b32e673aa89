//! Random sequences against a model: a client with a list of requests, a kernel that forwards and punts, servers that
//! adopt, answer and release, and a network that loses, repeats and reorders everything. Whatever happens, each
//! request is executed once, by the right server, in order, with its bytes; and nothing stays behind.

use baton_packet::Parsed;
use baton_wire::{Bind, Release};
use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn each_request_reaches_one_server(world in world()) {
        let mut world = world;
        world.run();
    }
}

fn world() -> impl Strategy<Value = World> {
    let body = prop_oneof![3 => Just(0usize), 2 => 1usize..200, 1 => 2000usize..9000];
    let request = (0u16..4, body, 1u32..5000);
    let requests = proptest::collection::vec(request, 1..12);
    let network = (0u64..30, 0u64..20, 0u64..40);
    (
        requests,
        1usize..4,
        any::<u64>(),
        network,
        0usize..3,
        0u32..4,
    )
        .prop_map(
            |(requests, pipelined, seed, (loss, repeat, reorder), refusals, closing)| {
                let requests = requests.into_iter().map(|(pool, body, answer)| {
                    // Pool 0: whoever has the flow.
                    let path = if pool == 0 {
                        "/any".to_owned()
                    } else {
                        format!("/{pool}")
                    };
                    let bytes = if body == 0 {
                        get(&path)
                    } else {
                        post(&path, &vec![b'b'; body])
                    };
                    Request {
                        pool,
                        bytes,
                        answer,
                    }
                });
                World::new(
                    requests.collect(),
                    pipelined,
                    seed,
                    [loss, repeat, reorder],
                    refusals,
                    closing == 0,
                )
            },
        )
}

#[derive(Clone, Debug)]
struct Request {
    pool: u16,
    bytes: Vec<u8>,
    answer: u32,
}

/// What is on its way.
#[derive(Clone, Debug)]
enum Packet {
    ToProxy(Segment),
    ToOwner(Event),
    Bind(ServerId, Bind, Segment),
    Forward(ServerId, Segment),
    Release(ServerId, Release),
    ToClient { seq: Seq, length: u32, ack: Seq },
}

struct World {
    requests: Vec<Request>,
    pipelined: usize,
    client: Client,
    bench: Bench,
    servers: HashMap<ServerId, Server>,
    /// Adoptions that servers will still refuse.
    refusals: usize,
    /// Percent: lost, repeated, reordered.
    network: [u64; 3],
    /// With the time at which they were sent; the oldest first.
    packets: Vec<(Duration, Packet)>,
    random: u64,
    executed: Vec<(ServerId, Vec<u8>)>,
}

#[derive(Debug)]
struct Client {
    stream: Vec<u8>,
    /// Where each request ends in the stream, and each answer in what comes back.
    ends: Vec<(usize, u32)>,
    acknowledged: usize,
    sent: usize,
    received: u32,
    /// A FIN goes with the last byte.
    closes: bool,
}

/// A server's agent and its socket for the flow.
#[derive(Debug, Default)]
struct Server {
    held: Option<Held>,
    /// Binds that had a socket, and where they were released.
    ended: Vec<(u32, Seq, Seq)>,
    /// Binds (their epochs) that were refused once are refused for ever: the owner may have gone elsewhere with them.
    refused: Vec<u32>,
}

#[derive(Debug)]
struct Held {
    header: Bind,
    /// What came, from the bind on.
    bytes: Vec<Option<u8>>,
    fin: bool,
    read: usize,
    next: Seq,
    written: Seq,
    acknowledged: Seq,
    answered: u32,
    waited_for: bool,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let requests: Vec<_> = self
            .requests
            .iter()
            .map(|r| (r.pool, r.bytes.len(), r.answer))
            .collect();
        write!(
            f,
            "{requests:?} pipelined {} network {:?} seed {}",
            self.pipelined, self.network, self.random
        )
    }
}

impl World {
    fn new(
        requests: Vec<Request>,
        pipelined: usize,
        seed: u64,
        network: [u64; 3],
        refusals: usize,
        closes: bool,
    ) -> World {
        let mut ends = Vec::new();
        let (mut end, mut answered) = (0, 0);
        for request in &requests {
            end += request.bytes.len();
            answered += request.answer;
            ends.push((end, answered));
        }
        let client = Client {
            stream: requests
                .iter()
                .flat_map(|request| request.bytes.clone())
                .collect(),
            ends,
            acknowledged: 0,
            sent: 0,
            received: 0,
            closes,
        };
        // Patient: a lost message must never turn into the relay or a reset here.
        let patient = Duration::from_secs(10_000);
        let limits = Limits {
            head_wait: patient,
            release_timeout: patient,
            max_held_bytes: 64 * 12_000,
            ..limits()
        };
        World {
            requests,
            pipelined,
            client,
            bench: Bench::new(limits),
            servers: HashMap::new(),
            refusals,
            network,
            packets: Vec::new(),
            random: seed,
            executed: Vec::new(),
        }
    }

    fn run(&mut self) {
        for step in 0.. {
            assert!(
                step < 40_000,
                "no end: {} executed, {} of {} bytes acknowledged, {:?}",
                self.executed.len(),
                self.client.acknowledged,
                self.client.stream.len(),
                self.bench.entries
            );
            if step == 3000 {
                self.network = [0; 3];
                self.refusals = 0;
            }
            match self.chance(100) {
                0..25 => self.client_sends(),
                25..30 => self.client_repeats(),
                30..35 => self.servers_repeat(),
                35..40 if !self.has_old_packet() => {
                    let time = Duration::from_millis(self.chance(40));
                    let actions = self.bench.pass(time);
                    self.carry_out(actions);
                }
                _ => self.deliver(),
            }
            assert!(self.bench.owner.held_bytes() <= 12_000, "its share");
            if self.is_over() {
                break;
            }
        }
        self.check();
    }

    fn is_over(&self) -> bool {
        let (end, answers) = self.client.ends[self.client.ends.len() - 1];
        self.client.acknowledged == end
            && self.client.received == answers
            && self.packets.is_empty()
    }

    fn check(&self) {
        let executed: Vec<_> = self.executed.iter().map(|(_, bytes)| bytes).collect();
        let asked: Vec<_> = self.requests.iter().map(|request| &request.bytes).collect();
        assert_eq!(executed, asked, "each once, in order, byte for byte");
        let mut present = None;
        for (request, (server, _)) in self.requests.iter().zip(&self.executed) {
            match present {
                Some(present) if request.pool == 0 => {
                    assert_eq!(*server, present, "no reason to move")
                }
                _ => assert!(request.pool == 0 || server.0 % 10 == request.pool),
            }
            present = Some(*server);
        }
        let fins: Vec<_> = self
            .servers
            .values()
            .filter_map(|server| server.held.as_ref())
            .map(|held| held.fin)
            .collect();
        assert_eq!(
            fins,
            [self.client.closes],
            "one server has the flow, and knows that it has ended"
        );
        let waiting = self.bench.owner.held_bytes() - 256 * self.bench.owner.pending();
        assert_eq!(waiting, 0, "nothing is held any more");
    }

    // ---- the client

    fn client_sends(&mut self) {
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
            self.send_from(self.client.sent, length);
            self.client.sent += length;
        }
    }

    fn client_repeats(&mut self) {
        let outstanding = self.client.sent - self.client.acknowledged;
        if outstanding > 0 {
            let length = (1 + self.chance(3000) as usize).min(outstanding);
            self.send_from(self.client.acknowledged, length);
        }
    }

    fn send_from(&mut self, at: usize, length: usize) {
        let mut segment = self
            .bench
            .segment(FIRST + at as u32, &self.client.stream[at..at + length]);
        segment.ack = ACK + self.client.received;
        if self.client.closes && at + length == self.client.stream.len() {
            segment.flags = segment.flags | Flags::FIN;
        }
        self.put(Packet::ToProxy(segment));
    }

    fn client_receives(&mut self, seq: Seq, length: u32, ack: Seq) {
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
            let mut answer = self.bench.segment(FIRST + self.client.sent as u32, b"");
            answer.ack = ACK + self.client.received;
            self.put(Packet::ToProxy(answer));
        }
    }

    // ---- the kernel at the proxy, as in bpf/proxy.bpf.c

    fn kernel(&mut self, segment: Segment) {
        let end = segment.payload_end();
        let empty = segment.payload.is_empty();
        let Some(entry) = self.bench.entries.0.get_mut(&key()) else {
            if !empty && (segment.seq, segment.ack) == (FIRST, ACK) {
                self.bench.expect();
                self.owner(fresh(segment));
            }
            return;
        };
        let Some(to) = entry.bound else {
            if !empty {
                self.owner(later(segment));
            }
            return;
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
            _ if punted => self.owner(later(segment)),
            Target::Server(server) => self.put(Packet::Forward(server, segment)),
            Target::Relay => panic!("nothing goes to the relay here"),
        }
    }

    fn owner(&mut self, event: Event) {
        let actions = self.bench.handle(event);
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Put(..) | Action::Count(_) => {}
                Action::Bind {
                    to: Target::Server(to),
                    header,
                    segment,
                    ..
                } => self.put(Packet::Bind(to, header, segment)),
                Action::Forward {
                    to: Target::Server(to),
                    segment,
                    ..
                } => self.put(Packet::Forward(to, segment)),
                Action::Release { to, request } => self.put(Packet::Release(to, request)),
                other => panic!("not in this world: {other:?}"),
            }
        }
    }

    // ---- the servers

    fn adopt(&mut self, id: ServerId, header: Bind, segment: Segment) {
        let server = self.servers.entry(id).or_default();
        if let Some(held) = &mut server.held {
            if (held.header.epoch, held.header.seq) != (header.epoch, header.seq) {
                return;
            }
            if header.requests.wrapping_sub(held.header.requests) as i32 > 0 {
                held.header = header;
            }
            return self.take_in(id, segment);
        }
        let ended = server
            .ended
            .iter()
            .any(|(epoch, ..)| header.epoch.wrapping_sub(*epoch) as i32 <= 0);
        if ended || segment.seq != header.seq {
            return;
        }
        assert_eq!(segment.ack, header.ack);
        let refuses = self.refusals > 0 || server.refused.contains(&header.epoch);
        if refuses {
            self.refusals = self.refusals.saturating_sub(1);
            server.refused.push(header.epoch);
            let what = What::Refused { reason: 1 };
            let notice = Notice {
                what,
                key: key(),
                epoch: header.epoch,
                seq: header.seq,
                ack: header.ack,
            };
            return self.put(Packet::ToOwner(Event::Notice(notice)));
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

    fn take_in(&mut self, id: ServerId, segment: Segment) {
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
            let notice = Notice {
                what: What::Ready,
                key: key(),
                epoch: header.epoch,
                seq: header.seq,
                ack: header.ack,
            };
            self.put(Packet::ToOwner(Event::Notice(notice)));
        }
        self.put(packet);
    }

    fn servers_repeat(&mut self) {
        let ids: Vec<_> = self.servers.keys().copied().collect();
        ids.into_iter().for_each(|id| self.answer(id));
    }

    fn release(&mut self, id: ServerId, request: Release) {
        let server = self.servers.entry(id).or_default();
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
                    server.ended.push((request.epoch, request.seq, ack));
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
                .find(|(epoch, seq, _)| (*epoch, *seq) == (request.epoch, request.seq))
            {
                Some((.., ack)) => Outcome::Released { ack: *ack },
                None => Outcome::Unknown,
            },
        };
        self.put(Packet::ToOwner(Event::Answer(request.answer(outcome))));
    }

    // ---- the network

    fn put(&mut self, packet: Packet) {
        let [loss, repeat, _] = self.network;
        if self.chance(100) >= loss {
            if self.chance(100) < repeat {
                self.packets.push((self.bench.now.mono, packet.clone()));
            }
            self.packets.push((self.bench.now.mono, packet));
        }
    }

    fn deliver(&mut self) {
        if self.packets.is_empty() {
            return;
        }
        let any = self.chance(100) < self.network[2] && !self.has_old_packet();
        let at = if any {
            self.chance(self.packets.len() as u64) as usize
        } else {
            0
        };
        match self.packets.remove(at).1 {
            Packet::ToProxy(segment) => self.kernel(segment),
            Packet::ToOwner(event) => self.owner(event),
            Packet::Bind(to, header, segment) => self.adopt(to, header, segment),
            Packet::Forward(to, segment) => self.take_in(to, segment),
            Packet::Release(to, request) => self.release(to, request),
            Packet::ToClient { seq, length, ack } => self.client_receives(seq, length, ack),
        }
    }

    /// Whether the oldest packet must come next: nothing is longer on its way.
    fn has_old_packet(&self) -> bool {
        let oldest = self.packets.first().map(|(sent, _)| *sent);
        oldest.is_some_and(|sent| sent + Duration::from_millis(100) < self.bench.now.mono)
    }

    /// A number below `limit` (SplitMix64).
    fn chance(&mut self, limit: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit.max(1)
    }
}

fn whole_request(bytes: &[u8]) -> Option<usize> {
    let Ok(Parsed::Complete(head)) = RequestHead::parse(bytes) else {
        return None;
    };
    let baton_packet::BodyLength::Length(body) = head.body else {
        return None;
    };
    let length = head.head_len + body as usize;
    (bytes.len() >= length).then_some(length)
}
