//! Everything that decisions need of a configuration, in one value.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::pool::Pool;
use crate::request::Request;
use crate::route::{PoolId, Routes};

/// Why routes and pools do not fit together.
#[derive(Debug, Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ClusterError {
    #[error(
        "a route or default pool names pool number {pool}, but there are {pools}: define it or name another"
    )]
    NoSuchPool { pool: usize, pools: usize },
    #[error("a route names VIP number {vip}, but there are {vips}: define it or name another")]
    NoSuchVip { vip: usize, vips: usize },
}

/// Routes and pools. Immutable but for the pools' counters, so it is shared by `Arc`; a reload builds a new one.
#[derive(Debug)]
pub struct Cluster {
    routes: Routes,
    pools: Vec<Pool>,
}

impl Cluster {
    /// Every [`PoolId`] in `routes` is a place in `pools`, and every VIP of a route has an entry for its default.
    pub fn new(pools: Vec<Pool>, routes: Routes) -> Result<Self, ClusterError> {
        for (vip, PoolId(pool)) in routes.named() {
            if pool >= pools.len() {
                return Err(ClusterError::NoSuchPool {
                    pool,
                    pools: pools.len(),
                });
            }
            if let Some(vip) = vip.filter(|&vip| vip >= routes.vips()) {
                return Err(ClusterError::NoSuchVip {
                    vip,
                    vips: routes.vips(),
                });
            }
        }
        Ok(Self { routes, pools })
    }

    /// The pool for a request at the VIP with this place in the configuration; `None` is answered with 404.
    pub fn decide(&self, vip: usize, request: &impl Request) -> Option<(PoolId, &Pool)> {
        let id = self.routes.decide(vip, request)?;
        Some((id, self.pools.get(id.0)?))
    }

    /// The pools that requests at this VIP may go to, each once.
    pub fn pools_of(&self, vip: usize) -> BTreeSet<PoolId> {
        self.routes.pools_of(vip)
    }

    /// The pool at a place; `None` for a place of another configuration.
    pub fn pool(&self, id: PoolId) -> Option<&Pool> {
        self.pools.get(id.0)
    }

    /// The pools in the configuration's order.
    pub fn pools(&self) -> &[Pool] {
        &self.pools
    }
}
