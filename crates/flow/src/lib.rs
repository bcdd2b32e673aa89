//! The life of a flow at the proxy that owns it: a state machine, fed with events and the time, that says what to do.
//! No I/O, no clock, no task.
//!
//! The kernel's table knows every flow; user space knows only those *in transition* ([`Owner`]): a request is being
//! collected, or it waits until the server that has the flow lets go of it.
//!
//! ```text
//!               first segment (cookie opened)
//!  no entry ----------------------------------> undecided: Entry::bound = None, segments are held here
//!     ^                                             |  head complete
//!     | gone, unknown, silence                      v
//!     +-------------------------------------- bound: Entry::bound = Some(target), segments pass in the kernel
//!     |                                         |   ^  next request: same server (stay)
//!     |                                         |   |  server answers *closed* (stay)
//!     |                              another    v   |
//!     +-------------------------- moving: a release is asked, segments are held; *released* -> bound elsewhere
//! ```
//!
//! Rules (`docs/architecture.md` has the reasons): only bytes that start exactly where a request must begin are parsed;
//! the proxy acknowledges nothing but a part of a head that does not become whole by itself, so all else that is dropped
//! here comes again, and that part is sent until a server has it; a flow leaves a server only after that server has said
//! *released*.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod acknowledge;
mod allowance;
mod asking;
mod assembler;
mod binding;
mod clock;
mod copy;
mod entry;
mod event;
mod kept;
mod lease;
mod losing;
mod members;
mod moving;
mod owed;
mod owner;
mod ownership;
mod peer;
mod pending;
mod quorum;
mod receipt;
mod requests;
mod shares;
mod takeover;
mod transition;
mod unanswered;
mod view;

#[cfg(test)]
mod tests;

pub use baton_policy::{PoolId, ServerId};
pub use clock::ClusterClock;
pub use entry::{ClientOptions, Entry, PeerId, Target};
pub use event::{Action, Choice, Counter, Decide, Event, Lesson, Limits, Now, Table};
pub use members::{Heard, Members, Said, Standing};
pub use owner::Owner;
pub use ownership::{SLOTS, owners, ranking, slot, weighted};
pub use shares::{Candidate, Shares};
pub use takeover::{Move, Rival, Takeover};
pub use view::View;
