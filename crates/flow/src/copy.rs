//! A partial head is acknowledged once its bytes are at the owner's successor too (H12): the client will not send them again.

use std::time::Duration;

use baton_packet::{Segment, Seq};

use crate::Entry;
use crate::asking::Waiting;
use crate::owner::OVERHEAD;

/// By then the request has been sent, or was given up.
const KEEP: Duration = Duration::from_secs(60);

/// Pieces of one request.
const MAX_PIECES: usize = 64;

/// What is kept here of a flow that another proxy decides.
#[derive(Debug)]
pub(crate) struct Copy {
    /// As it was there.
    pub(crate) entry: Entry,
    pieces: Vec<Segment>,
    /// The client is told that all before this has arrived.
    pub(crate) end: Seq,
    until: Duration,
}

impl Copy {
    /// Nothing yet, but the bytes from `start` on will come.
    pub(crate) fn new(entry: Entry, start: Seq, now: Duration) -> Copy {
        Copy {
            entry,
            pieces: Vec::new(),
            end: start,
            until: now + KEEP,
        }
    }

    /// Whether this is about the same request.
    pub(crate) fn fits(&self, entry: &Entry) -> bool {
        self.entry.next_request() == entry.next_request()
    }

    /// One more piece, if there is room; `room`: what all of them may cost. Whether it is kept.
    pub(crate) fn add(&mut self, entry: Entry, segment: Segment, end: Seq, room: usize) -> bool {
        let known = |piece: &Segment| {
            piece.seq.at_or_before(segment.seq)
                && piece.payload_end().at_or_after(segment.payload_end())
        };
        let is_known = self.pieces.iter().any(known);
        let cost = self.cost() + segment.payload.len() + OVERHEAD;
        if !is_known && (self.pieces.len() >= MAX_PIECES || cost > room) {
            return false;
        }
        if !is_known {
            self.pieces.push(segment);
        }
        self.entry = entry;
        self.end = self.end.latest(end);
        true
    }

    /// All of the request before this is here.
    pub(crate) fn kept(&self) -> Seq {
        let mut end = self.entry.next_request();
        let goes_on = |end: Seq| {
            let mut pieces = self.pieces.iter();
            pieces.find(|piece| piece.seq.at_or_before(end) && piece.payload_end().after(end))
        };
        while let Some(piece) = goes_on(end) {
            end = piece.payload_end();
        }
        end
    }

    /// Its bytes, and where those end that the client will not send again.
    pub(crate) fn pieces(&self) -> Vec<(Segment, Option<Seq>)> {
        let pieces = self.pieces.iter();
        pieces
            .map(|piece| (piece.clone(), Some(self.end)))
            .collect()
    }

    /// As what waits for a decision, in order and without seams: what the client will not send again has to stay together.
    pub(crate) fn waiting(self) -> impl Iterator<Item = Waiting> {
        let vip = self.entry.vip;
        self.joined().into_iter().map(move |segment| Waiting {
            vip,
            segment,
            fresh: None,
        })
    }

    fn joined(self) -> Vec<Segment> {
        let mut pieces = self.pieces;
        let origin = self.entry.first_seq;
        pieces.sort_by_key(|piece| piece.seq - origin);
        let mut runs: Vec<Segment> = Vec::new();
        for piece in pieces {
            let run = runs
                .last_mut()
                .filter(|run| piece.seq.at_or_before(run.payload_end()));
            let Some(run) = run else {
                runs.push(piece);
                continue;
            };
            let known = usize::try_from(run.payload_end() - piece.seq).unwrap_or_default();
            if let Some(more) = piece.payload.get(known..).filter(|more| !more.is_empty()) {
                let payload = [&run.payload[..], more].concat();
                *run = Segment {
                    seq: run.seq,
                    payload: payload.into(),
                    ..piece
                };
            }
        }
        runs
    }

    pub(crate) fn until(&self) -> Duration {
        self.until
    }

    /// What it costs (bytes).
    pub(crate) fn cost(&self) -> usize {
        let cost = |piece: &Segment| piece.payload.len() + OVERHEAD;
        self.pieces.iter().map(cost).sum()
    }
}
