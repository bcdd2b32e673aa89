//! The `baton` program: roles wired to sockets and maps, configuration, command line, admin. No decisions: those are
//! in `baton-policy` and `baton-flow`.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod addresses;
pub mod admin;
pub mod backend;
mod balancer;
pub mod checks;
pub mod cli;
mod commands;
pub mod config;
pub mod context;
pub mod duty;
pub mod health;
mod heartbeats;
mod keys;
pub mod logging;
mod pins;
pub mod proxy;
pub mod relays;
mod reload;
pub mod roles;
pub mod roll;
mod signals;
mod workload;
