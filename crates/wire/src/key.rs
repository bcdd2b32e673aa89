use std::fmt;

use siphasher::sip::SipHasher24;

use crate::WireError;

/// Where every message has its tag.
const TAG: std::ops::Range<usize> = 8..16;

/// The key that authenticates messages. Never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key([u8; 16]);

impl Key {
    /// A key of these bytes.
    pub fn new(bytes: [u8; 16]) -> Key {
        Key(bytes)
    }

    /// Its bytes, for the kernel's map. SipHash reads them as two little-endian 64-bit numbers.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Writes the tag of `message` (its tag, if any, counts as zero) followed by `context`.
    pub(crate) fn seal(&self, message: &mut [u8], context: &[u8]) {
        let tag = self.tag(message, context);
        message[TAG].copy_from_slice(&tag);
    }

    /// SipHash-2-4 over the message with the tag as zero, the context, and zeros up to a multiple of 8 bytes: whole
    /// words are what the kernel side can hash cheaply. The result is written as SipHash does, little-endian. The
    /// message is at least a prefix and a tag long.
    fn tag(&self, message: &[u8], context: &[u8]) -> [u8; 8] {
        let mut input = Vec::with_capacity(message.len() + context.len() + 8);
        input.extend_from_slice(message);
        input[TAG].fill(0);
        input.extend_from_slice(context);
        input.resize(input.len().next_multiple_of(8), 0);
        SipHasher24::new_with_key(&self.0)
            .hash(&input)
            .to_le_bytes()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// The keys whose tags are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Makes tags.
    pub current: Key,
    /// Still (or already) accepted while keys are rotated.
    pub previous: Option<Key>,
}

impl Keys {
    /// Whether one of the keys made the message's tag. The message is at least a prefix and a tag long.
    pub(crate) fn open(&self, message: &[u8], context: &[u8]) -> Result<(), WireError> {
        let made_by = |key: &Key| key.tag(message, context) == message[TAG];
        if made_by(&self.current) || self.previous.as_ref().is_some_and(made_by) {
            Ok(())
        } else {
            Err(WireError::Tag)
        }
    }
}
