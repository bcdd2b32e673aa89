//! Moves frames between the two ends of a cut cable.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::judge::{Fate, Faults, Judge};
use super::line::Line;
use super::packet::PacketSocket;

/// Bytes under way in one direction: 25 ms at 5 Gbit/s.
const LINE_LIMIT: usize = 16 << 20;
/// Frames taken in one turn from one side, so that neither starves the other nor those that are due.
const TURN: usize = 64;
/// The forwarder looks this often whether it is to stop.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// Where a frame is going on the cable of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    FromHost,
    ToHost,
}

/// Forwards between two interfaces of this thread's network namespace for as long as both are there; calls `ready` when it has begun.
///
/// # Errors
/// When an interface is missing or privileges are.
pub(crate) fn forward(
    first: &str,
    second: &str,
    faults: Faults,
    seed: u64,
    ready: impl FnOnce(),
) -> anyhow::Result<()> {
    let ends = [PacketSocket::open(first)?, PacketSocket::open(second)?];
    let mut fate = fates(faults, seed);
    ready();
    forward_by(ends, || false, |way, _| fate(way))
}

/// What faults make of frames, each direction by itself.
pub(super) fn fates(faults: Faults, seed: u64) -> impl FnMut(Way) -> Fate {
    let (mut there, mut back) = (Judge::new(faults, seed), Judge::new(faults, seed ^ 1));
    move |way| match way {
        Way::FromHost => there.fate(),
        Way::ToHost => back.fate(),
    }
}

/// Forwards between the host's end of a cable and the other one until `stopped`, or until an interface is gone.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn forward_by(
    ends: [PacketSocket; 2],
    stopped: impl Fn() -> bool,
    mut fate: impl FnMut(Way, &[u8]) -> Fate,
) -> anyhow::Result<()> {
    let [mut host, mut other] = ends;
    let (mut there, mut back) = (Line::new(LINE_LIMIT), Line::new(LINE_LIMIT));
    while !stopped() {
        wait(&host, &other, earliest(there.next_due(), back.next_due()))?;
        let moved = turn(&mut there, &mut host, &other, |frame| {
            fate(Way::FromHost, frame)
        })
        .and_then(|()| {
            turn(&mut back, &mut other, &host, |frame| {
                fate(Way::ToHost, frame)
            })
        });
        match moved {
            Ok(()) => {}
            Err(Errno::ENETDOWN | Errno::ENXIO | Errno::ENODEV) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn turn(
    line: &mut Line,
    from: &mut PacketSocket,
    to: &PacketSocket,
    mut fate: impl FnMut(&[u8]) -> Fate,
) -> nix::Result<()> {
    let arrived = Instant::now();
    for _ in 0..TURN {
        let Some(frame) = from.receive()? else { break };
        let fate = fate(frame);
        for delay in [fate.first, fate.second].into_iter().flatten() {
            line.enter(frame, arrived + delay);
        }
    }
    let now = Instant::now();
    while let Some(frame) = line.leave(now) {
        to.send(&frame)?;
    }
    Ok(())
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Until a frame arrives or one is due, but not for long.
fn wait(first: &PacketSocket, second: &PacketSocket, due: Option<Instant>) -> nix::Result<()> {
    let mut ends = [
        PollFd::new(first.as_fd(), PollFlags::POLLIN),
        PollFd::new(second.as_fd(), PollFlags::POLLIN),
    ];
    let wait = due.map_or(LONGEST_WAIT, |due| {
        due.saturating_duration_since(Instant::now())
            .min(LONGEST_WAIT)
    });
    match ppoll(&mut ends, Some(TimeSpec::from_duration(wait)), None) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error),
    }
}
