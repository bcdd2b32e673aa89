//! Fuzz targets: each takes any bytes, and panics if what it tries breaks a promise.
//!
//! `tests/replay.rs` runs them on the corpus and on random inputs, with every `cargo test`; `src/main.rs` with
//! libFuzzer, for `make fuzz` (`docs/architecture.md`, Fuzzing). The inputs of target `x` are in `corpus/x/`.

#![allow(clippy::panic, clippy::unwrap_used)]

pub mod bodies;
pub mod configs;
pub mod flows;
pub mod heads;
pub mod messages;
pub mod owners;
pub mod segments;

/// Something to feed with bytes.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("bodies", bodies::run),
    ("configs", configs::run),
    ("flows", flows::run),
    ("heads", heads::run),
    ("messages", messages::run),
    ("owners", owners::run),
    ("segments", segments::run),
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, target)| *target)
}

/// A first byte that says how, and what.
fn split_first(data: &[u8]) -> (u8, &[u8]) {
    data.split_first()
        .map_or((0, data), |(first, rest)| (*first, rest))
}
