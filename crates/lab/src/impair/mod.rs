//! Delay, loss, reordering and duplication on a cable, for kernels without netem: `judge` decides, `line` keeps frames until they are
//! due, `packet` moves them, `forward` puts the three together.

mod forward;
mod judge;
mod line;
mod packet;
#[cfg(test)]
mod tests;

pub(crate) use forward::forward;
pub(crate) use judge::Faults;
pub(crate) use packet::PacketSocket;
