//! Typed access to a BPF map.

use crate::abi::{Plain, as_bytes, from_bytes};
use crate::{Error, Result};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapMut};
use std::collections::HashSet;
use std::marker::PhantomData;

/// Entries that one system call reads.
const BATCH: u32 = 4096;

/// A map with values of type `V`; may be shared between threads (the kernel locks).
pub(crate) struct Table<V> {
    name: &'static str,
    map: MapHandle,
    value: PhantomData<V>,
}

impl<V: Plain> Table<V> {
    pub(crate) fn of(name: &'static str, map: &MapMut<'_>) -> Result<Table<V>> {
        let map = MapHandle::try_from(map).map_err(|source| Error::Table {
            table: name,
            source,
        })?;
        Ok(Table::from_handle(name, map))
    }

    pub(crate) fn from_handle(name: &'static str, map: MapHandle) -> Table<V> {
        Table {
            name,
            map,
            value: PhantomData,
        }
    }

    pub(crate) fn lookup(&self, key: &[u8]) -> Option<V> {
        let bytes = self.map.lookup(key, MapFlags::ANY).ok()??;
        from_bytes(&bytes)
    }

    pub(crate) fn put(&self, key: &[u8], value: &V) -> Result<()> {
        self.map
            .update(key, as_bytes(value), MapFlags::ANY)
            .map_err(|source| self.error(source))
    }

    /// Removing what is not there is no error.
    pub(crate) fn remove(&self, key: &[u8]) {
        let _ = self.map.delete(key);
    }

    /// Visits all entries; those added or removed meanwhile may or may not be seen.
    pub(crate) fn visit(&self, mut see: impl FnMut(&[u8], V)) -> Result<()> {
        let entries = self
            .map
            .lookup_batch(BATCH, MapFlags::ANY, MapFlags::ANY)
            .map_err(|source| self.error(source))?;
        for (key, value) in entries {
            if let Some(value) = from_bytes(&value) {
                see(&key, value);
            }
        }
        Ok(())
    }

    /// Exactly these entries, whatever there was.
    pub(crate) fn replace(&self, entries: impl Iterator<Item = (Vec<u8>, V)>) -> Result<()> {
        let mut wanted = HashSet::new();
        for (key, value) in entries {
            self.put(&key, &value)?;
            wanted.insert(key);
        }
        let present: Vec<_> = self.map.keys().collect();
        let gone = present.iter().filter(|key| !wanted.contains(*key));
        gone.for_each(|key| self.remove(key));
        Ok(())
    }

    fn error(&self, source: libbpf_rs::Error) -> Error {
        Error::Table {
            table: self.name,
            source,
        }
    }
}
