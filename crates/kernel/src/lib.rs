//! What runs in the kernel, seen from Rust: load and attach the programs of `bpf/`, fill their tables, read their events and counters.
//!
//! The only crate with `unsafe`. It moves bytes and decides nothing.
//!
//! - [`Proxy`], [`Backend`] and [`Balancer`]: one program a role, loaded, attached to interfaces, detached when dropped unless pinned.
//! - [`Events`]: a ring buffer as a queue.
//! - [`Pins`]: what stays in the kernel when the process goes, and is taken over by the next.
//! - [`Injector`]: frames of our own, received or sent by an interface.
//! - [`probe`]: what this kernel lacks, in one sentence.

#![warn(missing_docs)]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

pub mod abi;
mod attach;
mod backend;
mod balancer;
mod counters;
mod error;
mod events;
mod injector;
mod known;
mod listener;
mod pins;
mod probe;
mod proxy;
mod settings;
mod skeletons;
mod table;
mod view;

pub use attach::interface_index;
pub use backend::{Backend, Leases, Served, Service};
pub use balancer::{Balancer, Contents, Mode, PEERS_MAX, SLOTS, Spread, Spreads};
pub use counters::{Counter, Counters};
pub use error::{Error, Result};
pub use events::{Access, Answered, Changed, Event, Events, Offered, Punt, Queue, Told};
pub use injector::Injector;
pub use known::{KNOWN_BYTES_MAX, Known, POOL_CARDS_MAX, POOL_SERVERS_MAX, Pool};
pub use listener::{descriptor_of, receive_buffer, set_receive_buffer};
pub use pins::{Detached, Pins, detach};
pub use probe::{Missing, probe};
pub use proxy::{Flows, Holder, Proxy, Server, Sizes, Via, Vip};
pub use settings::{Clock, Settings, monotonic};
pub use view::{Membership, View};
