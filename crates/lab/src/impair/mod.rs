//! Delay, loss, reordering and duplication on a cable, for kernels without netem: `judge` decides, `line` keeps frames until they are
//! due, `packet` moves them, `forward` puts the three together. `tap` lets a test decide instead, by what `frame` reads.

mod forward;
pub(crate) mod frame;
mod judge;
mod line;
mod packet;
mod tap;
#[cfg(test)]
mod tests;

pub(crate) use forward::{Way, forward};
pub(crate) use judge::{Fate, Faults};
pub(crate) use packet::PacketSocket;
pub(crate) use tap::{Ruled, Tap};
