//! Random sequences against a model: a client with a list of requests, a kernel that forwards and punts, servers that
//! adopt, answer and release, and a network that loses, repeats and reorders everything. Whatever happens, each
//! request is executed once, by the right server, in order, with its bytes; and nothing stays behind. The client sends
//! nothing again that was acknowledged, whoever did it.

use baton_wire::{Ask, Bind, Release};
use proptest::prelude::*;

use super::*;
use crate::PeerId;

mod ends;
mod proxies;

proptest! {
    #![proptest_config(same_each_time(400))]

    #[test]
    fn each_request_reaches_one_server(world in world()) {
        let mut world = world;
        world.run();
    }

    /// The same when another proxy decides now and then: the one before is alive, or dead, or was started again.
    #[test]
    fn whoever_decides(world in world(), proxies in 2usize..4, changes in 1u64..4) {
        let mut world = world;
        world.share(proxies, changes);
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
        any::<bool>(),
    )
        .prop_map(
            |(requests, pipelined, seed, (loss, repeat, reorder), refusals, closing, waits)| {
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
                    waits,
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
    /// To the proxy with this number.
    ToOwner(usize, Event),
    Pass(usize, Segment),
    Replica(usize, Entry),
    Keep(usize, Event),
    /// From the proxy with this number.
    Bind(usize, ServerId, Bind, Segment),
    Release(usize, ServerId, Release),
    Ask(usize, ServerId, Ask),
    Forward(ServerId, Segment),
    ToClient {
        seq: Seq,
        length: u32,
        ack: Seq,
    },
}

struct World {
    requests: Vec<Request>,
    pipelined: usize,
    client: Client,
    proxies: Vec<Bench>,
    /// The one that decides.
    owner: usize,
    /// Percent of all steps in which another one does.
    changes: u64,
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
    /// What servers have of it.
    delivered: usize,
    sent: usize,
    received: u32,
    /// A FIN goes with the last byte.
    closes: bool,
    /// Sends no small segment while something is not acknowledged (RFC 896).
    waits: bool,
}

/// A server's agent and its socket for the flow.
#[derive(Debug, Default)]
struct Server {
    held: Option<Held>,
    /// Binds that had a socket, and where they were released.
    ended: Vec<(Bind, Seq)>,
    /// Who sent the newest message about the flow.
    proxy: usize,
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
        waits: bool,
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
            delivered: 0,
            sent: 0,
            received: 0,
            closes,
            waits,
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
            proxies: vec![Bench::new(limits)],
            owner: 0,
            changes: 0,
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
                self.proxies[self.owner].entries
            );
            if step == 3000 {
                self.network = [0; 3];
                self.refusals = 0;
                self.changes = 0;
            }
            if self.chance(100) < self.changes {
                self.change();
            }
            match self.chance(100) {
                0..25 => self.client_sends(),
                25..30 => self.client_repeats(),
                30..35 => self.servers_repeat(),
                35..40 if !self.has_old_packet() => {
                    let time = Duration::from_millis(self.chance(40));
                    for proxy in 0..self.proxies.len() {
                        let actions = self.proxies[proxy].pass(time);
                        self.carry_out(proxy, actions);
                    }
                }
                _ => self.deliver(),
            }
            for proxy in &self.proxies {
                assert!(proxy.owner.held_bytes() <= 24_000, "its share");
            }
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
            && self.held() == 0
    }

    fn check(&self) {
        let executed: Vec<_> = self.executed.iter().map(|(_, bytes)| bytes).collect();
        let asked: Vec<_> = self.requests.iter().map(|request| &request.bytes).collect();
        assert_eq!(executed, asked, "each once, in order, byte for byte");
        let mut present = None;
        for (request, (server, _)) in self.requests.iter().zip(&self.executed) {
            match present {
                Some(present) if request.pool == 0 && self.proxies.len() == 1 => {
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
    }

    /// Bytes.
    fn held(&self) -> usize {
        let held = |Bench { owner, .. }: &Bench| {
            owner.held_bytes() - 256 * owner.pending() - owner.copied_bytes()
        };
        self.proxies.iter().map(held).sum()
    }

    // ---- the network

    fn put(&mut self, packet: Packet) {
        let [loss, repeat, _] = self.network;
        if self.chance(100) >= loss {
            if self.chance(100) < repeat {
                self.packets
                    .push((self.proxies[0].now.mono, packet.clone()));
            }
            self.packets.push((self.proxies[0].now.mono, packet));
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
            Packet::ToProxy(segment) => {
                let proxy = self.chance(self.proxies.len() as u64) as usize;
                self.kernel(proxy, segment, 0);
            }
            Packet::ToOwner(proxy, event) => self.owner(proxy, event),
            Packet::Pass(proxy, segment) => self.kernel(proxy, segment, 1),
            Packet::Keep(proxy, event) => self.owner(proxy, event),
            Packet::Replica(proxy, entry) => self.replica(proxy, entry),
            Packet::Bind(from, to, header, segment) => self.adopt(from, to, header, segment),
            Packet::Release(from, to, request) => self.release(from, to, request),
            Packet::Ask(from, to, ask) => self.ask(from, to, ask),
            Packet::Forward(to, segment) => self.take_in(to, segment),
            Packet::ToClient { seq, length, ack } => self.client_receives(seq, length, ack),
        }
    }

    /// Whether the oldest packet must come next: nothing is longer on its way.
    fn has_old_packet(&self) -> bool {
        let oldest = self.packets.first().map(|(sent, _)| *sent);
        oldest.is_some_and(|sent| sent + Duration::from_millis(100) < self.proxies[0].now.mono)
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
