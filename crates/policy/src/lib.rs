//! Which back end a request goes to: routes, pools and their policies. No I/O, no clock.
//!
//! A [`Cluster`] holds what the configuration says. It takes the decision in two steps: the routes of a VIP lead a
//! [`Request`] to a [`Pool`], and the pool's [`Policy`] chooses one of its servers. Both the proxy (for handoff) and
//! the user-space relay decide by the same `Cluster`, so that a request goes to the same pool on either way.

mod cluster;
mod fields;
mod pattern;
mod pool;
mod request;
mod route;
mod streak;
mod weighted_random;
mod weighted_round_robin;

pub use cluster::{Cluster, ClusterError};
pub use pattern::{FieldPattern, HostPattern, MethodPattern, PathPattern, PatternError};
pub use pool::{Mechanism, Member, Policy, Pool, PoolError, ServerId};
pub use request::Request;
pub use route::{PoolId, Route, Routes};
pub use streak::Streak;
