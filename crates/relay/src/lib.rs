//! The user-space relay: an HTTP/1.1 reverse proxy that needs no privileges.
//!
//! One task serves one client connection, and drives the server connection that it uses at the moment as well, so that
//! a request crosses no other task:
//!
//! ```text
//! client == ClientIo (checks heads) == hyper server == Forwarder == hyper client == server
//!               \_______________ Exchange ______________/    \___ Upstreams (idle connections)
//! ```
//!
//! `ClientIo` lets hyper see a request only after `baton-packet` has parsed its head as strictly as
//! the proxies do; what is ambiguous is answered with 400 there and never passed on.
//!
//! What is passed on differs from what came in this: hop-by-hop headers are removed, `X-Forwarded-*` are set, header
//! names are in lower case, trailers are dropped, an absolute target becomes a path, and an answer that ends with its
//! connection becomes chunked for HTTP/1.1 clients.

mod body;
mod buffer;
mod client;
mod deadline;
mod dispatch;
mod errors;
mod exchange;
mod forward;
mod framing;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod headers;
mod limits;
mod serve;
mod stats;
mod tunnel;
mod upload;
mod upstream;
mod upstreams;

pub use dispatch::{Choice, Dispatch, RoundRobin};
pub use limits::Limits;
pub use serve::serve;
pub use stats::{Stats, UpstreamError};
