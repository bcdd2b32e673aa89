//! A lab: hosts, cables, servers and nodes, brought up together and taken down exactly.

mod baton;
mod build;
mod content;
mod fault;
mod haproxy;
mod hardware;
mod lab;
mod nginx;
mod nodes;
mod options;
mod process;
mod programs;
pub(crate) mod requirements;
mod serve;
mod state;
mod wait;

pub(crate) use build::nginx_command;
pub(crate) use content::{File, SPARSE, digest, digest_of};
pub(crate) use haproxy::haproxy;
pub(crate) use lab::{Lab, RunningLab};
pub(crate) use nginx::proxy as nginx_proxy;
pub(crate) use nodes::Reload;
pub(crate) use options::{Balance, Mechanism, Options};
pub(crate) use programs::Program;
pub(crate) use wait::wait_until;

/// Path prefixes of the three pools, each with one of the first three back ends: `/a/` is served by backend1, and so on.
pub(crate) const POOLS: [&str; 3] = ["a", "b", "c"];
