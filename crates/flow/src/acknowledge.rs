//! What is said to the client in its server's name: a part of a head is acknowledged, and then sent until a server has it; and that it may
//! acknowledge an answer without delay.

use baton_packet::{Flags, Segment, Seq, Timestamps};
use baton_wire::MAX_KEPT;
use bytes::Bytes;

use crate::pending::Pending;
use crate::transition::Transition;
use crate::{Action, Counter, Decide, Entry, PeerId};

/// What a client may send before a server says more (bytes); as in the SYN-ACK.
const PROMISED_WINDOW: u32 = 65535;
const HOP_LIMIT: u8 = 64;

/// What a keepalive probe carries (RFC 9293 3.8.4): a byte that the client has long acknowledged.
const GARBAGE: Bytes = Bytes::from_static(&[0]);

impl<D: Decide> Transition<'_, D> {
    /// Tells the client what has arrived of a head. That acknowledges what came before as well: a server that has the flow must be known to
    /// have all of it.
    pub(crate) fn give_receipt(&mut self, entry: &Entry, mut pending: Pending) -> Pending {
        if entry.bound.is_some() && !pending.receipt.is_safe {
            let question = Segment {
                flags: Flags::ACK,
                seq: pending.start,
                ack: entry.newest_ack,
                payload: Bytes::new(),
                ..pending.newest.clone()
            };
            self.ask_what_is_taken(entry, question);
            pending.receipt.asked(self.now.mono);
            return pending;
        }
        let end = pending.received();
        let successor = self.view.successor(&self.key);
        if let Some(to) = successor.filter(|_| pending.receipt.kept.before(end)) {
            let bytes = pending.contiguous();
            self.have_kept(to, entry, bytes, pending.receipt.kept, end);
            pending.receipt.asked(self.now.mono);
            return pending;
        }
        self.count(Counter::Acknowledged);
        pending.receipt.give(end);
        self.acknowledge(entry, &pending);
        pending
    }

    /// Another proxy keeps what is behind `from` of these bytes.
    fn have_kept(
        &mut self,
        to: PeerId,
        entry: &Entry,
        bytes: Option<Segment>,
        from: Seq,
        end: Seq,
    ) {
        let key = self.key;
        let newest = bytes.as_ref().map(|bytes| (bytes.window, bytes.timestamps));
        let (window, timestamps) = newest.unwrap_or((entry.window, None));
        let entry = Entry {
            window,
            newest_tsval: timestamps.map_or(entry.newest_tsval, |timestamps| timestamps.value),
            ..*entry
        };
        let (_, new) = bytes.map_or((None, None), |bytes| bytes.split_at(from));
        for segment in new.iter().flat_map(|new| new.split(MAX_KEPT)) {
            self.out.push(Action::Keep {
                to,
                key,
                entry,
                segment,
                end,
            });
        }
    }

    /// The successor has all before `end`.
    pub(crate) fn kept_there(&mut self, entry: &Entry, mut pending: Pending, end: Seq) -> Pending {
        if end.after(pending.received()) || !end.after(pending.receipt.kept) {
            return pending;
        }
        pending.receipt.is_kept(end);
        let is_due = pending.is_receipt_due(self.limits, self.now.mono);
        if is_due && pending.moving.is_none() && end.after(pending.receipt.end) {
            self.count(Counter::Acknowledged);
            let waits = pending.received().after(end);
            pending.receipt.give(end);
            if waits {
                pending.receipt.note(pending.received(), self.now.mono);
            }
            self.acknowledge(entry, &pending);
        }
        pending
    }

    /// The server that has the flow has all before `end`.
    pub(crate) fn taken(&mut self, entry: &Entry, mut pending: Pending, end: Seq) -> Pending {
        if end.at_or_after(pending.start) {
            pending.receipt.is_taken();
        }
        let is_due = pending.is_receipt_due(self.limits, self.now.mono);
        if pending.receipt.is_safe && is_due && pending.moving.is_none() {
            self.give_receipt(entry, pending)
        } else {
            pending
        }
    }

    /// Sends what is kept, if it is time.
    pub(crate) fn repeat(&mut self, entry: &Entry) {
        let now = self.now.mono;
        if let Some(kept) = self.kept.as_mut().filter(|kept| kept.is_due(now)) {
            let segment = kept.again(entry, now);
            if !entry.bound.is_some_and(|to| self.decide.is_out(to)) {
                self.count(Counter::Repeated);
                self.ask_what_is_taken(entry, segment);
            }
        }
    }

    pub(crate) fn acknowledge(&mut self, entry: &Entry, pending: &Pending) {
        let seq = match entry.bound {
            Some(_) => entry.newest_ack,
            None => entry.bind_ack,
        };
        self.say(entry, pending, seq, pending.receipt.end, Bytes::new());
    }

    /// A request waits until the client acknowledges the answer before it, and the client may delay that, for it has nothing more to say. A
    /// byte that it has already is answered at once (RFC 9293 3.10.7.4), and so is, by Linux, what arrives next (quick acknowledgements). An
    /// empty segment would do neither: Linux answers one in half a second (tcp_invalid_ratelimit).
    pub(crate) fn hurry(&mut self, entry: &Entry, pending: &Pending) {
        let seq = Seq(entry.newest_ack.0.wrapping_sub(1));
        // Only what is before the bind is sure to have arrived.
        self.say(entry, pending, seq, entry.bind_seq, GARBAGE);
    }

    fn say(&mut self, entry: &Entry, pending: &Pending, seq: Seq, ack: Seq, payload: Bytes) {
        let is_bound = entry.bound.is_some();
        // A server's clock may be behind ours by the time that its bind took, and what it sends must not seem old to the client (PAWS, RFC
        // 7323, section 5): while it sends, nothing newer than the client has seen. Whoever is bound later is later.
        let timestamps = pending.newest.timestamps.map(|newest| Timestamps {
            value: if is_bound {
                newest.echo
            } else {
                self.now.clock_ms
            },
            echo: newest.value,
        });
        let scale = entry
            .options
            .wscale
            .map_or(0, |_| self.limits.promised_wscale);
        let segment = Segment {
            seq,
            ack,
            flags: Flags::ACK,
            window: PROMISED_WINDOW.div_ceil(1 << scale) as u16,
            timestamps,
            traffic_class: 0,
            hop_limit: HOP_LIMIT,
            payload,
        };
        self.out.push(Action::Say {
            key: self.key,
            segment,
        });
    }

    /// Sends a segment behind a header that asks for the notice [`Taken`](baton_wire::What::Taken).
    fn ask_what_is_taken(&mut self, entry: &Entry, segment: Segment) {
        let Some(to) = entry.bound else { return };
        let mut header = entry.header(self.now.clock_ms, self.limits.promised_wscale);
        header.tell = true;
        self.out.push(Action::Bind {
            to,
            key: self.key,
            header,
            segment,
        });
    }
}
