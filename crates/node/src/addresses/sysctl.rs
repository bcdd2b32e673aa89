//! Kernel settings of the present network namespace, put back at the end.

use std::io;
use std::path::PathBuf;

/// Settings that this program changed.
#[derive(Debug, Default)]
pub struct Sysctls {
    changed: Vec<(PathBuf, String)>,
}

/// Why a setting could not be changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot set {key} to {value}: {source}; run as root, with /proc/sys writable")]
pub struct SysctlError {
    key: String,
    value: String,
    source: io::Error,
}

impl Sysctls {
    /// An address that an interface of this machine does not have is neither announced nor answered for there: what a
    /// back end needs that holds a VIP on `lo` (`ip-sysctl.rst` of the kernel, `arp_ignore` and `arp_announce`).
    pub fn keep_addresses_quiet(&mut self, interface: &str) -> Result<(), SysctlError> {
        self.set(&format!("net/ipv4/conf/{interface}/arp_ignore"), "1")?;
        self.set(&format!("net/ipv4/conf/{interface}/arp_announce"), "2")
    }

    /// Sets `key`, written as under `/proc/sys`, and remembers what it was.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), SysctlError> {
        let path = PathBuf::from("/proc/sys").join(key);
        let set = || {
            let before = std::fs::read_to_string(&path)?.trim().to_owned();
            if before == value {
                return Ok(None);
            }
            std::fs::write(&path, value).map(|()| Some(before))
        };
        let before = set().map_err(|source| SysctlError {
            key: key.replace('/', "."),
            value: value.to_owned(),
            source,
        })?;
        self.changed
            .extend(before.map(|before| (path.clone(), before)));
        Ok(())
    }

    /// Puts every setting back that was changed.
    pub fn restore(&mut self) {
        for (path, before) in self.changed.drain(..).rev() {
            if let Err(error) = std::fs::write(&path, &before) {
                tracing::warn!(setting = %path.display(), %before, %error, "a kernel setting could not be put back");
            }
        }
    }
}
