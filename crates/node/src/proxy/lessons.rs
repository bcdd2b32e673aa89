//! What the kernel is taught: requests that were decided before, so that it decides them by itself (`bpf/include/known.h`).

use baton_flow::Lesson;
use baton_kernel::{Known, POOL_CARDS_MAX};
use bytes::Bytes;

use super::chooser::Chooser;
use super::taught::Taught;

/// Requests remembered as seen once. A power of two.
const SEEN: usize = 1 << 16;

/// The kernel's known requests, and which requests are worth knowing: those that came twice. Most never do, and the table would be
/// filled with them.
pub(super) struct Lessons {
    known: Known,
    seen: Box<[u32]>,
    taught: Taught,
}

impl Lessons {
    /// `most`: requests that the kernel can know.
    pub(super) fn new(known: Known, most: u32) -> Lessons {
        Lessons {
            known,
            seen: vec![0; SEEN].into(),
            taught: Taught::new(most as usize),
        }
    }

    /// The rules have changed: nothing is known any more. What was bound before is still recalled: a server that is out is such a change.
    pub(super) fn forget(&mut self, chooser: &mut Chooser) -> baton_kernel::Result<()> {
        self.known.renew(&chooser.pools())
    }

    /// A request was decided in user space.
    pub(super) fn learn(
        &mut self,
        lesson: &Lesson,
        chooser: &mut Chooser,
    ) -> baton_kernel::Result<()> {
        let (Some(hash), Ok(pool), Ok(length)) = (
            self.known.hash(&lesson.request),
            u16::try_from(lesson.pool.0),
            u16::try_from(lesson.request.len()),
        ) else {
            return Ok(());
        };
        if !self.is_seen(hash) {
            return Ok(());
        }
        if self.known.is_dealt(pool) {
            self.known
                .deal(pool, &chooser.pool(lesson.pool, POOL_CARDS_MAX))?;
        }
        self.taught.keep(hash, &lesson.request);
        self.known
            .learn(lesson.vip, hash, length, pool, lesson.is_head_method)
    }

    /// The bytes of a request that the kernel was taught, while they are kept.
    pub(super) fn recall(&self, hash: u64) -> Option<Bytes> {
        self.taught.recall(hash)
    }

    /// Whether it was seen before, as far as is remembered.
    fn is_seen(&mut self, hash: u64) -> bool {
        let mark = (hash >> 32) as u32;
        let before = std::mem::replace(&mut self.seen[hash as usize % SEEN], mark);
        before == mark
    }
}
