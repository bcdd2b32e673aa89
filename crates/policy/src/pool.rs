//! Pools: the servers that a request may go to, and the policy that chooses one.

use rand::Rng;
use thiserror::Error;

use crate::weighted_random;
use crate::weighted_round_robin::WeightedRoundRobin;

/// Place of a server in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u16);

/// How the bytes of a flow travel once it is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// The server's kernel adopts the flow and answers the client directly.
    Handoff,
    /// A relay copies bytes between two connections.
    Relay,
}

/// How a pool chooses among its servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Smooth weighted round robin: exact shares, evenly interleaved.
    WeightedRoundRobin,
    /// Each choice independent, with probabilities by weight.
    WeightedRandom,
}

/// A server of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The server.
    pub server: ServerId,
    /// Its share of the choices, relative to the others': 1 to [`Pool::MAX_WEIGHT`].
    pub weight: u32,
}

/// Why a pool was refused, and what to do.
#[derive(Debug, Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum PoolError {
    #[error("pool \"{0}\" has no servers: name at least one")]
    Empty(String),
    #[error(
        "pool \"{pool}\" gives server number {server} twice: name it once and give it a weight"
    )]
    Duplicate { pool: String, server: u16 },
    #[error("pool \"{pool}\": weight {weight} of server number {server} is out of range: use 1 to {max}", max = Pool::MAX_WEIGHT)]
    Weight {
        pool: String,
        server: u16,
        weight: u32,
    },
}

/// A named set of servers. Immutable but for the round robin's counters; may be shared by threads.
#[derive(Debug)]
pub struct Pool {
    name: String,
    mechanism: Mechanism,
    members: Box<[Member]>,
    chooser: Chooser,
}

#[derive(Debug)]
enum Chooser {
    WeightedRoundRobin(WeightedRoundRobin),
    WeightedRandom,
}

impl Pool {
    /// The largest weight of a member.
    pub const MAX_WEIGHT: u32 = 1000;

    /// A pool of at least one server, none twice.
    pub fn new(
        name: impl Into<String>,
        mechanism: Mechanism,
        policy: Policy,
        members: impl IntoIterator<Item = Member>,
    ) -> Result<Self, PoolError> {
        let name = name.into();
        let members: Box<[Member]> = members.into_iter().collect();
        if members.is_empty() {
            return Err(PoolError::Empty(name));
        }
        for (
            at,
            &Member {
                server: ServerId(server),
                weight,
            },
        ) in members.iter().enumerate()
        {
            if !(1..=Self::MAX_WEIGHT).contains(&weight) {
                return Err(PoolError::Weight {
                    pool: name,
                    server,
                    weight,
                });
            }
            if members[..at].iter().any(|other| other.server.0 == server) {
                return Err(PoolError::Duplicate { pool: name, server });
            }
        }
        let chooser = match policy {
            Policy::WeightedRoundRobin => {
                Chooser::WeightedRoundRobin(WeightedRoundRobin::new(members.len()))
            }
            Policy::WeightedRandom => Chooser::WeightedRandom,
        };
        Ok(Self {
            name,
            mechanism,
            members,
            chooser,
        })
    }

    /// The name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the bytes of this pool's flows travel.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The servers in the configuration's order.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The server for a request on a flow that is at `present` now; `None` if all are excluded.
    ///
    /// Stay if you may: the present server is kept, and the policy not asked, if it is a member and not excluded.
    /// `excluded` must be quick and must not choose from this pool itself: round robin holds a lock meanwhile.
    pub fn choose(
        &self,
        present: Option<ServerId>,
        excluded: impl Fn(ServerId) -> bool,
        rng: &mut impl Rng,
    ) -> Option<ServerId> {
        let is_member = |server| self.members.iter().any(|member| member.server == server);
        if let Some(server) = present.filter(|&server| is_member(server) && !excluded(server)) {
            return Some(server);
        }
        match &self.chooser {
            Chooser::WeightedRoundRobin(state) => state.choose(&self.members, excluded),
            Chooser::WeightedRandom => weighted_random::choose(&self.members, excluded, rng),
        }
    }
}
