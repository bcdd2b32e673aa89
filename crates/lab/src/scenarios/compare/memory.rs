//! What a host's programs cost in memory, in user space and in the kernel.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context;

use crate::cluster::Lab;
use crate::command;

/// A map's entries are allocated when they are made, not all in advance (linux/bpf.h).
const BPF_F_NO_PREALLOC: u64 = 1;
/// Types of maps that are hash tables (linux/bpf.h): plain, per CPU, and the two that forget the oldest.
const HASH_TABLES: [u64; 4] = [1, 5, 9, 10];

/// At one moment; all in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::scenarios) struct Memory {
    /// Of all programs on the host: pages of their own (RssAnon).
    programs: u64,
    /// Of the BPF tables that they hold.
    tables: u64,
    /// Of an entry in each of the tables whose entries are allocated in advance.
    entry: u64,
    /// TCP sockets on the host, and on all hosts.
    sockets: u64,
    all_sockets: u64,
    /// What all kernel objects on the machine take.
    slab: u64,
}

impl Memory {
    /// Of a host of a lab. `entries` is how many the tables must be able to hold to count as tables of connections.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(in crate::scenarios) fn of(lab: &Lab, host: &str, entries: u64) -> anyhow::Result<Self> {
        let mut memory = Self {
            sockets: sockets(lab, host)?,
            slab: slab()?,
            ..Self::default()
        };
        for host in lab.topology.servers() {
            memory.all_sockets += sockets(lab, &host.name)?;
        }
        let mut maps = BTreeMap::new();
        let namespace = fs::metadata(lab.netns(host).path())?.ino();
        for process in fs::read_dir("/proc")?.flatten() {
            let process = process.path();
            // What has ended meanwhile, or is no process, has no such files.
            let inside = |found: fs::Metadata| found.ino() == namespace;
            if !fs::metadata(process.join("ns/net")).is_ok_and(inside) {
                continue;
            }
            let status = fs::read_to_string(process.join("status")).unwrap_or_default();
            memory.programs += field(&status, "RssAnon:").unwrap_or(0) * 1024;
            tables(&process.join("fdinfo"), &mut maps);
        }
        for map in maps.values() {
            memory.tables += map.bytes;
            if map.in_advance && map.entries >= entries {
                memory.entry += map.bytes / map.entries;
            }
        }
        Ok(memory)
    }

    /// What has been added since, for each of `connections`: programs, tables, sockets.
    pub(in crate::scenarios) fn growth(&self, since: &Self, connections: u64) -> Growth {
        let each = |now: u64, then: u64| (now as f64 - then as f64) / connections as f64;
        let sockets = self.sockets.saturating_sub(since.sockets);
        let all = self.all_sockets.saturating_sub(since.all_sockets).max(1);
        Growth {
            programs: each(self.programs, since.programs),
            tables: each(self.tables, since.tables) + self.entry as f64,
            sockets: each(self.slab, since.slab) * sockets as f64 / all as f64,
        }
    }
}

/// Bytes for each connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::scenarios) struct Growth {
    pub(in crate::scenarios) programs: f64,
    pub(in crate::scenarios) tables: f64,
    /// The host's part of what the kernel's objects grew by, by the number of sockets.
    pub(in crate::scenarios) sockets: f64,
}

impl Growth {
    pub(in crate::scenarios) fn total(&self) -> f64 {
        self.programs + self.tables + self.sockets
    }
}

struct Map {
    bytes: u64,
    entries: u64,
    /// A hash table with all its entries allocated.
    in_advance: bool,
}

/// The BPF maps that a process holds, by their ids.
fn tables(fdinfo: &Path, maps: &mut BTreeMap<u64, Map>) {
    for file in fs::read_dir(fdinfo).into_iter().flatten().flatten() {
        let text = fs::read_to_string(file.path()).unwrap_or_default();
        if let (Some(id), Some(map)) = (field(&text, "map_id:"), Map::parse(&text)) {
            maps.insert(id, map);
        }
    }
}

impl Map {
    /// bpf_map_show_fdinfo in the kernel.
    fn parse(text: &str) -> Option<Self> {
        let flags = text
            .lines()
            .find_map(|line| line.strip_prefix("map_flags:"))?;
        let flags = u64::from_str_radix(flags.trim().trim_start_matches("0x"), 16).ok()?;
        let hash = HASH_TABLES.contains(&field(text, "map_type:")?);
        Some(Self {
            bytes: field(text, "memlock:")?,
            entries: field(text, "max_entries:")?,
            in_advance: hash && flags & BPF_F_NO_PREALLOC == 0,
        })
    }
}

/// TCP sockets of a host that are in use.
fn sockets(lab: &Lab, host: &str) -> anyhow::Result<u64> {
    let text = command::run(lab.netns(host).command("cat").arg("/proc/net/sockstat"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("TCP: "));
    line.and_then(|line| field(line, "inuse"))
        .context("/proc/net/sockstat is not as expected")
}

fn slab() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let slab = field(&text, "Slab:").context("/proc/meminfo is not as expected")?;
    Ok(slab * 1024)
}

/// The number after a word at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_allocated_in_advance_are_known() {
        let text = |flags| {
            format!(
                "pos:\t0\nmap_type:\t1\nkey_size:\t36\nvalue_size:\t112\nmax_entries:\t1048576\nmap_flags:\t{flags}\nmap_extra:\t0x0\nmemlock:\t4096\nmap_id:\t7\n"
            )
        };
        let map = |flags| Map::parse(&text(flags)).unwrap();
        assert!(map("0x0").in_advance && !map("0x1").in_advance);
        assert_eq!((map("0x1").bytes, map("0x1").entries), (4096, 1 << 20));
        assert!(Map::parse("pos:\t0\nflags:\t02\n").is_none());
    }

    #[test]
    fn sockets_cost_their_part_of_the_kernels_objects() {
        let before = Memory {
            programs: 1000,
            tables: 500,
            slab: 10_000,
            ..Memory::default()
        };
        let after = Memory {
            programs: 3000,
            tables: 700,
            entry: 3,
            sockets: 20,
            all_sockets: 40,
            slab: 30_000,
        };
        let growth = after.growth(&before, 10);
        let expected = Growth {
            programs: 200.0,
            tables: 23.0,
            sockets: 1000.0,
        };
        assert_eq!((growth, growth.total()), (expected, 1223.0));
        let none = Memory {
            sockets: 0,
            ..after
        };
        assert_eq!(none.growth(&before, 10).sockets, 0.0);
    }
}
