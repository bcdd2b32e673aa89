//! Programs that a lab leaves running, known well enough to end these and no others.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::wait::wait_until;
use crate::command;

/// A program in a process group of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Process {
    /// For people: `nginx on backend1`.
    pub(crate) what: String,
    pid: i32,
    /// When it began, in the kernel's ticks: a later process of the same id has another.
    began: u64,
}

impl Process {
    /// Starts in the background; all it says goes to `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(what: String, command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let pid = command::spawn(command)?.id().cast_signed();
        // Until it is reaped, its entry stays, even if it has ended already.
        let (_, began) = state_and_start(pid).with_context(|| format!("{what} vanished"))?;
        Ok(Self { what, pid, began })
    }

    pub(crate) fn alive(&self) -> bool {
        // Ours are zombies when they end, until somebody asks; others' are reaped by init.
        let _ = waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG));
        state_and_start(self.pid)
            .is_some_and(|(state, began)| began == self.began && !matches!(state, 'Z' | 'X'))
    }

    /// /proc/PID/status
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn status(&self) -> anyhow::Result<String> {
        fs::read_to_string(format!("/proc/{}/status", self.pid))
            .with_context(|| format!("{} has ended", self.what))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if self.alive() {
            let _ = killpg(Pid::from_raw(self.pid), signal);
        }
    }

    /// Asks one that this process started to end, and says with what status it did.
    ///
    /// # Errors
    /// When it had ended before, does not end in time, or is ended by a signal.
    pub(crate) fn end(&self, patience: Duration) -> anyhow::Result<i32> {
        self.signal(Signal::SIGTERM);
        self.ended(patience)
    }

    /// Waits until one that this process started ends, and says with what status it does.
    ///
    /// # Errors
    /// As [`Process::end`].
    pub(crate) fn ended(&self, patience: Duration) -> anyhow::Result<i32> {
        let mut status = WaitStatus::StillAlive;
        wait_until(&format!("{} ends", self.what), patience, || {
            status = waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG))
                .with_context(|| format!("{} had ended before", self.what))?;
            Ok(status != WaitStatus::StillAlive)
        })?;
        match status {
            WaitStatus::Exited(_, code) => Ok(code),
            other => bail!("{} did not exit: {other:?}", self.what),
        }
    }

    /// Ends one that this process started at once, and waits until it is gone.
    ///
    /// # Errors
    /// When it does not go.
    pub(crate) fn kill(&self, patience: Duration) -> anyhow::Result<()> {
        self.signal(Signal::SIGKILL);
        // With all its threads: until then it has its sockets and locks.
        wait_until(&format!("{} is gone", self.what), patience, || {
            let status = waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG));
            Ok(status != Ok(WaitStatus::StillAlive) && !self.alive())
        })
    }
}

/// Ends all, the newest first: politely, and after five seconds by force.
pub(crate) fn stop(processes: &[Process]) {
    for process in processes.iter().rev() {
        process.signal(Signal::SIGTERM);
        // One that stands still would not hear of it.
        process.signal(Signal::SIGCONT);
    }
    let ended = || processes.iter().all(|process| !process.alive());
    if wait_until_ended(Duration::from_secs(5), ended) {
        return;
    }
    for process in processes {
        if process.alive() {
            eprintln!("{} did not end when asked to", process.what);
        }
        process.signal(Signal::SIGKILL);
    }
    wait_until_ended(Duration::from_secs(5), ended);
}

/// Goes on when interrupted: that is when things are to be ended.
fn wait_until_ended(patience: Duration, ended: impl Fn() -> bool) -> bool {
    let start = std::time::Instant::now();
    while !ended() {
        if start.elapsed() > patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Fields 3 and 22 of /proc/PID/stat (proc(5)).
fn state_and_start(pid: i32) -> Option<(char, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in field 2 may hold anything, also parentheses.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    let began = fields.nth(18)?.parse().ok()?;
    Some((state, began))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Process {
        Process::start(
            "sleeper".into(),
            Command::new("sleep").arg("60"),
            Path::new("/dev/null"),
        )
        .unwrap()
    }

    #[test]
    fn stop_ends_what_was_started() {
        let process = sleeper();
        assert!(process.alive());
        stop(std::slice::from_ref(&process));
        assert!(!process.alive());
    }

    #[test]
    fn another_process_of_the_same_id_is_left_alone() {
        let process = sleeper();
        let earlier = Process {
            began: process.began - 1,
            ..process.clone()
        };
        stop(std::slice::from_ref(&earlier));
        assert!(process.alive());
        stop(&[process]);
    }
}
