//! Weighted random: a server's probability is its weight over the sum of the weights.

use rand::{Rng, RngExt};

use crate::pool::{Member, ServerId};

/// One of the members that are not excluded.
pub(crate) fn choose(
    members: &[Member],
    excluded: impl Fn(ServerId) -> bool,
    rng: &mut impl Rng,
) -> Option<ServerId> {
    let eligible = || members.iter().filter(|member| !excluded(member.server));
    let total: u32 = eligible().map(|member| member.weight).sum();
    if total == 0 {
        return None;
    }
    let mut ticket = rng.random_range(0..total);
    let mut chosen = None;
    // The last one stays chosen when another was excluded since the sum was taken.
    for member in eligible() {
        chosen = Some(member.server);
        match ticket.checked_sub(member.weight) {
            Some(rest) => ticket = rest,
            None => break,
        }
    }
    chosen
}
