//! The program as a user runs it, without privileges: processes, signals, HTTP.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod baton;
mod check;
mod origin;
mod relay;
mod run;
