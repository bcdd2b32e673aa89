//! Clusters in network namespaces of this machine, and scenarios that run on them.
//!
//! The lab drives only public programs (`baton run`, nginx, HAProxy, curl, wrk) by their configuration files and command lines, so that
//! anyone can build the same by hand; `docs/lab.md` shows how.
//!
//! - `topology`: which hosts there are and their addresses, decided before anything is made.
//! - `netns`, `link`, `impair`: the hosts and the cables between them.
//! - `cluster`: what runs on the hosts; brings a lab up and takes exactly that down again.
//! - `client`: how a scenario sends requests: curl, wrk, and a raw client for what these cannot do.
//! - `scenarios`: what is tried, and `report`, how it is told.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cli;
mod client;
mod cluster;
mod command;
mod impair;
mod interrupt;
mod link;
mod netns;
mod origin;
mod report;
mod scenarios;
mod topology;
mod units;
mod websocket;

pub use cli::LabCommand;
