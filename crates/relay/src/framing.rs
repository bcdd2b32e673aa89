//! Where a request's body ends in the client's byte stream.

use baton_packet::{BodyLength, RequestHead};
use thiserror::Error;

/// Bytes that a chunk's size line or a trailer line may have.
const MAX_LINE: usize = 4096;
/// Bytes that all trailer lines may have.
const MAX_TRAILERS: usize = 16_384;

/// What is left of a body.
#[derive(Debug)]
pub(crate) enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks (RFC 9112, section 7.1).
    Chunked(Chunks),
}

impl Framing {
    /// The framing of the body that follows `head`, as if it changed no protocol.
    pub(crate) fn of(head: &RequestHead) -> Self {
        match head.body {
            BodyLength::Length(length) => Self::Length(length),
            BodyLength::Chunked => Self::Chunked(Chunks::default()),
            BodyLength::Tunnel if head.header_values("transfer-encoding").next().is_some() => {
                Self::Chunked(Chunks::default())
            }
            // The parser has made sure that there is at most one, and that it is a decimal number.
            BodyLength::Tunnel => Self::Length(
                head.header_values("content-length")
                    .find_map(|value| std::str::from_utf8(value).ok()?.parse().ok())
                    .unwrap_or(0),
            ),
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => matches!(chunks.0, Place::End),
        }
    }

    /// How many of these bytes belong to the body; it moves on behind them.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> Result<usize, ChunkError> {
        match self {
            Self::Length(left) => {
                let taken = bytes
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                Ok(taken)
            }
            Self::Chunked(chunks) => chunks.advance(bytes),
        }
    }
}

/// A chunked body that is malformed, or that servers might read differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum ChunkError {
    #[error("malformed chunk size")]
    Size,
    #[error("CR LF missing at the end of a chunk or line")]
    LineEnd,
    #[error("chunk extension or trailer too long")]
    TooLong,
}

/// Follows the chunks of a body without keeping them.
#[derive(Debug, Default)]
pub(crate) struct Chunks(Place);

#[derive(Debug, Clone, Copy)]
enum Place {
    /// In the digits of a size: the value and the number of digits so far.
    Size {
        size: u64,
        digits: u8,
    },
    /// Behind the digits, up to CR.
    Extension {
        size: u64,
        length: usize,
    },
    /// Behind the CR of a size line.
    SizeLf {
        size: u64,
    },
    /// So many bytes of data are left.
    Data {
        left: u64,
    },
    /// Behind the data.
    DataCr,
    DataLf,
    /// In a trailer line, at this column, with so many bytes of trailers before.
    Trailer {
        column: usize,
        before: usize,
    },
    /// Behind the CR of a trailer line.
    TrailerLf {
        last: bool,
        before: usize,
    },
    /// Behind the body.
    End,
}

impl Default for Place {
    fn default() -> Self {
        Self::Size { size: 0, digits: 0 }
    }
}

impl Chunks {
    fn advance(&mut self, bytes: &[u8]) -> Result<usize, ChunkError> {
        let mut at = 0;
        while at < bytes.len() && !matches!(self.0, Place::End) {
            if let Place::Data { left } = &mut self.0 {
                let taken = (bytes.len() - at).min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                at += taken;
                if *left == 0 {
                    self.0 = Place::DataCr;
                }
            } else {
                self.0 = self.0.after(bytes[at])?;
                at += 1;
            }
        }
        Ok(at)
    }
}

impl Place {
    fn after(self, byte: u8) -> Result<Self, ChunkError> {
        Ok(match (self, byte) {
            (Self::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                // Fifteen digits are no overflow, in any reader, and more than any body.
                if digits == 15 {
                    return Err(ChunkError::Size);
                }
                let digit = u64::from(char::from(byte).to_digit(16).unwrap_or(0));
                Self::Size {
                    size: size * 16 + digit,
                    digits: digits + 1,
                }
            }
            (Self::Size { digits: 0, .. }, _) => return Err(ChunkError::Size),
            (Self::Size { size, .. }, b'\r') => Self::SizeLf { size },
            (Self::Size { size, .. }, b';') => Self::Extension { size, length: 0 },
            (Self::Size { .. }, _) => return Err(ChunkError::Size),
            (Self::Extension { size, .. }, b'\r') => Self::SizeLf { size },
            (Self::Extension { .. } | Self::Trailer { .. }, b'\n') => {
                return Err(ChunkError::LineEnd);
            }
            (
                Self::Extension {
                    length: MAX_LINE, ..
                },
                _,
            ) => return Err(ChunkError::TooLong),
            (Self::Extension { size, length }, _) => Self::Extension {
                size,
                length: length + 1,
            },
            (Self::SizeLf { size: 0 }, b'\n') => Self::Trailer {
                column: 0,
                before: 0,
            },
            (Self::SizeLf { size }, b'\n') => Self::Data { left: size },
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::default(),
            (Self::Trailer { column, before }, b'\r') => Self::TrailerLf {
                last: column == 0,
                before: before + column,
            },
            (Self::Trailer { column, before }, _)
                if column == MAX_LINE || before + column >= MAX_TRAILERS =>
            {
                return Err(ChunkError::TooLong);
            }
            (Self::Trailer { column, before }, _) => Self::Trailer {
                column: column + 1,
                before,
            },
            (Self::TrailerLf { last: true, .. }, b'\n') => Self::End,
            (Self::TrailerLf { before, .. }, b'\n') => Self::Trailer {
                column: 0,
                before: before + 2,
            },
            (Self::SizeLf { .. } | Self::DataCr | Self::DataLf | Self::TrailerLf { .. }, _) => {
                return Err(ChunkError::LineEnd);
            }
            (Self::Data { .. } | Self::End, _) => self,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Feeds `bytes` in pieces of every length; how many belong to the body.
    fn body_length(bytes: &[u8]) -> Result<usize, ChunkError> {
        let results: Vec<_> = (1..=bytes.len())
            .map(|piece| {
                let mut framing = Framing::Chunked(Chunks::default());
                let mut length = 0;
                for piece in bytes.chunks(piece) {
                    length += framing.advance(piece)?;
                    if framing.is_complete() {
                        break;
                    }
                }
                assert!(framing.is_complete(), "incomplete");
                Ok(length)
            })
            .collect();
        assert!(
            results.windows(2).all(|pair| pair[0] == pair[1]),
            "{results:?}"
        );
        results[0]
    }

    #[test]
    fn a_body_ends_behind_its_last_chunk() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "a;x=\"y\"\r\n0123456789\r\n1\r\n\r\r\n000\r\n\r\n",
            "1\r\nx\r\n0\r\nTrailer: a\r\nOther: b\r\n\r\n",
        ] {
            let followed = format!("{body}GET / HTTP/1.1\r\n");
            assert_eq!(body_length(followed.as_bytes()), Ok(body.len()), "{body:?}");
        }
    }

    #[test]
    fn what_might_be_read_differently_is_refused() {
        for (body, error) in [
            ("\r\n", ChunkError::Size),
            ("-1\r\n", ChunkError::Size),
            ("0x1\r\n", ChunkError::Size),
            ("1 \r\n", ChunkError::Size),
            ("1000000000000000\r\n", ChunkError::Size),
            ("1\nx", ChunkError::Size),
            ("1;a\nx", ChunkError::LineEnd),
            ("1\rx", ChunkError::LineEnd),
            ("1\r\nxy\r\n", ChunkError::LineEnd),
            ("1\r\nx\n", ChunkError::LineEnd),
            ("0\r\nA: b\n\r\n", ChunkError::LineEnd),
        ] {
            assert_eq!(body_length(body.as_bytes()), Err(error), "{body:?}");
        }
        let long = "x".repeat(MAX_LINE + 1);
        assert_eq!(
            body_length(format!("1;{long}").as_bytes()),
            Err(ChunkError::TooLong)
        );
        assert_eq!(
            body_length(format!("0\r\n{long}").as_bytes()),
            Err(ChunkError::TooLong)
        );
        let many = "A: b\r\n".repeat(MAX_TRAILERS);
        let mut framing = Framing::Chunked(Chunks::default());
        assert_eq!(
            framing.advance(format!("0\r\n{many}").as_bytes()),
            Err(ChunkError::TooLong)
        );
    }
}
