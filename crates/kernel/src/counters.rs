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
    /// `names`: verdict and reason of each counter, as C strings.
    pub(crate) fn new<'a>(
        map: &MapMut<'_>,
        names: impl Iterator<Item = (&'a [i8], &'a [i8])>,
    ) -> Result<Counters> {
        let map = MapHandle::try_from(map).map_err(|source| Error::Table {
            table: "counters",
            source,
        })?;
        let names = names.map(|(verdict, reason)| (text(verdict), text(reason)));
        Ok(Counters {
            map,
            names: names.collect(),
        })
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
fn text(chars: &[i8]) -> String {
    chars
        .iter()
        .take_while(|c| **c != 0)
        .map(|c| *c as u8 as char)
        .collect()
}
