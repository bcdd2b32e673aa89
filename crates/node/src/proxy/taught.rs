//! The bytes of the requests that the kernel was taught: should a server die before it answers one, another gets it (H8).

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

/// What they may cost together (bytes).
const MOST_BYTES: usize = 8 << 20;

/// What a request costs beside its bytes.
const OVERHEAD: usize = 256;

/// Requests by their hashes; those that were taught first make room. They outlive the rules under which they were taught, for a request that
/// was bound under these may have to be asked again under others.
pub(super) struct Taught {
    most: usize,
    requests: HashMap<u64, (u64, Bytes)>,
    /// Hashes in the order of teaching.
    order: BTreeMap<u64, u64>,
    next: u64,
    held: usize,
}

impl Taught {
    /// `most`: so many requests.
    pub(super) fn new(most: usize) -> Taught {
        Taught {
            most,
            requests: HashMap::new(),
            order: BTreeMap::new(),
            next: 0,
            held: 0,
        }
    }

    /// The kernel is taught this request (again).
    pub(super) fn keep(&mut self, hash: u64, request: &[u8]) {
        self.forget(hash);
        self.held += request.len() + OVERHEAD;
        self.requests
            .insert(hash, (self.next, Bytes::copy_from_slice(request)));
        self.order.insert(self.next, hash);
        self.next += 1;
        while self.requests.len() > self.most || self.held > MOST_BYTES {
            let Some((_, &oldest)) = self.order.first_key_value() else {
                return;
            };
            self.forget(oldest);
        }
    }

    pub(super) fn recall(&self, hash: u64) -> Option<Bytes> {
        self.requests.get(&hash).map(|(_, request)| request.clone())
    }

    fn forget(&mut self, hash: u64) {
        if let Some((turn, request)) = self.requests.remove(&hash) {
            self.order.remove(&turn);
            self.held -= request.len() + OVERHEAD;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(taught: &Taught, hashes: impl Iterator<Item = u64>) -> Vec<u64> {
        hashes
            .filter(|hash| taught.recall(*hash).is_some())
            .collect()
    }

    #[test]
    fn those_that_were_taught_last_stay() {
        let mut taught = Taught::new(3);
        for hash in [1, 2, 3, 1, 4] {
            taught.keep(hash, &[hash as u8; 10]);
        }
        assert_eq!(kept(&taught, 1..9), [1, 3, 4]);
        assert_eq!(taught.recall(1).as_deref(), Some(&[1; 10][..]));
    }

    #[test]
    fn their_bytes_have_a_bound() {
        let mut taught = Taught::new(usize::MAX);
        for hash in 0..20_000 {
            taught.keep(hash, &[0; 1400]);
            assert!(taught.held <= MOST_BYTES);
        }
        let kept = kept(&taught, 0..20_000);
        assert_eq!(kept.len(), MOST_BYTES / (1400 + OVERHEAD));
        assert_eq!(kept.last(), Some(&19_999));
        assert_eq!(taught.order.len(), kept.len());
    }
}
