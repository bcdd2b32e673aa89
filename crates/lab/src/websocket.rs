//! Frames of a WebSocket (RFC 6455 5.2), as far as an echo needs them.

use std::io::{self, Read, Write};

/// The nonce of RFC 6455 1.3, and what a server that speaks the protocol makes of it.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// Of the first byte: the message ends here. Messages of several frames are not understood.
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const LONGEST: u64 = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// # Errors
    /// When the connection ends, or what comes is no whole message in a frame of at most 1 MiB.
    pub(crate) fn read(input: &mut impl Read) -> io::Result<Self> {
        let wrong = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let [first, second] = bytes(input)?;
        if first & 0xf0 != FIN {
            return Err(wrong("not a message in one frame"));
        }
        let length = match second & !MASKED {
            126 => u16::from_be_bytes(bytes(input)?).into(),
            127 => u64::from_be_bytes(bytes(input)?),
            short => short.into(),
        };
        if length > LONGEST {
            return Err(wrong("a frame of more than 1 MiB"));
        }
        let mask = if second & MASKED == 0 {
            [0; 4]
        } else {
            bytes(input)?
        };
        let mut payload = Vec::new();
        if input.by_ref().take(length).read_to_end(&mut payload)? as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        apply(mask, &mut payload);
        Ok(Self {
            opcode: first & 0x0f,
            payload,
        })
    }

    /// A client's frames are masked, a server's are not.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(crate) fn write(&self, output: &mut impl Write, mask: Option<[u8; 4]>) -> io::Result<()> {
        let mut frame = vec![FIN | self.opcode];
        let masked = if mask.is_some() { MASKED } else { 0 };
        let length = self.payload.len();
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ 0..=125), _) => frame.push(masked | short),
            (_, Ok(middle)) => {
                frame.push(masked | 126);
                frame.extend(middle.to_be_bytes());
            }
            _ => {
                frame.push(masked | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(mask.into_iter().flatten());
        let start = frame.len();
        frame.extend(&self.payload);
        apply(mask.unwrap_or_default(), &mut frame[start..]);
        output.write_all(&frame)
    }
}

fn bytes<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn apply(mask: [u8; 4], payload: &mut [u8]) {
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        let hello = Frame {
            opcode: TEXT,
            payload: b"Hello".to_vec(),
        };
        let plain = b"\x81\x05Hello".to_vec();
        let masked = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58".to_vec();
        for (mask, expected) in [(None, plain), (Some([0x37, 0xfa, 0x21, 0x3d]), masked)] {
            let mut bytes = Vec::new();
            hello.write(&mut bytes, mask).unwrap();
            assert_eq!(bytes, expected);
            assert_eq!(Frame::read(&mut &bytes[..]).unwrap(), hello);
        }
    }

    #[test]
    fn every_form_of_the_length() {
        for length in [0, 125, 126, 65_535, 65_536, 1 << 20] {
            let frame = Frame {
                opcode: BINARY,
                payload: vec![7; length],
            };
            let mut bytes = Vec::new();
            frame.write(&mut bytes, Some([1, 2, 3, 4])).unwrap();
            assert_eq!(Frame::read(&mut &bytes[..]).unwrap(), frame);
        }
    }
}
