//! Smooth weighted round robin, as in nginx: over as many choices as the sum of the weights each server gets exactly
//! its weight, and the turns of a heavy server are spread over the cycle instead of coming in a row.

use std::sync::{Mutex, PoisonError};

use crate::pool::{Member, ServerId};

/// The credit of each member: it grows by the member's weight with each choice, and who is chosen pays for all.
#[derive(Debug)]
pub(crate) struct WeightedRoundRobin {
    credits: Mutex<Box<[i64]>>,
}

impl WeightedRoundRobin {
    pub(crate) fn new(members: usize) -> Self {
        Self {
            credits: Mutex::new(vec![0; members].into()),
        }
    }

    /// The member with the most credit among those that are not excluded; the first of equals.
    pub(crate) fn choose(
        &self,
        members: &[Member],
        excluded: impl Fn(ServerId) -> bool,
    ) -> Option<ServerId> {
        let mut credits = self.credits.lock().unwrap_or_else(PoisonError::into_inner);
        let mut total = 0;
        let mut richest: Option<(i64, usize)> = None;
        for (at, member) in members
            .iter()
            .enumerate()
            .filter(|(_, member)| !excluded(member.server))
        {
            total += i64::from(member.weight);
            credits[at] += i64::from(member.weight);
            if richest.is_none_or(|(credit, _)| credits[at] > credit) {
                richest = Some((credits[at], at));
            }
        }
        let (_, chosen) = richest?;
        credits[chosen] -= total;
        Some(members[chosen].server)
    }
}
