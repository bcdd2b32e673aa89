//! `[balancer]`: options of the role.

use baton_kernel::Mode;

use super::reader::Section;
use super::values::{integer, one_of};

/// Options of the balancer role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalancerOptions {
    /// Which proxy gets a packet.
    pub mode: Mode,
    /// Packets to one proxy before the next, in mode batch.
    pub batch_packets: u32,
}

impl Default for BalancerOptions {
    fn default() -> Self {
        Self {
            mode: Mode::Flow,
            batch_packets: 40,
        }
    }
}

/// What the file calls the modes.
const MODES: [(&str, Mode); 3] = [
    ("flow", Mode::Flow),
    ("batch", Mode::Batch),
    ("random", Mode::Random),
];

pub(super) fn read(mut section: Section<'_>) -> BalancerOptions {
    let default = BalancerOptions::default();
    BalancerOptions {
        mode: section.or("mode", default.mode, one_of(&MODES)),
        batch_packets: section.or("batch_packets", default.batch_packets, integer(1..=1 << 20)),
    }
}
