//! Bytes read ahead of a request head's end.

/// A queue of bytes in one piece of memory, all of it initialized once so that reads need no `unsafe`.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    memory: Vec<u8>,
    begin: usize,
    end: usize,
}

/// What an idle connection holds on to.
const USUAL: usize = 4096;

impl Buffer {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.begin..self.end]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.begin == self.end
    }

    /// At least one byte of room at the end; what is read into it must be told by [`Self::added`].
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.end == self.memory.len() {
            self.memory.copy_within(self.begin..self.end, 0);
            self.end -= self.begin;
            self.begin = 0;
            if self.end * 2 >= self.memory.len() {
                self.memory.resize((self.memory.len() * 2).max(USUAL), 0);
            }
        }
        &mut self.memory[self.end..]
    }

    pub(crate) fn added(&mut self, count: usize) {
        self.end += count;
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.begin += count;
        if self.is_empty() {
            (self.begin, self.end) = (0, 0);
            if self.memory.len() > USUAL {
                self.memory = Vec::new();
            }
        }
    }

    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.room();
            let count = bytes.len().min(room.len());
            room[..count].copy_from_slice(&bytes[..count]);
            self.added(count);
            bytes = &bytes[count..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let sent: Vec<u8> = (0..100_000u32).map(|at| (at % 251) as u8).collect();
        let mut buffer = Buffer::default();
        let mut received = Vec::new();
        for (at, piece) in sent.chunks(999).enumerate() {
            buffer.push(piece);
            let count = if at % 7 == 0 {
                buffer.bytes().len()
            } else {
                500
            };
            received.extend_from_slice(&buffer.bytes()[..count]);
            buffer.consume(count);
        }
        received.extend_from_slice(buffer.bytes());
        assert!(received == sent);
    }

    #[test]
    fn memory_is_given_back() {
        let mut buffer = Buffer::default();
        buffer.push(&vec![1; 1 << 20]);
        buffer.consume(1 << 20);
        assert!(buffer.memory.len() <= USUAL);
        buffer.push(b"x");
        assert_eq!(buffer.bytes(), b"x");
    }
}
