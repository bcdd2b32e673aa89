//! Packets by verdict and reason.

use crate::{Error, Result};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapMut};

/// One of a program's counters at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// What was done with the packets.
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// How many, since the program was loaded.
    pub packets: u64,
}

/// Reads a program's counters; may be used from any thread.
pub struct Counters {
    map: MapHandle,
    names: Vec<(String, String)>,
}

impl Counters {
    pub(crate) fn new(map: &MapMut<'_>, names: Vec<(String, String)>) -> Result<Counters> {
        let map = MapHandle::try_from(map).map_err(|source| Error::Table {
            table: "counters",
            source,
        })?;
        Ok(Counters { map, names })
    }

    /// All counters, in the order of `abi.h`.
    pub fn read(&self) -> Vec<Counter> {
        let value = |index: usize| -> u64 {
            let per_cpu = self
                .map
                .lookup_percpu(&(index as u32).to_ne_bytes(), MapFlags::ANY)
                .ok()
                .flatten()
                .unwrap_or_default();
            per_cpu
                .iter()
                .filter_map(|cpu| Some(u64::from_ne_bytes(cpu.get(..8)?.try_into().ok()?)))
                .sum()
        };
        let counter = |(index, (verdict, reason)): (usize, &(String, String))| Counter {
            verdict: verdict.clone(),
            reason: reason.clone(),
            packets: value(index),
        };
        self.names.iter().enumerate().map(counter).collect()
    }
}

/// The text of a C string in a fixed array.
pub(crate) fn text(chars: &[i8]) -> String {
    chars
        .iter()
        .take_while(|c| **c != 0)
        .map(|c| *c as u8 as char)
        .collect()
}
