//! Messages between the nodes of a cluster: one file a message, drawn in `docs/wire.md`. No I/O.
//!
//! Encoding takes the [`Key`] that makes tags, decoding the [`Keys`] that are accepted. Nothing in this crate panics on
//! what it is given.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bind;
mod cursor;
mod forward;
mod heartbeat;
mod keep;
mod key;
mod message;
mod notice;
mod pass;
mod release;
mod replica;
mod secret;
mod truth;

pub use bind::{BIND_LEN, Bind, Scales};
pub use forward::{FORWARD_HEADER, FORWARD_LEN};
pub use heartbeat::{Accepts, Finding, Heartbeat, MAX_FINDINGS, MAX_PROXIES, Reason, Role, State};
pub use keep::{Keep, Kept, MAX_KEPT};
pub use key::{Key, Keys};
pub use message::{Message, WireError};
pub use notice::{MAX_NOTICES, Notice, What, decode_notices, encode_notices};
pub use pass::{MAX_HOPS, PASS_LEN, pass_header};
pub use release::{Outcome, RELEASE_LEN, Release, ReleaseAnswer};
pub use replica::{Holder, MAX_REPLICAS, Replica, decode_replicas, encode_replicas};
pub use secret::{Secret, SecretError, Secrets};
pub use truth::{ASK_LEN, Ask, Fate, Known, Truth};
