//! What another proxy may have decided meanwhile is asked of those that serve flows: they know (H4).

use std::time::Duration;

use baton_packet::{Flags, FlowKey, Segment, Seq};
use baton_wire::{Ask, Fate, Known, Truth};

use crate::copy::Copy;
use crate::owner::OVERHEAD;
use crate::{Action, ClientOptions, Counter, Decide, Entry, Limits, Now, Target};

/// First pause before those that have not answered are asked again, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(160);

/// Segments of a flow that wait for the answer; its client sends more of them again.
const MAX_WAITING: usize = 32;

/// An acknowledgement that does not come (bytes ahead).
const NEVER: u32 = 0x7fff_ffff;

/// Binds of one connection are no farther apart.
const APART: i32 = 1 << 30;

/// What is not known of a client whose agent has forgotten its flow; nothing is bound by it.
const LEAST_MSS: u16 = 536;

/// A flow that those are asked about that may have it.
#[derive(Debug)]
pub(crate) struct Question {
    nonce: u32,
    since: Duration,
    again_at: Duration,
    pause: Duration,
    /// By the entry this one has it: the others are asked if it has not.
    first: Option<Target>,
    answers: Vec<(Target, Fate)>,
    pub(crate) waiting: Vec<Waiting>,
    /// What another proxy knew of the flow.
    pub(crate) copied: Option<Entry>,
    /// The client was told that all before this has arrived.
    pub(crate) promise: Option<Seq>,
}

/// A segment that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) vip: u16,
    pub(crate) segment: Segment,
    pub(crate) fresh: Option<ClientOptions>,
}

/// What is known of a flow when all have answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This is true.
    Is(Entry),
    /// Nobody knows it.
    Unknown,
    /// Nobody knows it any more, and its client has a part of an answer.
    Lost,
}

impl Question {
    /// Nobody was asked yet. `number`: of this question.
    pub(crate) fn new(now: Now, number: u32, first: Option<Target>) -> Question {
        Question {
            // Another one after each start, and for each question.
            nonce: (now.mono.as_micros() as u32).wrapping_add(number),
            since: now.mono,
            again_at: now.mono,
            pause: FIRST_PAUSE,
            first,
            answers: Vec::new(),
            waiting: Vec::new(),
            copied: None,
            promise: None,
        }
    }

    /// What was kept for the proxy that decided before goes first.
    pub(crate) fn take_over(&mut self, copy: Copy) {
        self.copied = Some(copy.entry);
        self.promise = Some(copy.end);
        self.waiting.splice(0..0, copy.waiting());
    }

    /// What was answered may not be true any more: somebody else may have decided.
    pub(crate) fn restart(&mut self, number: u32) {
        self.nonce = self.nonce.wrapping_add(number);
        self.again_at = Duration::ZERO;
        self.pause = FIRST_PAUSE;
        self.answers.clear();
    }

    /// One more segment waits, if there is room; `room`: what all of them may cost.
    pub(crate) fn wait(&mut self, waiting: Waiting, room: usize) -> bool {
        let fits = self.waiting.len() < MAX_WAITING
            && self.cost() + waiting.segment.payload.len() + OVERHEAD <= room;
        if fits {
            self.waiting.push(waiting);
        }
        fits
    }

    /// What the segments cost (bytes).
    pub(crate) fn cost(&self) -> usize {
        let cost = |waiting: &Waiting| waiting.segment.payload.len() + OVERHEAD;
        self.waiting.iter().map(cost).sum()
    }

    /// Somebody answers. Whether this was asked.
    pub(crate) fn hear(&mut self, from: Target, truth: &Truth) -> bool {
        let is_asked = truth.nonce == self.nonce && self.answer_of(from).is_none();
        if is_asked {
            self.answers.push((from, truth.fate));
        }
        is_asked
    }

    /// Whether anybody has answered.
    pub(crate) fn was_asked(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Asks whoever has to be asked. `true`: nobody is left who could answer.
    pub(crate) fn ask(
        &mut self,
        key: FlowKey,
        entry: Option<&Entry>,
        now: Duration,
        decide: &impl Decide,
        out: &mut Vec<Action>,
    ) -> bool {
        let mut widened = false;
        if let Some(first) = self.first {
            match self.answer_of(first) {
                Some(fate) if is_final(fate, entry) => return true,
                None if !decide.is_out(first) => {}
                _ => {
                    self.first = None;
                    self.pause = FIRST_PAUSE;
                    widened = true;
                }
            }
        }
        let all = self
            .first
            .map_or_else(|| decide.holders(), |first| vec![first]);
        let left = all.into_iter().filter(|to| self.answer_of(*to).is_none());
        let left: Vec<_> = left.collect();
        if left.is_empty() {
            return true;
        }
        if widened || now >= self.again_at {
            self.again_at = now + self.pause;
            self.pause = (2 * self.pause).min(LONGEST_PAUSE);
            let nonce = self.nonce;
            for to in left {
                out.push(Action::Count(Counter::Asked));
                let ask = Ask { key, nonce };
                out.push(Action::Ask { to, ask });
            }
        }
        false
    }

    /// Whether it was asked for too long.
    pub(crate) fn is_lost(&self, limits: &Limits, now: Duration) -> bool {
        now >= self.since + limits.release_timeout
    }

    pub(crate) fn deadline(&self, limits: &Limits) -> Duration {
        self.again_at.min(self.since + limits.release_timeout)
    }

    fn answer_of(&self, holder: Target) -> Option<&Fate> {
        let mut answers = self.answers.iter();
        answers
            .find(|(from, _)| *from == holder)
            .map(|(_, fate)| fate)
    }

    /// What follows from the answers. Segments of the flow that cannot be any more do not wait any more; first ones of a connection that was known
    /// are no first ones.
    pub(crate) fn conclude(&mut self, entry: Option<&Entry>, decide: &impl Decide) -> Verdict {
        let copied = self.copied;
        let entry = entry.or(copied.as_ref());
        let Some((holder, fate)) = self.newest() else {
            return self.of_the_unknown(entry, decide);
        };
        let Some(known) = known(&fate) else {
            let is_there = entry.copied().or_else(|| self.guess(holder));
            return is_there.map_or(Verdict::Unknown, |entry| {
                Verdict::Is(Entry {
                    bound: Some(holder),
                    pinned: true,
                    confirmed: true,
                    reset: false,
                    ..entry
                })
            });
        };
        for waiting in &mut self.waiting {
            let is_one = is_same_connection(&waiting.segment, &known);
            waiting.fresh = waiting.fresh.filter(|_| !is_one);
        }
        let is_new = self.waiting.iter().any(|waiting| waiting.fresh.is_some());
        if !is_new {
            let possible = |waiting: &Waiting| !waiting.segment.ack.after(known.next);
            self.waiting.retain(possible);
        }
        let same = entry.filter(|entry| {
            let bind = (entry.bound, entry.epoch, entry.bind_seq);
            bind == (Some(holder), known.epoch, known.seq)
        });
        // What the entry says beyond that is on its way, or is to be sent again.
        let says_as_much = |entry: &&Entry| match entry.requests.wrapping_sub(known.requests) as i32
        {
            0 => entry.boundary == known.boundary,
            ahead => ahead > 0,
        };
        match fate {
            Fate::Released(_) => {
                let is_bound_again = |entry: &&Entry| {
                    let ahead = Seq(entry.epoch).after(Seq(known.epoch));
                    let there = (entry.bind_seq, entry.bind_ack) == (known.boundary, known.next);
                    ahead && there && entry.bound.is_some() && !entry.is_adopted()
                };
                if let Some(entry) = entry.filter(is_bound_again) {
                    return Verdict::Is(*entry);
                }
                let old = self.entry(holder, &known, entry);
                let free = |old: Entry| old.undecided_at(known.boundary, known.next);
                old.map_or(Verdict::Unknown, |old| Verdict::Is(free(old)))
            }
            Fate::Ended(_) if is_new => Verdict::Unknown,
            _ => {
                let closing = matches!(fate, Fate::Ended(_));
                let is = match same.filter(says_as_much) {
                    Some(entry) => Some(*entry),
                    None => self.entry(holder, &known, entry),
                };
                is.map_or(Verdict::Unknown, |entry| {
                    Verdict::Is(Entry {
                        closing: closing || same.is_some_and(|same| same.closing),
                        newest_ack: self.newest_ack(&entry, &known),
                        ..entry
                    })
                })
            }
        }
    }

    /// The newest of all: a flow is at most at one server, and each bind has a higher number than the one before. A socket whose agent has
    /// forgotten all is newer than what another one has let go of.
    fn newest(&self) -> Option<(Target, Fate)> {
        let rank = |fate: &Fate| match fate {
            Fate::Unknown => None,
            Fate::Released(known) => Some((0, known.epoch)),
            Fate::Ended(known) => Some((1, known.epoch)),
            Fate::Forgotten => Some((2, 0)),
            Fate::Held(known) => Some((3, known.epoch)),
        };
        let mut newest: Option<(Target, Fate)> = None;
        for (holder, fate) in &self.answers {
            let Some((stage, epoch)) = rank(fate) else {
                continue;
            };
            let is_newer = newest.is_none_or(|(_, best)| {
                let (best_stage, best_epoch) = rank(&best).unwrap_or_default();
                match Seq(epoch) - Seq(best_epoch) {
                    _ if stage == 2 => best_stage < 2,
                    _ if best_stage == 2 => stage == 3,
                    0 => stage > best_stage,
                    ahead => ahead > 0,
                }
            });
            if is_newer {
                newest = Some((*holder, *fate));
            }
        }
        newest
    }

    /// Nobody has it.
    fn of_the_unknown(&self, entry: Option<&Entry>, decide: &impl Decide) -> Verdict {
        match entry {
            None => Verdict::Unknown,
            // Its server is out, and was not asked.
            Some(entry) if entry.bound.is_some_and(|holder| decide.is_out(holder)) => {
                Verdict::Is(*entry)
            }
            Some(entry) if entry.is_adopted() => Verdict::Lost,
            // The bind is on its way, or lost: it is made again, or it is still to be made.
            Some(entry) => Verdict::Is(*entry),
        }
    }

    /// The entry of a flow that somebody knows.
    fn entry(&self, holder: Target, known: &Known, entry: Option<&Entry>) -> Option<Entry> {
        let old = entry.copied().or_else(|| self.guess(holder))?;
        let is_other = entry.is_none() || old.epoch != known.epoch;
        Some(Entry {
            bound: Some(holder),
            pinned: known.pinned,
            confirmed: true,
            reused: false,
            reset: false,
            epoch: known.epoch,
            boundary: known.boundary,
            bind_seq: known.seq,
            bind_ack: known.ack,
            unconfirmed: known.boundary,
            header_end: known.boundary,
            header_ack: known.ack + NEVER,
            requests: known.requests,
            bodiless: known.bodiless,
            newest_ack: if is_other { known.ack } else { old.newest_ack },
            options: ClientOptions {
                mss: known.mss,
                wscale: known.scales.map(|scales| scales.client),
                sack: known.sack,
                timestamps: known.timestamps,
            },
            first_seq: if entry.is_none() {
                known.seq
            } else {
                old.first_seq
            },
            first_ack: if entry.is_none() {
                known.ack
            } else {
                old.first_ack
            },
            // Bytes are here, or may be.
            claimed: true,
            known: 0,
            ..old
        })
    }

    /// What the client has, by what waits: at most what its server has sent.
    fn newest_ack(&self, entry: &Entry, known: &Known) -> Seq {
        let of_it = |waiting: &&Waiting| waiting.fresh.is_none();
        let acks = self.waiting.iter().filter(of_it).map(|w| w.segment.ack);
        let possible = acks.filter(|ack| !ack.after(known.next) && ack.after(entry.newest_ack));
        possible.fold(entry.newest_ack, Seq::latest)
    }

    /// What a segment says of its flow.
    fn guess(&self, holder: Target) -> Option<Entry> {
        let Waiting {
            vip,
            segment,
            fresh,
        } = self.waiting.first()?;
        let options = fresh.unwrap_or(ClientOptions {
            mss: LEAST_MSS,
            wscale: None,
            sack: false,
            timestamps: segment.timestamps.is_some(),
        });
        Some(Entry {
            bound: Some(holder),
            pinned: true,
            confirmed: true,
            reused: false,
            closing: segment.flags.contains(Flags::FIN),
            reset: false,
            epoch: 0,
            boundary: segment.seq,
            bind_seq: segment.seq,
            bind_ack: segment.ack,
            unconfirmed: segment.seq,
            header_end: segment.seq,
            header_ack: segment.ack + NEVER,
            requests: 0,
            bodiless: 0,
            newest_ack: segment.ack,
            newest_tsval: segment.timestamps.map_or(0, |timestamps| timestamps.value),
            min_rtt_ms: None,
            window: segment.window,
            options,
            vip: *vip,
            first_seq: segment.seq,
            first_ack: segment.ack,
            seen: self.since,
            claimed: false,
            known: 0,
            term: 0,
        })
    }
}

/// Whether nobody else need be asked: this is the flow's newest bind.
fn is_final(fate: &Fate, entry: Option<&Entry>) -> bool {
    let is_newest =
        |known: &Known| entry.is_none_or(|entry| Seq(known.epoch).at_or_after(Seq(entry.epoch)));
    match fate {
        Fate::Held(known) | Fate::Ended(known) => is_newest(known),
        Fate::Unknown | Fate::Released(_) | Fate::Forgotten => false,
    }
}

fn known(fate: &Fate) -> Option<Known> {
    match fate {
        Fate::Held(known) | Fate::Released(known) | Fate::Ended(known) => Some(*known),
        Fate::Unknown | Fate::Forgotten => None,
    }
}

/// Whether a first segment began the connection that is known, and does not come from a new one on the same addresses.
fn is_same_connection(first: &Segment, known: &Known) -> bool {
    let is_before = |first: Seq, bind: Seq| (0..APART).contains(&(bind - first));
    is_before(first.seq, known.seq) && is_before(first.ack, known.ack)
}
