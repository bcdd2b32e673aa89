//! Which roles are ready, and what they count.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::metrics::Sample;

/// Reads a role's numbers at the moment of a scrape.
type Source = Box<dyn Fn() -> Vec<Sample> + Send + Sync>;

/// The roles of a node. A role is ready once it has said so, which it does when its data path is attached.
pub struct Registry {
    roles: Mutex<BTreeMap<&'static str, Option<Source>>>,
}

impl Registry {
    /// A node with these roles, none of them ready.
    pub fn new(roles: impl IntoIterator<Item = &'static str>) -> Self {
        let roles = roles.into_iter().map(|role| (role, None)).collect();
        Self {
            roles: Mutex::new(roles),
        }
    }

    /// The role is ready; from now on its samples are read from `source`, which must be quick.
    pub fn ready(
        &self,
        role: &'static str,
        source: impl Fn() -> Vec<Sample> + Send + Sync + 'static,
    ) {
        self.roles().insert(role, Some(Box::new(source)));
        if self.waiting_for().is_empty() {
            tracing::info!("ready");
        }
    }

    /// The roles, and whether each is ready.
    pub fn readiness(&self) -> BTreeMap<&'static str, bool> {
        let roles = self.roles();
        roles
            .iter()
            .map(|(role, source)| (*role, source.is_some()))
            .collect()
    }

    /// The roles that are not ready.
    pub fn waiting_for(&self) -> Vec<&'static str> {
        let readiness = self.readiness().into_iter();
        readiness
            .filter(|(_, ready)| !ready)
            .map(|(role, _)| role)
            .collect()
    }

    /// What all roles count, now.
    pub fn samples(&self) -> Vec<Sample> {
        self.roles()
            .values()
            .flatten()
            .flat_map(|source| source())
            .collect()
    }

    fn roles(&self) -> MutexGuard<'_, BTreeMap<&'static str, Option<Source>>> {
        self.roles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.readiness()).finish()
    }
}
