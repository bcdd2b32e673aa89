//! What must be true of everything that the owner does because of one event.

use std::collections::{HashMap, HashSet};

use baton_flow::{Action, Entry, Event, ServerId, Target};
use baton_packet::{BodyLength, Flags, FlowKey, Parsed, RequestHead, Segment};
use baton_wire::{Bind, Outcome, What};

use super::stream::Stream;

/// More than any one event can call for.
const MAX_ACTIONS: usize = 400;

/// What the event allows, by the table as it was.
#[derive(Default)]
pub(super) struct Before {
    /// A flow that may leave its server.
    freed: Option<FlowKey>,
    /// Its server must be told, for it was not asked.
    forced: Option<Entry>,
}

impl Before {
    pub(super) fn new(event: &Event, table: &HashMap<FlowKey, Entry>) -> Before {
        let key = match event {
            Event::Segment { key, .. } | Event::Lost { key, .. } => key,
            Event::Answer(answer) => &answer.key,
            Event::Truth { truth, .. } => &truth.key,
            Event::Keep { key, .. } | Event::Kept { key, .. } => key,
            Event::Notice(notice) => &notice.key,
        };
        let Some(entry) = table.get(key) else {
            return Before::default();
        };
        let is_bind = |epoch, seq| (epoch, seq) == (entry.epoch, entry.bind_seq);
        let mut forced = None;
        let freed = match event {
            Event::Segment { segment, fresh, .. } => {
                let is_first = (segment.seq, segment.ack) == (entry.first_seq, entry.first_ack);
                let is_new = fresh.is_some()
                    && (segment.seq, segment.ack) != (entry.bind_seq, entry.bind_ack);
                let begins = is_new && is_data(segment) && !(entry.reset && is_first);
                if begins && !entry.closing {
                    forced = Some(*entry);
                }
                begins
            }
            Event::Answer(answer) => {
                matches!(answer.outcome, Outcome::Released { .. })
                    && is_bind(answer.epoch, answer.seq)
                    && answer.boundary == entry.boundary
                    && !entry.pinned
            }
            Event::Notice(notice) => {
                matches!(notice.what, What::Refused { .. })
                    && is_bind(notice.epoch, notice.seq)
                    && !entry.newest_ack.after(entry.bind_ack)
            }
            Event::Lost { .. } | Event::Truth { .. } | Event::Keep { .. } | Event::Kept { .. } => {
                false
            }
        };
        Before {
            freed: freed.then_some(*key),
            forced,
        }
    }
}

/// What servers have made possible.
pub(super) struct Allowed<'a> {
    /// Binds whose server has said that it closes: it gets the next request whatever that is, as on a direct connection.
    pub(super) closed: &'a HashSet<(FlowKey, u32)>,
    /// Their flows may leave them.
    pub(super) out: &'a HashSet<ServerId>,
}

/// Checks the actions in their order, and carries out what concerns the table.
pub(super) fn check(
    before: &mut Before,
    actions: &[Action],
    table: &mut HashMap<FlowKey, Entry>,
    stream: &Stream,
    allowed: &Allowed<'_>,
) {
    assert!(actions.len() <= MAX_ACTIONS, "{} actions", actions.len());
    let old = table.clone();
    let mut reset = None;
    for action in actions {
        match action {
            Action::Put(key, entry) => {
                if let Some(old) = table.insert(*key, *entry) {
                    let is_out = |server: ServerId| allowed.out.contains(&server);
                    let lost = matches!(old.bound, Some(Target::Server(server)) if is_out(server));
                    let free = lost || [before.freed, reset].contains(&Some(*key));
                    may_become(free, &old, entry);
                }
                is_at_a_request(entry, stream);
            }
            Action::Reset { key, .. } => reset = Some(*key),
            Action::Bind { .. } | Action::Forward { .. } => {}
            Action::Release { to, request } => {
                let names = |entry: &Entry| {
                    entry.bound == Some(Target::Server(*to))
                        && (entry.epoch, entry.bind_seq) == (request.epoch, request.seq)
                };
                if before.forced.as_ref().is_some_and(names) && request.force {
                    before.forced = None;
                    continue;
                }
                let entry = table.get(&request.key).copied();
                assert!(entry.as_ref().is_some_and(names), "{request:?}: {entry:?}");
                assert!(!request.force);
            }
            Action::Learn(lesson) => assert!(is_one_request(&lesson.request), "{lesson:?}"),
            Action::Say { key, segment } => {
                let old = segment.payload.is_empty()
                    || table
                        .get(key)
                        .is_some_and(|entry| segment.payload_end() == entry.newest_ack);
                assert!(old, "the client is sent nothing new");
            }
            Action::Ask { .. }
            | Action::Pass { .. }
            | Action::Keep { .. }
            | Action::Kept { .. }
            | Action::Count(_) => {}
        }
    }
    let told = before
        .forced
        .is_none_or(|entry| !matches!(entry.bound, Some(Target::Server(_))));
    assert!(told, "the old server of a new flow was not told");

    // What is sent to a server is for the state before or after, whichever was written first.
    for action in actions {
        let (key, to, header, segment) = match action {
            Action::Bind {
                to,
                key,
                header,
                segment,
            } => (key, *to, Some(header), segment),
            Action::Forward { to, key, segment } => (key, *to, None, segment),
            _ => continue,
        };
        let states = states(&old, actions, key);
        let fits = |entry: &&Entry| {
            entry.bound == Some(to) && header.is_none_or(|header| announces(header, entry))
        };
        let entry = states.iter().rev().find(fits);
        let entry = entry.unwrap_or_else(|| panic!("{action:?} for {states:?}"));
        is_of_the_stream(segment, stream);
        if let Target::Server(server) = to
            && !segment.payload.is_empty()
            && is_data(segment)
            && !allowed.closed.contains(&(*key, entry.epoch))
        {
            is_for(server, entry, segment, stream);
        }
    }
}

/// All that the table has said of a flow during this event.
fn states(old: &HashMap<FlowKey, Entry>, actions: &[Action], key: &FlowKey) -> Vec<Entry> {
    let put = actions.iter().filter_map(|action| match action {
        Action::Put(of, entry) if of == key => Some(*entry),
        _ => None,
    });
    old.get(key).copied().into_iter().chain(put).collect()
}

/// A bind stays until the flow is free, and a later one is newer.
fn may_become(free: bool, old: &Entry, new: &Entry) {
    let bind = |entry: &Entry| (entry.bound, entry.epoch, entry.bind_seq, entry.bind_ack);
    if old.bound.is_some() && bind(old) != bind(new) {
        assert!(free, "{old:?} became {new:?}");
    }
    assert!(free || old.reset == new.reset, "{old:?} became {new:?}");
    if new.bound.is_some() && old.epoch != 0 && bind(old) != bind(new) {
        assert!(new.epoch.wrapping_sub(old.epoch) as i32 > 0, "an old epoch");
    }
    let pinned_for_ever = !free && old.pinned && bind(old) == bind(new);
    assert!(!pinned_for_ever || new.pinned, "pinned no more");
}

/// Nothing is parsed but at the beginning of a request.
fn is_at_a_request(entry: &Entry, stream: &Stream) {
    let next = match entry.bound {
        _ if entry.pinned || entry.reset => return,
        Some(_) => entry.boundary,
        None => entry.bind_seq,
    };
    let place = stream.place(next);
    let begins = stream
        .requests
        .iter()
        .any(|(at, _)| isize::try_from(*at) == Ok(place));
    assert!(begins, "{place} is no beginning of a request");
}

fn announces(header: &Bind, entry: &Entry) -> bool {
    (header.epoch, header.seq, header.ack) == (entry.epoch, entry.bind_seq, entry.bind_ack)
        && (header.boundary, header.requests) == (entry.boundary, entry.requests)
        && (header.pinned, header.bodiless) == (entry.pinned, entry.bodiless)
}

/// The client's own bytes.
fn is_of_the_stream(segment: &Segment, stream: &Stream) {
    let place = stream.place(segment.seq) as usize;
    let own = stream.bytes(place, segment.payload.len());
    assert_eq!(segment.payload, own, "at {place}");
}

/// No request goes to a server that it does not route to.
fn is_for(server: ServerId, entry: &Entry, segment: &Segment, stream: &Stream) {
    let (begin, end) = (segment.seq.latest(entry.bind_seq), segment.payload_end());
    if end.at_or_before(begin) {
        return;
    }
    assert!(entry.pinned || end.at_or_before(entry.boundary), "beyond");
    let place = stream.place(begin) as usize;
    let places = place..place + (end - begin) as usize;
    for (at, pool) in &stream.requests {
        if places.contains(at) {
            let own = Some(server.0 % 10);
            assert_eq!(*pool, own, "at {at}: {segment:?} for {entry:?}");
        }
    }
}

/// Whether a server reads what is in it.
fn is_data(segment: &Segment) -> bool {
    segment.flags.contains(Flags::ACK) && !segment.flags.intersects(Flags::SYN | Flags::RST)
}

/// Whether these are the bytes of one request, no more and no less.
fn is_one_request(bytes: &[u8]) -> bool {
    match RequestHead::parse(bytes) {
        Ok(Parsed::Complete(head)) => match head.body {
            BodyLength::Length(length) => head.head_len as u64 + length == bytes.len() as u64,
            BodyLength::Chunked | BodyLength::Tunnel => false,
        },
        _ => false,
    }
}
