//! What a lab has made so far, on disk, so that `down` removes exactly that.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use super::process::{self, Process};
use crate::netns::Netns;

/// Written after each thing that was made, so that a lab that was killed while it came up can be taken down too.
#[derive(Debug)]
pub(crate) struct State {
    dir: PathBuf,
    made: Made,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Made {
    namespaces: Vec<String>,
    processes: Vec<Process>,
}

impl State {
    /// Makes the directory of a new lab, readable only for its owner.
    ///
    /// # Errors
    /// When a lab of that name exists.
    pub(crate) fn create(name: &str) -> anyhow::Result<Self> {
        let dir = dir(name);
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!(
                    "a lab named {name} exists ({}): `baton lab down --name {name}` removes it",
                    dir.display()
                )
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot make {}", dir.display()));
            }
        }
        let state = Self {
            dir,
            made: Made::default(),
        };
        state.save()?;
        Ok(state)
    }

    /// # Errors
    /// When there is no lab of that name, or it is somebody else's.
    pub(crate) fn open(name: &str) -> anyhow::Result<Self> {
        let dir = dir(name);
        let Ok(metadata) = fs::symlink_metadata(&dir) else {
            bail!("there is no lab named {name}; `baton lab up --name {name}` makes one");
        };
        if !metadata.is_dir() || metadata.uid() != geteuid().as_raw() {
            bail!(
                "{} is not a directory of this user: not touched",
                dir.display()
            );
        }
        let text = fs::read_to_string(dir.join("state.json"))
            .with_context(|| format!("cannot read the state of lab {name}"))?;
        let made = serde_json::from_str(&text)
            .with_context(|| format!("the state of lab {name} is damaged"))?;
        Ok(Self { dir, made })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// # Errors
    /// When the namespace cannot be made or noted.
    pub(crate) fn make_namespace(&mut self, netns: &Netns) -> anyhow::Result<()> {
        netns.create()?;
        self.made.namespaces.push(netns.name().to_owned());
        self.save()
    }

    /// # Errors
    /// When it cannot be noted.
    pub(crate) fn note(&mut self, process: Process) -> anyhow::Result<()> {
        self.made.processes.push(process);
        self.save()
    }

    /// A process by what it is.
    pub(crate) fn process(&self, what: &str) -> Option<&Process> {
        self.made
            .processes
            .iter()
            .find(|process| process.what == what)
    }

    /// Forgets a process that was ended.
    ///
    /// # Errors
    /// When that cannot be noted.
    pub(crate) fn forget(&mut self, what: &str) -> anyhow::Result<()> {
        self.made.processes.retain(|process| process.what != what);
        self.save()
    }

    /// A process that has ended though nobody ended it.
    pub(crate) fn dead(&self) -> Option<&Process> {
        self.made.processes.iter().find(|process| !process.alive())
    }

    /// Ends the processes, deletes the namespaces and the directory.
    ///
    /// # Errors
    /// When something could not be removed; everything else is.
    pub(crate) fn remove(&self) -> anyhow::Result<()> {
        process::stop(&self.made.processes);
        let mut result = Ok(());
        for name in self.made.namespaces.iter().rev() {
            let netns = Netns::new(name);
            if netns.path().exists() {
                result = result.and(forget_pinned(&netns));
                result = result.and(netns.delete());
            }
        }
        result?;
        fs::remove_dir_all(&self.dir)
            .with_context(|| format!("cannot remove {}", self.dir.display()))
    }

    fn save(&self) -> anyhow::Result<()> {
        let (path, new) = (self.dir.join("state.json"), self.dir.join("state.json.new"));
        fs::write(&new, serde_json::to_vec_pretty(&self.made)?)
            .and_then(|()| fs::rename(&new, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// What a node that was killed has left in the kernel would outlive its network namespace. Also after an interrupt: that is when things are to
/// be removed.
fn forget_pinned(netns: &Netns) -> anyhow::Result<()> {
    let Ok(places) = fs::read_dir("/sys/fs/bpf/baton") else {
        return Ok(());
    };
    let places = places.filter_map(|place| place.ok()?.file_name().into_string().ok());
    let nodes = places.filter_map(|place| place.split_once('@').map(|(node, _)| node.to_owned()));
    let own = nodes.filter(|node| netns.name().ends_with(&format!("-{node}")));
    // Several namespaces may have a node of this name: each command sees its own.
    for node in own.collect::<BTreeSet<_>>() {
        let mut detach = netns.command(std::env::current_exe()?);
        let output = detach.arg("detach").arg(&node).process_group(0).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "cannot detach {node}: {}",
            said.trim()
        );
    }
    Ok(())
}

fn dir(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("baton-lab-{name}"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn unique(what: &str) -> String {
        format!("test-{}-{what}", std::process::id())
    }

    #[test]
    fn there_is_only_one_lab_of_a_name_and_down_leaves_nothing() {
        let name = unique("once");
        let mut state = State::create(&name).unwrap();
        let process = Process::start(
            "sleeper".into(),
            Command::new("sleep").arg("60"),
            &state.dir().join("log"),
        )
        .unwrap();
        state.note(process.clone()).unwrap();
        assert!(
            State::create(&name)
                .unwrap_err()
                .to_string()
                .contains("exists")
        );
        let found = State::open(&name).unwrap();
        assert!(found.dead().is_none());
        found.remove().unwrap();
        assert!(!process.alive() && !state.dir().exists());
        assert!(
            State::open(&name)
                .unwrap_err()
                .to_string()
                .contains("there is no lab")
        );
    }

    #[test]
    #[ignore = "needs root"]
    fn only_namespaces_that_were_made_are_deleted() {
        let (ours, foreign) = (Netns::new(unique("ours")), Netns::new(unique("foreign")));
        foreign.create().unwrap();
        let mut state = State::create(&unique("namespaces")).unwrap();
        state.make_namespace(&ours).unwrap();
        assert!(
            state.make_namespace(&foreign).is_err(),
            "it is there already"
        );
        state.remove().unwrap();
        let left = (ours.path().exists(), foreign.path().exists());
        foreign.delete().unwrap();
        assert_eq!(left, (false, true));
    }
}
