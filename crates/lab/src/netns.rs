//! Network namespaces by name, as `ip netns` keeps them.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use anyhow::{Context, anyhow, ensure};
use nix::sched::{CloneFlags, setns};

use crate::command;

/// A network namespace with a name. Says nothing about whether it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Netns(String);

impl Netns {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.0)
    }

    /// # Errors
    /// When one of that name exists, or privileges are missing.
    pub(crate) fn create(&self) -> anyhow::Result<()> {
        command::run(Command::new("ip").args(["netns", "add", &self.0])).map(drop)
    }

    /// Deletes the name; interfaces inside vanish when the last process inside has ended. Does so also after an interrupt: that is when
    /// things are to be removed.
    ///
    /// # Errors
    /// When there is none of that name.
    pub(crate) fn delete(&self) -> anyhow::Result<()> {
        let mut ip = Command::new("ip");
        let output = ip
            .args(["netns", "delete", &self.0])
            .process_group(0)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "cannot delete namespace {}: {}",
            self.0,
            said.trim()
        );
        Ok(())
    }

    /// A command inside. Not by `ip netns exec`: that mounts a fresh /sys, which hides /sys/fs/bpf.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg("--")
            .arg(program);
        command
    }

    /// Runs `make` in a thread of this process that is inside: a socket that it makes belongs to this namespace wherever it is used.
    ///
    /// # Errors
    /// When there is no such namespace, or `make` fails.
    pub(crate) fn inside<T: Send>(
        &self,
        make: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        let namespace =
            File::open(self.path()).with_context(|| format!("no namespace {}", self.0))?;
        let entered = move || {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            make()
        };
        thread::scope(|scope| scope.spawn(entered).join())
            .unwrap_or_else(|_| Err(anyhow!("a thread in namespace {} broke", self.0)))
    }

    /// Runs `ip` with `arguments` (separated by spaces) on this namespace.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub(crate) fn ip(&self, arguments: &str) -> anyhow::Result<String> {
        command::run(
            Command::new("ip")
                .args(["-n", &self.0])
                .args(arguments.split_whitespace()),
        )
    }

    /// The value of a setting.
    ///
    /// # Errors
    /// When the kernel knows no such setting.
    pub(crate) fn setting(&self, key: &str) -> anyhow::Result<String> {
        let value = command::run(self.command("sysctl").args(["-n", key]))?;
        Ok(value.trim().to_owned())
    }

    /// # Errors
    /// When the kernel knows no such setting or refuses the value.
    pub(crate) fn sysctl(&self, key: &str, value: &str) -> anyhow::Result<()> {
        command::run(
            self.command("sysctl")
                .args(["-qw", &format!("{key}={value}")]),
        )
        .map(drop)
    }
}
