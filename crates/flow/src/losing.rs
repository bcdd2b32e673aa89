//! A server is out, and with it the flows that it has: their clients are reset, but for those of which nothing was answered and that may be
//! asked again (H8, H9).

use std::time::Duration;

use baton_packet::{Flags, Segment, Seq, Timestamps};
use baton_policy::ServerId;
use bytes::Bytes;

use crate::binding::UNKNOWN_RTT_MS;
use crate::pending::Pending;
use crate::requests::{Found, is_idempotent, read};
use crate::transition::Transition;
use crate::{Action, Counter, Decide, Entry, Target};

/// What the client has is looked up in its entry, soon first, then less often.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const LONGEST_LOOK: Duration = Duration::from_millis(100);

/// Linux answers no more than one such segment in half a second (tcp_invalid_ratelimit).
const AGAIN: Duration = Duration::from_millis(600);

/// A client that says nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// A window of 64 KiB, in the promised scale of 2^10.
const WINDOW: u16 = 64;

/// The client is asked what it has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    since: Duration,
    sent: Duration,
    look_at: Duration,
    pause: Duration,
}

impl Probe {
    pub(crate) fn deadline(&self) -> Duration {
        self.look_at
    }
}

impl<D: Decide> Transition<'_, D> {
    /// The server that has the flow is out.
    pub(crate) fn lost(
        &mut self,
        entry: Option<Entry>,
        pending: Option<Pending>,
        server: ServerId,
    ) -> Option<Pending> {
        let Some(entry) = entry.filter(|entry| entry.bound == Some(Target::Server(server))) else {
            return pending;
        };
        if pending
            .as_ref()
            .is_some_and(|pending| pending.probe.is_some())
        {
            return pending;
        }
        self.count(Counter::ServerLost);
        // A part of the next request that the client will not send again could not follow this one.
        let is_promised = pending.as_ref().is_some_and(Pending::is_promised);
        let is_kept = self.only_request(&entry).is_some();
        if is_promised || !is_kept || !self.owed.has_room() {
            return self.lose(&entry, server);
        }
        let now = self.now.mono;
        self.probe(&entry);
        let mut pending = Pending::new(&entry, now);
        pending.probe = Some(Probe {
            since: now,
            sent: now,
            look_at: now + FIRST_LOOK,
            pause: FIRST_LOOK,
        });
        Some(pending)
    }

    /// It is time to see whether the client has said what it has.
    pub(crate) fn look(
        &mut self,
        entry: &Entry,
        mut pending: Pending,
        mut probe: Probe,
    ) -> Option<Pending> {
        let now = self.now.mono;
        let Some(Target::Server(server)) = entry.bound else {
            return None;
        };
        if !self.decide.is_out(Target::Server(server)) {
            // It is heard again, and has the flow: it was never asked to let go.
            return None;
        }
        if entry.seen > probe.since {
            return self.ask_another(entry, server);
        }
        if now >= probe.since + PATIENCE {
            return self.lose(entry, server);
        }
        if now >= probe.sent + AGAIN {
            self.probe(entry);
            probe.sent = now;
        }
        probe.pause = (2 * probe.pause).min(LONGEST_LOOK);
        probe.look_at = now + probe.pause;
        pending.probe = Some(probe);
        Some(pending)
    }

    /// The client has said that nothing of an answer arrived: another server gets the request.
    fn ask_another(&mut self, entry: &Entry, server: ServerId) -> Option<Pending> {
        let free = entry.undecided_at(entry.bind_seq, entry.bind_ack);
        let mut again = Pending::new(&free, self.now.mono);
        let request = self.only_request(entry);
        let end = request.as_ref().map(Segment::payload_end);
        let taken = request
            .is_some_and(|request| again.take_in(&request, self.room, self.now.mono).is_ok());
        if !taken || !self.owed.has_room() {
            return self.lose(entry, server);
        }
        self.count(Counter::AskedAnother);
        self.owed.add(server, self.request(entry, true));
        self.out.push(Action::Put(self.key, free));
        again.catch_up(entry);
        again.excluded.push(server);
        // The server may have acknowledged all of it.
        self.kept = None;
        if let Some(end) = end {
            again.receipt.give(end);
        }
        self.advance(free, again)
    }

    /// The request, if it is all that the server was asked, may be asked again, and nothing of an answer has arrived.
    fn only_request(&self, entry: &Entry) -> Option<Segment> {
        let bound_here = self.unanswered.request(&self.key, entry).cloned();
        bound_here.or_else(|| self.bound_by_kernel(entry))
    }

    /// The same of a request that the kernel has bound by itself: only the table knows its bytes. What is not known of the segment any more is
    /// made up as for a client of which nothing is known.
    fn bound_by_kernel(&self, entry: &Entry) -> Option<Segment> {
        if entry.known == 0 || entry.requests != 1 || entry.is_adopted() {
            return None;
        }
        let payload = self.table.recall(entry.known)?;
        let is_all = entry.bind_seq + payload.len() as u32 == entry.boundary;
        let may_be_repeated =
            matches!(read(&payload, payload.len()), Found::Head(head) if is_idempotent(&head));
        (is_all && may_be_repeated).then(|| Segment {
            seq: entry.bind_seq,
            ack: entry.bind_ack,
            flags: Flags::ACK | Flags::PSH,
            window: entry.window,
            timestamps: entry.options.timestamps.then_some(Timestamps {
                value: entry.newest_tsval,
                echo: self.now.clock_ms.wrapping_sub(UNKNOWN_RTT_MS as u32),
            }),
            traffic_class: 0,
            hop_limit: 64,
            payload,
        })
    }

    fn lose(&mut self, entry: &Entry, server: ServerId) -> Option<Pending> {
        self.owed.add(server, self.request(entry, true));
        self.unanswered.forget(&self.key);
        let pending = self.reset(entry);
        // The client may have more than its newest packet said: then it takes no notice of the reset. Its answer to this meets another one.
        self.probe(entry);
        pending
    }

    /// An empty segment from before what the client expects: it answers with what it has (RFC 9293 3.10.7.4).
    fn probe(&mut self, entry: &Entry) {
        let timestamps = entry.options.timestamps.then_some(Timestamps {
            value: self.now.clock_ms,
            echo: entry.newest_tsval,
        });
        let segment = Segment {
            seq: Seq(entry.newest_ack.0.wrapping_sub(1)),
            ack: entry.boundary,
            flags: Flags::ACK,
            window: WINDOW,
            timestamps,
            traffic_class: 0,
            hop_limit: 64,
            payload: Bytes::new(),
        };
        self.out.push(Action::Say {
            key: self.key,
            segment,
        });
    }
}
