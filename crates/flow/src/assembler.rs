use bytes::Bytes;

/// Pieces apart from the contiguous beginning; a client that makes more holes has to send again.
const MAX_PIECES: usize = 32;

/// A stretch of a client's byte stream whose parts come in any order. Offsets count from its beginning. What has once
/// been taken stays: later copies of the same bytes change nothing.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    beginning: Vec<u8>,
    /// Sorted; neither they nor `beginning` overlap or touch.
    pieces: Vec<(usize, Vec<u8>)>,
}

impl Assembler {
    /// The bytes from the beginning to the first hole.
    pub(crate) fn contiguous(&self) -> &[u8] {
        &self.beginning
    }

    /// Whether something was taken behind a hole.
    pub(crate) fn has_hole(&self) -> bool {
        !self.pieces.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.beginning.is_empty() && self.pieces.is_empty()
    }

    /// Bytes held.
    pub(crate) fn held(&self) -> usize {
        self.beginning.len()
            + self
                .pieces
                .iter()
                .map(|(_, bytes)| bytes.len())
                .sum::<usize>()
    }

    /// Takes those of `bytes` that are not held yet. `false` if there were too many pieces: the farthest are lost.
    #[must_use]
    pub(crate) fn insert(&mut self, offset: usize, bytes: &[u8]) -> bool {
        let mut new = self.missing(offset, bytes);
        self.pieces.append(&mut new);
        self.pieces.sort_by_key(|(at, _)| *at);
        self.join();
        let fits = self.pieces.len() <= MAX_PIECES;
        self.pieces.truncate(MAX_PIECES);
        fits
    }

    /// Keeps only the contiguous bytes.
    pub(crate) fn forget_pieces(&mut self) {
        self.pieces.clear();
    }

    /// Removes everything before `length`, which becomes the new beginning. The contiguous bytes come first.
    pub(crate) fn take(&mut self, length: usize) -> Vec<(usize, Bytes)> {
        let mut taken = Vec::new();
        let rest = self.beginning.split_off(length.min(self.beginning.len()));
        let first = std::mem::replace(&mut self.beginning, rest);
        if !first.is_empty() {
            taken.push((0, Bytes::from(first)));
        }
        let mut left = Vec::new();
        for (at, mut bytes) in self.pieces.drain(..) {
            let kept = bytes.split_off(length.saturating_sub(at).min(bytes.len()));
            if !bytes.is_empty() {
                taken.push((at, Bytes::from(bytes)));
            }
            if !kept.is_empty() {
                left.push((at.max(length) - length, kept));
            }
        }
        self.pieces = left;
        self.join();
        taken
    }

    /// Makes one of neighbours. The pieces are sorted.
    fn join(&mut self) {
        let mut joined = vec![(0, std::mem::take(&mut self.beginning))];
        for (at, bytes) in self.pieces.drain(..) {
            match joined.last_mut() {
                Some((begin, last)) if *begin + last.len() == at => last.extend(bytes),
                _ => joined.push((at, bytes)),
            }
        }
        self.pieces = joined.split_off(1);
        self.beginning = joined.pop().map(|(_, bytes)| bytes).unwrap_or_default();
    }

    /// The parts of `bytes` that are not held.
    fn missing(&self, offset: usize, bytes: &[u8]) -> Vec<(usize, Vec<u8>)> {
        let end = offset + bytes.len();
        let mut at = offset.max(self.beginning.len());
        let mut missing = Vec::new();
        let after_all = (end, 0);
        let held = self
            .pieces
            .iter()
            .map(|(begin, piece)| (*begin, piece.len()));
        for (begin, length) in held.chain([after_all]) {
            let until = begin.min(end);
            if at < until {
                missing.push((at, bytes[at - offset..until - offset].to_vec()));
            }
            at = at.max(begin + length);
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn first_bytes_win_and_holes_close() {
        let mut assembler = Assembler::default();
        assert!(assembler.insert(4, b"EF"));
        assert!(assembler.has_hole() && assembler.contiguous().is_empty());
        assert!(assembler.insert(0, b"ab"));
        assert_eq!(assembler.contiguous(), b"ab");
        assert!(assembler.insert(0, b"xxcdxxg"));
        assert_eq!(assembler.contiguous(), b"abcdEFg");
        assert!(!assembler.has_hole());
        assert_eq!(assembler.held(), 7);
    }

    #[test]
    fn pieces_are_bounded() {
        let mut assembler = Assembler::default();
        for i in 0..1000 {
            let _ = assembler.insert(2 * i + 1, b"x");
        }
        assert_eq!(assembler.held(), MAX_PIECES);
        assert!(
            assembler.insert(0, &[b'y'; 2 * MAX_PIECES]),
            "the beginning is always taken"
        );
        assert_eq!(assembler.contiguous().len(), 2 * MAX_PIECES);
    }

    #[test]
    fn neighbours_are_one_piece() {
        let mut assembler = Assembler::default();
        assert!((1..1000).all(|i| assembler.insert(10 * i, &[0; 10])));
        assert!(assembler.insert(0, &[0; 10]));
        assert_eq!(assembler.contiguous().len(), 10_000);
    }

    proptest! {
        /// Against a plain array of optional bytes.
        #[test]
        fn like_an_array(steps in proptest::collection::vec((0usize..60, 0usize..20, any::<u8>(), any::<bool>()), 1..30)) {
            let mut array: Vec<Option<u8>> = vec![None; 200];
            let mut assembler = Assembler::default();
            for (at, length, byte, take) in steps {
                if take {
                    let mut expected: Vec<_> = array.drain(..length).enumerate().collect();
                    expected.retain(|(_, byte)| byte.is_some());
                    array.resize(200, None);
                    let taken = assembler.take(length);
                    let found: Vec<_> = taken
                        .iter()
                        .flat_map(|(at, bytes)| bytes.iter().enumerate().map(move |(i, byte)| (at + i, Some(*byte))))
                        .collect();
                    prop_assert_eq!(found, expected);
                } else {
                    prop_assert!(assembler.insert(at, &vec![byte; length]));
                    array[at..at + length].iter_mut().for_each(|place| *place = place.or(Some(byte)));
                }
                let contiguous: Vec<u8> = array.iter().map_while(|byte| *byte).collect();
                prop_assert_eq!(assembler.contiguous(), contiguous);
                prop_assert_eq!(assembler.held(), array.iter().flatten().count());
            }
        }
    }
}
