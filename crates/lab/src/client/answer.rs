//! An answer as it arrived, and what it should have been.

use serde::{Deserialize, Serialize};

use crate::cluster::{File, digest_of};

/// Who answers when no back end does: a proxy itself.
pub(crate) const NO_SERVER: &str = "no back end";

/// What arrived.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Statuses of the interim answers before it, such as 100.
    pub(crate) interim: Vec<u16>,
    pub(crate) headers: Vec<(String, String)>,
    /// Of the body.
    pub(crate) bytes: u64,
    /// Of the body.
    pub(crate) sha256: String,
    /// From sending the request to the last byte.
    pub(crate) seconds: f64,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Which back end answered.
    pub(crate) fn server(&self) -> &str {
        self.header("X-Backend").unwrap_or(NO_SERVER)
    }

    /// Takes in a head as bytes of text: the status line and the header lines. Interim ones go before the final one.
    ///
    /// # Errors
    /// When it is not a head.
    pub(crate) fn take_head(&mut self, head: &[u8]) -> anyhow::Result<()> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Response::new(&mut headers);
        let status = match parsed.parse(head)? {
            httparse::Status::Complete(_) => parsed.code.unwrap_or_default(),
            httparse::Status::Partial => anyhow::bail!("a head without an end"),
        };
        if (100..200).contains(&status) {
            self.interim.push(status);
            return Ok(());
        }
        self.status = status;
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        self.headers = parsed
            .headers
            .iter()
            .map(|header| (header.name.to_owned(), text(header.value)))
            .collect();
        Ok(())
    }
}

/// What should arrive.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Expected {
    status: u16,
    server: String,
    body: Option<(u64, String)>,
}

/// How an answer differs from what was expected.
#[derive(Debug, PartialEq)]
pub(crate) enum Wrong {
    /// Another status, another server, or none at all.
    Answer(String),
    /// Another body.
    Bytes(String),
}

impl From<anyhow::Error> for Wrong {
    fn from(error: anyhow::Error) -> Self {
        Self::Answer(format!("{error:#}"))
    }
}

impl Expected {
    /// Any body.
    pub(crate) fn status(status: u16, server: &str) -> Self {
        Self {
            status,
            server: server.to_owned(),
            body: None,
        }
    }

    /// Status 200 with the whole file.
    pub(crate) fn file(server: &str, file: &File) -> Self {
        Self {
            body: Some((file.bytes, file.sha256.clone())),
            ..Self::status(200, server)
        }
    }

    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        Self {
            body: Some((bytes.len() as u64, digest_of(bytes))),
            ..self
        }
    }

    /// # Errors
    /// The first difference, with what was expected and what came.
    pub(crate) fn compare(&self, answer: &Answer) -> Result<(), Wrong> {
        if answer.status != self.status {
            return Err(Wrong::Answer(format!(
                "status {} instead of {}, from {}",
                answer.status,
                self.status,
                answer.server()
            )));
        }
        if answer.server() != self.server {
            return Err(Wrong::Answer(format!(
                "answered by {} instead of {}",
                answer.server(),
                self.server
            )));
        }
        match &self.body {
            Some((bytes, _)) if *bytes != answer.bytes => Err(Wrong::Bytes(format!(
                "{} bytes instead of {bytes}, from {}",
                answer.bytes, self.server
            ))),
            Some((bytes, sha256)) if *sha256 != answer.sha256 => Err(Wrong::Bytes(format!(
                "{bytes} bytes as expected, but not the right ones, from {}",
                self.server
            ))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(head: &[u8], body: &[u8]) -> Answer {
        let mut answer = Answer {
            bytes: body.len() as u64,
            sha256: digest_of(body),
            ..Answer::default()
        };
        answer.take_head(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        answer.take_head(head).unwrap();
        answer
    }

    #[test]
    fn each_difference_is_told() {
        let expected = Expected::status(200, "backend1").bytes(b"abc");
        let ok = b"HTTP/1.1 200 OK\r\nx-backend: backend1\r\n\r\n";
        let right = answer(ok, b"abc");
        assert_eq!(
            (expected.compare(&right), right.interim),
            (Ok(()), vec![100])
        );
        assert!(matches!(
            expected.compare(&answer(ok, b"abd")),
            Err(Wrong::Bytes(_))
        ));
        assert!(matches!(
            expected.compare(&answer(ok, b"ab")),
            Err(Wrong::Bytes(_))
        ));
        let other_server = answer(b"HTTP/1.1 200 OK\r\nX-Backend: backend2\r\n\r\n", b"abc");
        assert!(
            matches!(expected.compare(&other_server), Err(Wrong::Answer(why)) if why.contains("backend2"))
        );
        let other_status = answer(b"HTTP/1.1 502 Bad Gateway\r\n\r\n", b"abc");
        assert!(
            matches!(expected.compare(&other_status), Err(Wrong::Answer(why)) if why.contains("502"))
        );
    }
}
