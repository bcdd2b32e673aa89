//! What stays in the kernel when the process goes: a role's tables and attachments, under names in the BPF file system.
//!
//! ```text
//! /sys/fs/bpf/baton/NODE@NAMESPACE/ROLE/   NAMESPACE: cookie of the network namespace, which is never used twice
//!     TABLE                                those that outlive a process
//!     settings-LAYOUT                      what the programs were told last; made when all tables are there. LAYOUT: see `build.rs`
//!     ingress-INTERFACE, egress-INTERFACE  attachments, by the interface's number
//! ```
//!
//! The next process of the role takes the tables as they are and puts its own programs in place of those before, each at once: no packet
//! passes by without one.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapMut, OpenMapMut, libbpf_sys};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::abi::{address_from_words, endpoint, from_bytes, settings};
use crate::attach::{Side, create_link};
use crate::{Clock, Error, Result};

const FILE_SYSTEM: &str = "/sys/fs/bpf";
const SETTINGS: &str = "settings-";
/// Of the layouts of what is pinned.
const LAYOUT: &str = env!("BATON_LAYOUT");
/// A process that was killed just now may take so long to let go of its lock.
const DYING: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// asm-generic/socket.h
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The place of one role of one node. Nobody else can have it while it is held.
///
/// What is attached stays when this is dropped: only [`detach`](Pins::detach) removes it. What was pinned before anything was attached goes.
#[derive(Debug)]
pub struct Pins {
    place: PathBuf,
    /// What a process before has left is here.
    found: bool,
    attached: BTreeSet<String>,
    _lock: File,
}

impl Pins {
    /// The place of this node's role, and what is there.
    ///
    /// # Errors
    /// Without a BPF file system, which is mounted if it can be; while another process holds the place; and if what is there has another
    /// layout.
    pub fn open(node: &str, role: &str) -> Result<Pins> {
        mounted()?;
        let place = node_place(node)?.join(role);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&place)
            .map_err(|source| Error::Pin {
                path: place.clone(),
                source,
            })?;
        let lock = lock(&place, node)?;
        let names = names(&place)?;
        let layout = names.iter().find_map(|name| name.strip_prefix(SETTINGS));
        match layout {
            Some(layout) if layout != LAYOUT => {
                return Err(Error::OtherLayout {
                    node: node.to_owned(),
                    place,
                });
            }
            Some(_) => {}
            // A process died while it made them: nothing was attached yet.
            None => clear(&place)?,
        }
        Ok(Pins {
            found: layout.is_some(),
            place,
            attached: BTreeSet::new(),
            _lock: lock,
        })
    }

    /// Whether a process before has left something.
    pub fn found(&self) -> bool {
        self.found
    }

    /// The cluster clock that the programs have gone on with; none if there are none.
    pub fn clock(&self) -> Option<Clock> {
        let map = MapHandle::from_pinned_path(self.settings()).ok()?;
        let bytes = map.lookup(&0u32.to_ne_bytes(), MapFlags::ANY).ok()??;
        let settings: settings = from_bytes(&bytes)?;
        Some(Clock::at_offset(settings.clock_offset_ms))
    }

    /// A table that is there.
    pub(crate) fn table(&self, table: &str) -> Option<MapHandle> {
        MapHandle::from_pinned_path(self.place.join(table)).ok()
    }

    /// Before the programs are loaded: they get the table that is there, however large it is.
    pub(crate) fn reuse(&self, table: &'static str, map: &mut OpenMapMut<'_>) -> Result<()> {
        let path = self.place.join(table);
        if !path.exists() {
            return Ok(());
        }
        map.reuse_pinned_map(path)
            .map_err(|source| Error::Table { table, source })
    }

    /// After they were loaded: these tables, and what the programs are told, stay.
    pub(crate) fn keep(&self, tables: &[(&str, &MapMut<'_>)], settings: &MapMut<'_>) -> Result<()> {
        for (table, map) in tables {
            let path = self.place.join(table);
            if !path.exists() {
                pin(*map, &path)?;
            }
        }
        let new = self.place.join("new");
        let _ = fs::remove_file(&new);
        pin(settings, &new)?;
        fs::rename(&new, self.settings()).map_err(|source| Error::Pin { path: new, source })
    }

    /// In place of the program that is attached there, or behind those of others.
    pub(crate) fn attach(
        &mut self,
        program: &impl AsFd,
        ifindex: u32,
        side: Side,
    ) -> Result<OwnedFd> {
        let name = match side {
            Side::Ingress => format!("ingress-{ifindex}"),
            Side::Egress => format!("egress-{ifindex}"),
        };
        let path = self.place.join(&name);
        let link = match replace(program, &path) {
            Some(link) => link,
            None => {
                // Of an interface that is gone, and whose number another one has.
                let _ = fs::remove_file(&path);
                let link = create_link(program, ifindex, side)?;
                pin(&link, &path)?;
                link
            }
        };
        self.attached.insert(name);
        Ok(link)
    }

    /// All is attached: what the process before had attached elsewhere goes.
    pub(crate) fn settle(&self) -> Result<()> {
        let links = names(&self.place)?
            .into_iter()
            .filter(|name| is_link(name) && !self.attached.contains(name));
        for link in links {
            detach_link(&self.place.join(&link));
            let _ = fs::remove_file(self.place.join(link));
        }
        Ok(())
    }

    /// Nothing stays.
    pub(crate) fn detach(mut self) -> Result<()> {
        self.attached.clear();
        self.found = false;
        remove(&self.place)
    }

    fn settings(&self) -> PathBuf {
        self.place.join(format!("{SETTINGS}{LAYOUT}"))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if !self.found && self.attached.is_empty() {
            let _ = remove(&self.place);
        }
    }
}

/// What [`detach`] found.
#[derive(Debug, Default)]
pub struct Detached {
    /// Roles whose programs were there.
    pub roles: Vec<String>,
    /// Addresses of the VIPs that they knew.
    pub vips: BTreeSet<IpAddr>,
}

/// Takes a node's programs off this network namespace's interfaces, and forgets its flows: what a process has left that was killed.
///
/// # Errors
/// While a process has the place of one of its roles.
pub fn detach(node: &str) -> Result<Detached> {
    let place = node_place(node)?;
    let mut detached = Detached::default();
    if !place.exists() {
        return Ok(detached);
    }
    for role in names(&place)? {
        let place = place.join(&role);
        let _lock = lock(&place, node)?;
        for table in ["vips", "services"] {
            let keys = MapHandle::from_pinned_path(place.join(table)).ok();
            let keys = keys.iter().flat_map(|map| map.keys());
            let addresses = keys.filter_map(|key| from_bytes::<endpoint>(&key));
            detached
                .vips
                .extend(addresses.map(|at| address_from_words(at.address)));
        }
        remove(&place)?;
        detached.roles.push(role);
    }
    Ok(detached)
}

/// Mounts the BPF file system where every system has it, if this one has not.
fn mounted() -> Result<()> {
    let is_mounted =
        || statfs(FILE_SYSTEM).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC);
    if is_mounted() {
        return Ok(());
    }
    let none: Option<&str> = None;
    mount(
        Some("bpf"),
        FILE_SYSTEM,
        Some("bpf"),
        MsFlags::empty(),
        none,
    )
    .map_err(|errno| Error::NoFileSystem {
        source: errno.into(),
    })
}

fn node_place(node: &str) -> Result<PathBuf> {
    let cookie = namespace().map_err(|source| Error::Pin {
        path: FILE_SYSTEM.into(),
        source,
    })?;
    Ok(Path::new(FILE_SYSTEM)
        .join("baton")
        .join(format!("{}@{cookie}", escaped(node))))
}

/// The file system takes no dots, which it keeps for itself (`bpf_lookup` in kernel/bpf/inode.c).
fn escaped(node: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02x}"),
    };
    node.bytes().map(escape).collect()
}

/// The cookie of this network namespace: a number that no other has or will have until this machine is started again.
fn namespace() -> io::Result<u64> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let mut cookie = 0u64;
    let mut length = size_of_val(&cookie) as libc::socklen_t;
    // SAFETY: the descriptor is open, the pointers are to values of the stated length.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if outcome == 0 {
        Ok(cookie)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The kernel lets go of it when the process ends, however it does.
fn lock(place: &Path, node: &str) -> Result<File> {
    let error = |source| Error::Pin {
        path: place.to_owned(),
        source,
    };
    let lock = File::open(place).map_err(error)?;
    let since = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if since.elapsed() < DYING => thread::sleep(LOOK_AGAIN),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Running {
                    node: node.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(error(source)),
        }
    }
}

fn names(place: &Path) -> Result<Vec<String>> {
    let error = |source| Error::Pin {
        path: place.to_owned(),
        source,
    };
    let entries = fs::read_dir(place).map_err(error)?;
    let name = |entry: io::Result<fs::DirEntry>| {
        Ok(entry.map_err(error)?.file_name().to_string_lossy().into())
    };
    entries.map(name).collect()
}

fn is_link(name: &str) -> bool {
    name.starts_with("ingress-") || name.starts_with("egress-")
}

/// Attachments first: no program runs on without its place.
fn clear(place: &Path) -> Result<()> {
    let (links, rest): (Vec<_>, Vec<_>) = names(place)?.into_iter().partition(|n| is_link(n));
    for name in &links {
        detach_link(&place.join(name));
    }
    for name in links.iter().chain(&rest) {
        let path = place.join(name);
        fs::remove_file(&path).map_err(|source| Error::Pin { path, source })?;
    }
    Ok(())
}

fn remove(place: &Path) -> Result<()> {
    clear(place)?;
    let _ = fs::remove_dir(place);
    // Fails while another role is there.
    let _ = place.parent().map(fs::remove_dir);
    Ok(())
}

fn pin(object: &impl AsFd, path: &Path) -> Result<()> {
    let error = |source| Error::Pin {
        path: path.to_owned(),
        source,
    };
    let name = c_path(path).map_err(error)?;
    // SAFETY: the descriptor is open and the string ends for the length of the call.
    let outcome = unsafe { libbpf_sys::bpf_obj_pin(object.as_fd().as_raw_fd(), name.as_ptr()) };
    if outcome == 0 {
        Ok(())
    } else {
        Err(error(io::Error::from_raw_os_error(-outcome)))
    }
}

/// The attachment of this name.
fn link(path: &Path) -> Option<OwnedFd> {
    let name = c_path(path).ok()?;
    // SAFETY: the string ends for the length of the call.
    let descriptor = unsafe { libbpf_sys::bpf_obj_get(name.as_ptr()) };
    // SAFETY: a fresh descriptor that nobody else has.
    (descriptor >= 0).then(|| unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// At once: without its name alone it goes some time later.
fn detach_link(path: &Path) {
    if let Some(link) = link(path) {
        // SAFETY: the descriptor is open. It fails if the interface is gone, and the attachment with it.
        unsafe { libbpf_sys::bpf_link_detach(link.as_raw_fd()) };
    }
}

/// Puts the program in the place of the one that is attached by this name; none if nothing is, or its interface is gone.
fn replace(program: &impl AsFd, path: &Path) -> Option<OwnedFd> {
    let link = link(path)?;
    // SAFETY: both descriptors are open; null options mean the defaults.
    let outcome = unsafe {
        libbpf_sys::bpf_link_update(
            link.as_raw_fd(),
            program.as_fd().as_raw_fd(),
            std::ptr::null(),
        )
    };
    (outcome == 0).then_some(link)
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_name_is_one_the_file_system_takes() {
        assert_eq!(escaped("proxy-1_A"), "proxy-1_A");
        assert_eq!(escaped("a.b/c d"), "a%2eb%2fc%20d");
    }
}
