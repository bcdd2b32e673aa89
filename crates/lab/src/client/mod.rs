//! How a scenario sends requests from a host, and what it makes of the answers.

mod ab;
mod answer;
mod bulk;
mod chunks;
mod crowd;
mod curl;
mod dial;
mod fetch;
mod pace;
mod socket;
mod wrk;

pub(crate) use ab::ab;
pub(crate) use answer::{Answer, Expected, NO_SERVER, Wrong};
pub(crate) use bulk::{Download, download};
pub(crate) use chunks::Chunks;
pub(crate) use crowd::Crowd;
pub(crate) use curl::{curl, url};
pub(crate) use dial::Dial;
pub(crate) use fetch::{Connection, Outcome, Plan, Request, fetch, follow};
pub(crate) use pace::Pace;
pub(crate) use socket::Socket;
pub(crate) use wrk::{wrk, wrk_script};
