//! 5.1: the proxy that owns a flow is lost in the middle of moving it to another server. The proxies' cables are tapped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::moments::{asked_once, small, soon};
use super::nodes::{PATIENCE, lose};
use crate::client::{Expected, Request};
use crate::cluster::{Lab, wait_until};
use crate::impair::frame::{datagram, destination};
use crate::impair::{Fate, Way};
use crate::report::Counts;
use crate::scenarios::SERVERS;

/// Where nodes hear each other, and kinds of messages (docs/wire.md).
const CLUSTER_PORT: u16 = 6950;
const BIND: u8 = 1;
const RELEASE_ANSWER: u8 = 4;

/// What never arrives before the cable is cut.
#[derive(Clone, Copy)]
pub(super) enum Lost {
    /// The old server has let go, and the proxy does not hear of it.
    ReleaseAnswer,
    /// The request on its way to the new server.
    Bind,
}

pub(super) fn cut(lab: &mut Lab, counts: &mut Counts, lost: Lost) -> anyhow::Result<String> {
    let (mut connection, owner) = asked_once(lab, counts)?;
    let seen = Arc::new(AtomicUsize::new(0));
    let sees = Arc::clone(&seen);
    let server = lab.hardware_address(SERVERS[1])?;
    let ruled = lab.tap(&owner)?.rule(move |way, frame| {
        let kind = *datagram(frame, CLUSTER_PORT)?.get(3)?;
        let hit = match lost {
            Lost::ReleaseAnswer => kind == RELEASE_ANSWER,
            Lost::Bind => kind == BIND && way == Way::FromHost && destination(frame)? == server,
        };
        hit.then(|| {
            sees.fetch_add(1, Ordering::Relaxed);
            Fate::LOST
        })
    });
    connection.send(&Request::new("GET", "/b/1KB"))?;
    wait_until("the move has come so far", PATIENCE, || {
        Ok(seen.load(Ordering::Relaxed) > 0)
    })?;
    lose(lab, &[&owner])?;
    let start = Instant::now();
    let file = lab.content.file("1KB")?;
    counts.check(connection.answer("GET"), &Expected::file(SERVERS[1], &file))?;
    let took = soon(start)?;
    for pool in [2, 0] {
        small(lab, counts, &mut connection, pool)?;
    }
    drop(ruled);
    Ok(format!(
        "{owner} was cut off in the middle of a move; answered after {took}"
    ))
}
