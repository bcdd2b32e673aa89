//! Bringing a lab up: hosts, cables, servers, nodes, in this order; and taking it down.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::content::{self, Content, File};
use super::options::Options;
use super::requirements;
use super::state::State;
use crate::impair::Tap;
use crate::netns::Netns;
use crate::topology::{HTTP_PORT, Topology};

/// A lab that is up.
pub(crate) struct Lab {
    pub(crate) name: String,
    pub(crate) options: Options,
    pub(crate) topology: Topology,
    pub(crate) content: Content,
    pub(super) state: State,
    pub(super) taps: BTreeMap<String, Tap>,
    baton: PathBuf,
}

impl Lab {
    /// Brings a lab up and waits until all in it serve. What was made before an error is removed.
    ///
    /// # Errors
    /// When something is missing on this machine, or something did not begin to serve, with its log.
    pub(crate) fn up(name: &str, options: Options, baton: &Path) -> anyhow::Result<Self> {
        requirements::check()?;
        let state = State::create(name)?;
        let content = match Content::create(state.dir().join("www"), options.seed) {
            Ok(content) => content,
            Err(error) => return Err(after_removing(&state, error)),
        };
        let topology = options.topology();
        let mut lab = Self {
            name: name.to_owned(),
            options,
            topology,
            content,
            state,
            taps: BTreeMap::new(),
            baton: baton.to_owned(),
        };
        match lab.build() {
            Ok(()) => Ok(lab),
            Err(error) => Err(after_removing(&lab.state, error)),
        }
    }

    /// Removes a lab by name, whoever brought it up.
    ///
    /// # Errors
    /// When there is none, or something could not be removed.
    pub(crate) fn down(name: &str) -> anyhow::Result<()> {
        State::open(name)?.remove()
    }

    pub(crate) fn netns(&self, host: &str) -> Netns {
        netns(&self.name, host)
    }

    /// The namespace of a host of a lab that exists.
    ///
    /// # Errors
    /// When there is no such lab or host.
    pub(crate) fn host(lab: &str, host: &str) -> anyhow::Result<Netns> {
        State::open(lab)?;
        let netns = netns(lab, host);
        if !netns.path().exists() {
            bail!(
                "lab {lab} has no host {host}; hosts are client, proxy1.., backend1.., balancer1.."
            );
        }
        Ok(netns)
    }

    /// One more host, without cables; it goes with the lab.
    ///
    /// # Errors
    /// When there is one of that name.
    pub(crate) fn add_namespace(&mut self, host: &str) -> anyhow::Result<Netns> {
        let netns = self.netns(host);
        self.state.make_namespace(&netns)?;
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    pub(crate) fn vip(&self) -> SocketAddr {
        self.options.family().vip()
    }

    /// Where a back end's nginx is reached without anything in between.
    pub(crate) fn direct(&self, backend: &str) -> anyhow::Result<SocketAddr> {
        let backends = self.topology.backends();
        let host = backends
            .iter()
            .find(|host| host.name == backend)
            .with_context(|| format!("there is no {backend}"))?;
        Ok(SocketAddr::new(
            host.address(self.options.family()),
            HTTP_PORT,
        ))
    }

    /// The cable of a host that [`Options::tapped`] names.
    ///
    /// # Errors
    /// When it is not tapped.
    pub(crate) fn tap(&self, host: &str) -> anyhow::Result<&Tap> {
        self.taps
            .get(host)
            .with_context(|| format!("the cable of {host} is not tapped"))
    }

    /// A file of this size that only this back end has, below `/own/` and, chunked, below `/chunked/`; made now if it is not there yet.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn own_file(&self, backend: &str, bytes: u64) -> anyhow::Result<File> {
        let dir = self.dir(backend).join("own");
        fs::create_dir_all(&dir)?;
        let seed = backend.bytes().fold(self.options.seed ^ bytes, |seed, c| {
            seed.wrapping_mul(257).wrapping_add(c.into())
        });
        content::generate(&dir.join(bytes.to_string()), bytes, seed)
    }

    /// The `baton` program.
    pub(crate) fn baton(&self) -> &Path {
        &self.baton
    }

    /// Directory of a host's own files: configuration, logs, uploads.
    pub(crate) fn dir(&self, host: &str) -> PathBuf {
        self.state.dir().join(host)
    }

    /// The file `unique` of a back end.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn unique(&self, backend: &str) -> anyhow::Result<File> {
        let path = self.dir(backend).join("unique");
        let (bytes, sha256) = content::digest(&mut fs::File::open(&path)?)?;
        Ok(File {
            path,
            bytes,
            sha256,
        })
    }
}

/// A lab that goes down when it goes out of scope: also after an error, a panic or Ctrl-C.
pub(crate) struct RunningLab(Lab);

impl RunningLab {
    /// # Errors
    /// As [`Lab::up`].
    pub(crate) fn up(name: &str, options: Options, baton: &Path) -> anyhow::Result<Self> {
        Lab::up(name, options, baton).map(Self)
    }
}

impl Deref for RunningLab {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.0
    }
}

impl DerefMut for RunningLab {
    fn deref_mut(&mut self) -> &mut Lab {
        &mut self.0
    }
}

impl Drop for RunningLab {
    fn drop(&mut self) {
        if let Err(error) = self.0.state.remove() {
            eprintln!("not all of lab {} could be removed: {error:#}", self.0.name);
        }
    }
}

fn netns(lab: &str, host: &str) -> Netns {
    Netns::new(format!("baton-{lab}-{host}"))
}

fn after_removing(state: &State, error: anyhow::Error) -> anyhow::Error {
    match state.remove() {
        Ok(()) => error,
        Err(left) => error.context(format!("and not all could be removed: {left:#}")),
    }
}
