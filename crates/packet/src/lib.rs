//! Bytes to TCP segments and HTTP request heads, and back. No I/O, no clock, no state: every function here is pure.
//!
//! - [`Seq`]: TCP sequence numbers, which wrap.
//! - [`FlowKey`]: the name of one client connection to a VIP.
//! - [`Segment`]: one TCP segment with the IP fields that matter.
//! - [`announcement`]: what tells a network where an address is.
//! - [`RequestHead`]: an HTTP/1.x request head, parsed as strictly as a router must.
//!
//! Nothing in this crate panics on what it is given.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod announcement;
mod authority;
mod checksum;
mod flow_key;
mod head;
mod ip;
mod segment;
mod seq;

pub use announcement::announcement;
pub use flow_key::{FLOW_KEY_LEN, FlowKey};
pub use head::{BodyLength, HeadError, MAX_HEADERS, Parsed, RequestHead, Version};
pub use ip::ParseError;
pub use segment::{Flags, MAX_PAYLOAD, Segment, Timestamps};
pub use seq::Seq;
