//! Moves frames between the two ends of a cut cable.

use std::os::fd::AsFd;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::judge::{Faults, Judge};
use super::line::Line;
use super::packet::PacketSocket;

/// Bytes under way in one direction: 25 ms at 5 Gbit/s.
const LINE_LIMIT: usize = 16 << 20;
/// Frames taken in one turn from one side, so that neither starves the other nor those that are due.
const TURN: usize = 64;

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
    let (mut first, mut second) = (PacketSocket::open(first)?, PacketSocket::open(second)?);
    let mut there = Direction::new(faults, seed);
    let mut back = Direction::new(faults, seed ^ 1);
    ready();
    loop {
        wait(
            &first,
            &second,
            earliest(there.line.next_due(), back.line.next_due()),
        )?;
        let moved = there
            .turn(&mut first, &second)
            .and_then(|()| back.turn(&mut second, &first));
        match moved {
            Ok(()) => {}
            Err(Errno::ENETDOWN | Errno::ENXIO | Errno::ENODEV) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

struct Direction {
    judge: Judge,
    line: Line,
}

impl Direction {
    fn new(faults: Faults, seed: u64) -> Self {
        Self {
            judge: Judge::new(faults, seed),
            line: Line::new(LINE_LIMIT),
        }
    }

    fn turn(&mut self, from: &mut PacketSocket, to: &PacketSocket) -> nix::Result<()> {
        let arrived = Instant::now();
        for _ in 0..TURN {
            let Some(frame) = from.receive()? else { break };
            let fate = self.judge.fate();
            for delay in [fate.first, fate.second].into_iter().flatten() {
                self.line.enter(frame, arrived + delay);
            }
        }
        let now = Instant::now();
        while let Some(frame) = self.line.leave(now) {
            to.send(&frame)?;
        }
        Ok(())
    }
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Until a frame arrives or one is due.
fn wait(first: &PacketSocket, second: &PacketSocket, due: Option<Instant>) -> nix::Result<()> {
    let mut ends = [
        PollFd::new(first.as_fd(), PollFlags::POLLIN),
        PollFd::new(second.as_fd(), PollFlags::POLLIN),
    ];
    let timeout =
        due.map(|due| TimeSpec::from_duration(due.saturating_duration_since(Instant::now())));
    match ppoll(&mut ends, timeout, None) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error),
    }
}
