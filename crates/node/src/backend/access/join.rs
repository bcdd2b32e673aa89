//! Which answer belongs to which request: both are numbered since the bind.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use baton_kernel::{Access, Answered};
use baton_packet::{BodyLength, FlowKey, Parsed, RequestHead, Seq};

use super::line::{Line, Request};

/// Flows with unanswered requests, and bytes of their requests; beyond, lines are lost.
const MOST_FLOWS: usize = 65_536;
const MOST_BYTES: usize = 64 << 20;
/// A head in more pieces that are apart than these is lost.
const MOST_PIECES: usize = 32;

/// Requests that wait for their answers.
#[derive(Default)]
pub(super) struct Join {
    flows: HashMap<u64, Flow>,
    bytes: usize,
    lost: u64,
}

/// A bind. Forgotten when nothing is open: the next header says where its requests begin.
struct Flow {
    key: FlowKey,
    /// Where the next head begins, and what is known of it.
    cursor: Seq,
    head: Vec<u8>,
    apart: Vec<(Seq, Vec<u8>)>,
    /// Requests before the cursor.
    number: u32,
    /// Where requests begin is not known any more (tunnel, chunked body).
    pinned: bool,
    open: VecDeque<Open>,
    moved: Duration,
}

struct Open {
    number: u32,
    at: Duration,
    request: Request,
}

impl Join {
    /// Lines that are complete now are appended to `lines`.
    pub(super) fn take(&mut self, event: Access, lines: &mut Vec<Line>) {
        match event {
            Access::Request {
                flow,
                key,
                at,
                after,
                seq,
                bytes,
            } => {
                let room = self.flows.len() < MOST_FLOWS && self.bytes < MOST_BYTES;
                if !room && !self.flows.contains_key(&flow) {
                    self.lost += 1;
                    return;
                }
                let known = self.flows.remove(&flow);
                self.bytes -= known.as_ref().map_or(0, Flow::bytes);
                let mut state = match (known, after) {
                    (Some(state), None) => state,
                    (Some(mut state), Some((number, begins))) => {
                        self.lost += state.resume(begins, number);
                        state
                    }
                    (None, Some((number, begins))) => Flow::new(key, begins, number),
                    // All of it was answered.
                    (None, None) => return,
                };
                state.moved = at;
                state.add(seq, bytes);
                self.lost += state.parse(at);
                self.keep(flow, state);
            }
            Access::Answer(answered) => {
                let Some(mut state) = self.forget(answered.flow) else {
                    self.lost += 1;
                    return;
                };
                state.moved = answered.end;
                self.lost += state.skip_to(answered.number);
                lines.extend(state.answered(answered));
                self.keep(answered.flow, state);
            }
            Access::End(answered) => self.end(answered.flow, Some(answered), lines),
        }
    }

    /// The connection is gone. What was not begun to be answered is no line, as servers log none.
    pub(super) fn end(&mut self, flow: u64, answered: Option<Answered>, lines: &mut Vec<Line>) {
        let Some(mut state) = self.forget(flow) else {
            return;
        };
        if let Some(answered) = answered {
            self.lost += state.skip_to(answered.number);
            lines.extend(state.answered(answered));
        }
    }

    /// Flows that wait and were silent for so long.
    pub(super) fn idle(&self, now: Duration, limit: Duration) -> Vec<(u64, FlowKey)> {
        let idle = |state: &Flow| now.saturating_sub(state.moved) >= limit;
        self.flows
            .iter()
            .filter(|(_, state)| idle(state))
            .map(|(flow, state)| (*flow, state.key))
            .collect()
    }

    /// It is only slow.
    pub(super) fn still_there(&mut self, flow: u64, now: Duration) {
        if let Some(state) = self.flows.get_mut(&flow) {
            state.moved = now;
        }
    }

    /// Lines that cannot be written, since the last call.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    fn keep(&mut self, flow: u64, state: Flow) {
        if !state.is_done() {
            self.bytes += state.bytes();
            self.flows.insert(flow, state);
        }
    }

    fn forget(&mut self, flow: u64) -> Option<Flow> {
        let state = self.flows.remove(&flow)?;
        self.bytes -= state.bytes();
        Some(state)
    }
}

impl Flow {
    fn new(key: FlowKey, cursor: Seq, number: u32) -> Flow {
        Flow {
            key,
            cursor,
            head: Vec::new(),
            apart: Vec::new(),
            number,
            pinned: false,
            open: VecDeque::new(),
            moved: Duration::ZERO,
        }
    }

    /// A header names a place beyond what was read: something was lost in between. Returns how many requests.
    fn resume(&mut self, begins: Seq, number: u32) -> u64 {
        let (missed, ahead) = (number.wrapping_sub(self.number), begins - self.cursor);
        if missed == 0 || missed > u32::MAX / 2 || ahead <= 0 {
            return 0;
        }
        self.cursor = begins;
        self.number = number;
        self.head.clear();
        self.apart.clear();
        u64::from(missed)
    }

    fn add(&mut self, seq: Seq, bytes: Vec<u8>) {
        if self.pinned {
            return;
        }
        if self.apart.len() < MOST_PIECES {
            self.apart.push((seq, bytes));
        }
        // Each piece that is taken may be what another waited for.
        while let Some(at) = self
            .apart
            .iter()
            .position(|(seq, _)| *seq - self.known_to() <= 0)
        {
            let (seq, bytes) = self.apart.swap_remove(at);
            let known = (self.known_to() - seq) as usize;
            self.head.extend(bytes.get(known..).unwrap_or_default());
        }
    }

    fn known_to(&self) -> Seq {
        self.cursor + self.head.len() as u32
    }

    /// Reads the heads that are complete. Returns how many cannot be read.
    fn parse(&mut self, at: Duration) -> u64 {
        while !self.pinned && !self.head.is_empty() {
            let head = match RequestHead::parse(&self.head) {
                Ok(Parsed::Complete(head)) => head,
                Ok(Parsed::Partial) => return 0,
                Err(_) => {
                    self.pin();
                    return 1;
                }
            };
            self.number = self.number.wrapping_add(1);
            self.open.push_back(Open {
                number: self.number,
                at,
                request: Request::new(&self.head[..head.head_len], &head),
            });
            match head.body {
                BodyLength::Length(body) => {
                    let length = head.head_len as u64 + body;
                    self.cursor += length as u32;
                    let known = usize::try_from(length).unwrap_or(usize::MAX);
                    self.head.drain(..known.min(self.head.len()));
                    self.apart
                        .retain(|(seq, bytes)| (*seq + bytes.len() as u32) - self.cursor > 0);
                }
                BodyLength::Chunked | BodyLength::Tunnel => self.pin(),
            }
        }
        0
    }

    fn pin(&mut self) {
        self.pinned = true;
        self.head.clear();
        self.apart.clear();
    }

    /// Requests before this one will get no line: what was told of their answers is lost.
    fn skip_to(&mut self, number: u32) -> u64 {
        let mut lost = 0;
        while self
            .open
            .front()
            .is_some_and(|open| number.wrapping_sub(open.number) as i32 > 0)
        {
            self.open.pop_front();
            lost += 1;
        }
        lost
    }

    fn answered(&mut self, answered: Answered) -> Option<Line> {
        if self.open.front()?.number != answered.number {
            return None;
        }
        let open = self.open.pop_front()?;
        Some(Line {
            key: self.key,
            at: open.at,
            request: open.request,
            answered,
        })
    }

    fn is_done(&self) -> bool {
        self.open.is_empty() && self.head.is_empty() && self.apart.is_empty()
    }

    fn bytes(&self) -> usize {
        let apart: usize = self.apart.iter().map(|(_, bytes)| bytes.len()).sum();
        let open: usize = self.open.iter().map(|open| open.request.bytes()).sum();
        size_of::<Flow>() + self.head.len() + apart + open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    const PUT: &[u8] = b"PUT /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n";

    fn key() -> FlowKey {
        FlowKey::new(
            "10.77.0.1:4000".parse().unwrap(),
            "10.77.0.10:80".parse().unwrap(),
        )
    }

    fn request(number: u32, begins: u32, seq: u32, bytes: &[u8]) -> Access {
        Access::Request {
            flow: 7,
            key: key(),
            at: Duration::from_millis(seq.into()),
            after: Some((number, Seq(begins))),
            seq: Seq(seq),
            bytes: bytes.to_vec(),
        }
    }

    /// Behind the header that the packet before had.
    fn same(seq: u32, bytes: &[u8]) -> Access {
        let mut event = request(0, 0, seq, bytes);
        if let Access::Request { after, .. } = &mut event {
            *after = None;
        }
        event
    }

    fn answered(number: u32) -> Answered {
        Answered {
            flow: 7,
            number,
            status: Some(200),
            bytes: 3,
            head: Some(Duration::from_secs(9)),
            end: Duration::from_secs(10),
        }
    }

    fn lines(join: &mut Join, events: impl IntoIterator<Item = Access>) -> Vec<(String, u32)> {
        let mut lines = Vec::new();
        for event in events {
            join.take(event, &mut lines);
        }
        lines
            .iter()
            .map(|line| (line.request.to_string(), line.answered.number))
            .collect()
    }

    #[test]
    fn a_request_and_its_answer_are_a_line_and_leave_nothing() {
        let mut join = Join::default();
        let events = [request(0, 100, 100, GET), Access::Answer(answered(1))];
        assert_eq!(
            lines(&mut join, events),
            [("GET /a HTTP/1.1".to_owned(), 1)]
        );
        // The packet comes again, with its header; then a later request, of which the header says where it begins.
        let next = 100 + GET.len() as u32;
        let again = [
            same(100, GET),
            request(1, next, next, PUT),
            Access::Answer(answered(2)),
        ];
        assert_eq!(lines(&mut join, again), [("PUT /p HTTP/1.1".to_owned(), 2)]);
        assert_eq!((join.flows.len(), join.bytes, join.lost), (0, 0, 0));
    }

    #[test]
    fn heads_in_pieces_of_any_order_and_many_in_one() {
        let stream = [PUT, b"12345", GET, GET].concat();
        for size in [1, 7, 40, 1000] {
            let mut pieces: Vec<_> = stream.chunks(size).enumerate().collect();
            for swap in 0..pieces.len() / 2 {
                pieces.swap(2 * swap, 2 * swap + 1);
            }
            let mut join = Join::default();
            let begins = u32::MAX - 20;
            let events = pieces.into_iter().enumerate().map(|(place, (n, piece))| {
                let seq = begins.wrapping_add((n * size) as u32);
                match place {
                    0 => request(0, begins, seq, piece),
                    _ => same(seq, piece),
                }
            });
            assert_eq!(lines(&mut join, events), []);
            let answers = (1..=3).map(|number| Access::Answer(answered(number)));
            let told = lines(&mut join, answers);
            assert_eq!(told.len(), 3, "{size}");
            assert!(told[0].0.starts_with("PUT") && told[2].0.starts_with("GET"));
            assert_eq!((join.flows.len(), join.bytes, join.lost), (0, 0, 0));
        }
    }

    #[test]
    fn what_is_lost_is_counted_and_later_lines_are_right() {
        let mut join = Join::default();
        let events = [
            request(0, 100, 100, GET),
            // The answer was not told, nor the second request.
            request(2, 500, 500, PUT),
            Access::Answer(answered(3)),
        ];
        assert_eq!(
            lines(&mut join, events),
            [("PUT /p HTTP/1.1".to_owned(), 3)]
        );
        assert_eq!(join.take_lost(), 2);
        assert_eq!(lines(&mut join, [Access::Answer(answered(4))]), []);
        assert_eq!(join.take_lost(), 1);
    }

    #[test]
    fn a_connection_that_ends_is_a_line_of_what_was_begun() {
        let mut join = Join::default();
        let pipelined = [GET, GET].concat();
        let events = [request(0, 0, 0, &pipelined), Access::End(answered(1))];
        assert_eq!(lines(&mut join, events).len(), 1);
        let events = [request(0, 0, 0, GET)];
        assert_eq!(lines(&mut join, events), []);
        let (now, limit) = (Duration::from_secs(60), Duration::from_secs(5));
        assert_eq!(join.idle(now, limit), [(7, key())]);
        join.still_there(7, now);
        assert_eq!(join.idle(now, limit), []);
        join.end(7, None, &mut Vec::new());
        assert_eq!((join.flows.len(), join.bytes, join.lost), (0, 0, 0));
    }
}
