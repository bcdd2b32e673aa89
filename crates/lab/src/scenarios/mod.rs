//! What is tried on labs. Each scenario makes labs of its own and takes them down.

pub(crate) mod compare;
pub(crate) mod demo;
pub(crate) mod faults;
pub(crate) mod matrix;
mod put;
pub(crate) mod replication_cost;
pub(crate) mod scale;
mod site;
pub(crate) mod statistics;
pub(crate) mod table4;

use std::path::Path;

/// What every scenario needs to know.
pub(crate) struct Setting<'a> {
    /// The `baton` program.
    pub(crate) baton: &'a Path,
    /// As the command line asks for; a scenario changes what it varies.
    pub(crate) options: crate::cluster::Options,
    /// Smaller files and fewer variants.
    pub(crate) short: bool,
}

/// The pools' first servers, which answer for `/a/`, `/b/` and `/c/`.
pub(crate) const SERVERS: [&str; 3] = ["backend1", "backend2", "backend3"];
