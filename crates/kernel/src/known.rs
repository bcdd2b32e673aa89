//! Requests that the proxy's program decides by itself (`bpf/include/known.h`).

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use crate::Result;
use crate::abi::{self, as_bytes, known_key, known_request, known_rules, pool_cards, pool_key};
use crate::table::Table;

/// The longest request that can be known (bytes): it fits one segment.
pub const KNOWN_BYTES_MAX: usize = 1408;

/// The most servers of a pool whose flows the kernel lets stay: their slots are below.
pub const POOL_SERVERS_MAX: u16 = 1024;

/// The most cards of a deck.
pub const POOL_CARDS_MAX: usize = 2048;

/// A pool as the kernel needs it. Servers are given by their slots.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    /// Flows at these servers stay there.
    pub members: Vec<u16>,
    /// The servers of the next new flows, one after the other; no more than [`POOL_CARDS_MAX`].
    pub deck: Vec<u16>,
}

/// The tables of known requests. All that is known belongs to *rules* with a number: others make it unknown at once.
pub struct Known {
    rules: Table<known_rules>,
    requests: Table<known_request>,
    pools: Table<pool_cards>,
    key: [u8; 16],
    number: u32,
}

impl Known {
    /// `key`: of the hashes; random, so that nobody finds two requests with the same one.
    pub(crate) fn new(
        rules: Table<known_rules>,
        requests: Table<known_request>,
        pools: Table<pool_cards>,
        key: [u8; 16],
    ) -> Known {
        Known {
            rules,
            requests,
            pools,
            key,
            number: 0,
        }
    }

    /// Other rules: no request is known any more, and these are the pools, from number 0.
    pub fn renew(&mut self, pools: &[Pool]) -> Result<()> {
        self.number = self.number.wrapping_add(1).max(1);
        let at = |pool: usize| self.pool_key(pool as u16);
        let entries = pools
            .iter()
            .enumerate()
            .map(|(number, pool)| (at(number), cards(pool)));
        self.tell(0)?;
        self.pools.replace(entries)?;
        self.tell(self.number)
    }

    /// The rules' number; 0: nothing is known.
    fn tell(&self, number: u32) -> Result<()> {
        let word = |half: usize| u64::from_le_bytes(std::array::from_fn(|i| self.key[half + i]));
        let rules = known_rules {
            key: [word(0), word(8)],
            number,
            pad: 0,
        };
        self.rules.put(&0u32.to_ne_bytes(), &rules)
    }

    /// A request's hash; none if it is too long to be known.
    pub fn hash(&self, request: &[u8]) -> Option<u64> {
        let fits = !request.is_empty() && request.len() <= KNOWN_BYTES_MAX;
        fits.then(|| {
            let mut hasher = SipHasher24::new_with_key(&self.key);
            hasher.write(request);
            let rest = request.len().next_multiple_of(8) - request.len();
            hasher.write(&[0; 8][..rest]);
            hasher.finish()
        })
    }

    /// From now on the kernel decides this request, `length` bytes with this hash, at this VIP: it belongs to that pool.
    pub fn learn(
        &self,
        vip: u16,
        hash: u64,
        length: u16,
        pool: u16,
        is_head_method: bool,
    ) -> Result<()> {
        let key = known_key {
            hash,
            rules: self.number,
            vip,
            length,
        };
        let request = known_request {
            pool,
            bodiless: u16::from(is_head_method),
        };
        self.requests.put(as_bytes(&key), &request)
    }

    /// Whether all cards of a pool's deck were dealt. `false` also if there is no such pool.
    pub fn is_dealt(&self, pool: u16) -> bool {
        let cards = self.pools.lookup(&self.pool_key(pool));
        cards.is_some_and(|cards| cards.dealt >= cards.cards)
    }

    /// Another deck for a pool.
    pub fn deal(&self, number: u16, pool: &Pool) -> Result<()> {
        self.pools.put(&self.pool_key(number), &cards(pool))
    }

    fn pool_key(&self, pool: u16) -> Vec<u8> {
        let key = pool_key {
            rules: self.number,
            pool: u32::from(pool),
        };
        as_bytes(&key).to_vec()
    }
}

fn cards(pool: &Pool) -> abi::pool_cards {
    let mut cards = abi::pool_cards::default();
    for &slot in pool.members.iter().filter(|&&slot| slot < POOL_SERVERS_MAX) {
        cards.members[usize::from(slot) / 64] |= 1 << (slot % 64);
    }
    for (card, slot) in cards.deck.iter_mut().zip(&pool.deck) {
        *card = *slot;
        cards.cards += 1;
    }
    cards
}
