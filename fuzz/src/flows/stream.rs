//! What clients send: the same bytes in each connection, whose sequence numbers are far apart.

use baton_packet::{BodyLength, Parsed, RequestHead, Seq};

use super::script::Message;

/// The first connection's first byte and what it acknowledges first; both wrap soon.
pub(super) const FIRST: Seq = Seq(0xffff_f000);
pub(super) const ACK: Seq = Seq(0xffff_fff0);
/// Between two connections' first bytes; more than a stream is long.
pub(super) const APART: u32 = 1 << 16;

const MAX_MESSAGES: usize = 24;
const MAX_BODY: u16 = 2000;

pub(super) struct Stream {
    bytes: Vec<u8>,
    /// Where each request begins that follows others of known length, and its pool (`None`: the relay).
    pub(super) requests: Vec<(usize, Option<u16>)>,
}

impl Stream {
    pub(super) fn new(messages: &[Message]) -> Stream {
        let mut bytes = Vec::new();
        messages
            .iter()
            .take(MAX_MESSAGES)
            .for_each(|message| bytes.extend(message.bytes()));
        let mut requests = Vec::new();
        let mut at = 0;
        while let Ok(Parsed::Complete(head)) = RequestHead::parse(&bytes[at..]) {
            requests.push((at, pool(&head)));
            let BodyLength::Length(body) = head.body else {
                return Stream { bytes, requests };
            };
            at += head.head_len + body as usize;
        }
        requests.push((at, None));
        Stream { bytes, requests }
    }

    pub(super) fn bytes(&self, at: usize, length: usize) -> &[u8] {
        let at = at.min(self.bytes.len());
        &self.bytes[at..(at + length).min(self.bytes.len())]
    }

    pub(super) fn seq(&self, life: u32, at: usize) -> Seq {
        FIRST + life * APART + at.min(self.bytes.len()) as u32
    }

    /// Where in the stream a sequence number of any connection is.
    pub(super) fn place(&self, seq: Seq) -> isize {
        ((seq - FIRST) as u32 % APART) as isize
    }
}

/// Which connection has this sequence number.
pub(super) fn life(seq: Seq) -> u32 {
    (seq - FIRST) as u32 / APART
}

impl Message {
    fn bytes(&self) -> Vec<u8> {
        let head = |method: &str, pool: u8, fields: &str| {
            let pool = pool % 5;
            format!("{method} /{pool} HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
        };
        match self {
            Message::Get { pool } => head("GET", *pool, ""),
            Message::Head { pool } => head("HEAD", *pool, ""),
            Message::Post { pool, body } => {
                let body = body % MAX_BODY;
                let mut bytes = head("POST", *pool, &format!("Content-Length: {body}\r\n"));
                bytes.resize(bytes.len() + usize::from(body), b'b');
                bytes
            }
            Message::Chunked { pool } => {
                let mut bytes = head("PUT", *pool, "Transfer-Encoding: chunked\r\n");
                bytes.extend(b"1\r\nx\r\n0\r\n\r\n");
                bytes
            }
            Message::Upgrade { pool } => {
                head("GET", *pool, "Connection: upgrade\r\nUpgrade: x\r\n")
            }
            Message::LongHead { pool, padding } => {
                let padding = "x".repeat(usize::from(*padding));
                head("GET", *pool, &format!("X: {padding}\r\n"))
            }
            Message::Bytes(bytes) => bytes.to_vec(),
        }
    }
}

/// `/0` is the relay's.
pub(super) fn pool(head: &RequestHead) -> Option<u16> {
    let digit = head.path.chars().nth(1)?.to_digit(10)?;
    (digit > 0).then_some(digit as u16)
}
