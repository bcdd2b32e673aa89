use std::fmt;

use crate::{Key, Keys};

/// One line of the secret file: 32 bytes. Never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret {
    /// The first 16 bytes: authenticates messages.
    pub message: Key,
    /// The last 16 bytes: makes SYN cookies.
    pub cookie: [u8; 16],
}

/// What the secret file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secrets {
    /// The first line: makes tags and cookies.
    pub current: Secret,
    /// The second line: still (or already) accepted.
    pub previous: Option<Secret>,
}

/// What is wrong with a secret file. Says where, never what stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// No line.
    #[error(
        "the secret file is empty: write one line of 64 hexadecimal digits (openssl rand -hex 32)"
    )]
    Empty,
    /// A line is not 64 hexadecimal digits.
    #[error(
        "line {line} of the secret file is not 64 hexadecimal digits (it has {length} characters)"
    )]
    Line {
        /// Counted from 1.
        line: usize,
        /// Characters in it.
        length: usize,
    },
    /// More than two secrets.
    #[error("line {line} of the secret file is a third secret: one or two are allowed")]
    TooMany {
        /// Counted from 1.
        line: usize,
    },
}

impl Secrets {
    /// Reads the text of a secret file: one or two lines of 64 hexadecimal digits. Empty lines are skipped.
    ///
    /// # Errors
    /// [`SecretError`] for anything else.
    pub fn parse(text: &str) -> Result<Secrets, SecretError> {
        let mut lines = (1..)
            .zip(text.lines().map(str::trim))
            .filter(|(_, line)| !line.is_empty());
        let mut secret = || {
            let parsed = lines.next().map(|(line, digits)| {
                Secret::parse(digits).ok_or(SecretError::Line {
                    line,
                    length: digits.chars().count(),
                })
            });
            parsed.transpose()
        };
        let secrets = Secrets {
            current: secret()?.ok_or(SecretError::Empty)?,
            previous: secret()?,
        };
        match lines.next() {
            Some((line, _)) => Err(SecretError::TooMany { line }),
            None => Ok(secrets),
        }
    }

    /// The keys of messages.
    pub fn message_keys(&self) -> Keys {
        Keys {
            current: self.current.message,
            previous: self.previous.map(|secret| secret.message),
        }
    }
}

impl Secret {
    fn parse(digits: &str) -> Option<Secret> {
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        let mut bytes = [0; 32];
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return None;
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            *byte = (digit(*high)? << 4 | digit(*low)?) as u8;
        }
        let half = |at: usize| std::array::from_fn(|i| bytes[at + i]);
        Some(Secret {
            message: Key::new(half(0)),
            cookie: half(16),
        })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const OTHER: &str = "FFfeFDFCFBFAF9F8F7F6F5F4F3F2F1F0EFEEEDECEBEAE9E8E7E6E5E4E3E2E1E0";

    #[test]
    fn one_or_two_lines() {
        let one = Secrets::parse(ONE).unwrap();
        assert_eq!(
            one.current.message.bytes(),
            &std::array::from_fn(|i| i as u8)
        );
        assert_eq!(one.current.cookie, std::array::from_fn(|i| i as u8 + 16));
        assert_eq!(one.previous, None);
        let two = Secrets::parse(&format!("{ONE}\r\n\n{OTHER}\n")).unwrap();
        assert_eq!(two.current, one.current);
        assert_eq!(two.previous.unwrap().cookie[15], 0xe0);
        assert_eq!(two.message_keys().previous.unwrap().bytes()[0], 0xff);
    }

    #[test]
    fn errors_name_the_line_and_never_the_secret() {
        let error = |text: &str| Secrets::parse(text).unwrap_err();
        assert_eq!(error(""), SecretError::Empty);
        assert_eq!(error("\n \n"), SecretError::Empty);
        assert_eq!(
            error(&ONE[1..]),
            SecretError::Line {
                line: 1,
                length: 63
            }
        );
        assert_eq!(
            error(&format!("{ONE}0")),
            SecretError::Line {
                line: 1,
                length: 65
            }
        );
        assert_eq!(
            error(&format!("{ONE}\n{}g", &ONE[1..])),
            SecretError::Line {
                line: 2,
                length: 64
            }
        );
        assert_eq!(
            error(&format!("{ONE}\n\n{ONE}\n{ONE}")),
            SecretError::TooMany { line: 4 }
        );
        let shown = format!("{} {:?}", error(&ONE[1..]), Secrets::parse(ONE).unwrap());
        assert!(
            !shown.contains("0102") && !shown.contains("1, 2"),
            "{shown}"
        );
    }
}
