//! Routes: from a request to a pool.

use std::collections::BTreeSet;

use crate::pattern::{FieldPattern, HostPattern, MethodPattern, PathPattern};
use crate::request::Request;

/// Place of a pool in its [`Cluster`](crate::Cluster).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(pub usize);

/// One `[[route]]`: all conditions that are given must hold.
#[derive(Debug, Clone)]
pub struct Route {
    /// Only for this VIP (its place in the configuration).
    pub vip: Option<usize>,
    /// The request's host.
    pub host: Option<HostPattern>,
    /// The request's path.
    pub path: Option<PathPattern>,
    /// The request's method.
    pub method: Option<MethodPattern>,
    /// Header lines, cookies and query parameters.
    pub fields: Vec<FieldPattern>,
    /// Where the request goes.
    pub pool: PoolId,
}

impl Route {
    /// A route without conditions.
    pub fn to(pool: PoolId) -> Self {
        Self {
            vip: None,
            host: None,
            path: None,
            method: None,
            fields: Vec::new(),
            pool,
        }
    }

    fn matches(&self, vip: usize, request: &impl Request) -> bool {
        self.vip.is_none_or(|only| only == vip)
            && self.host.as_ref().is_none_or(|host| host.matches(request))
            && self
                .method
                .as_ref()
                .is_none_or(|method| method.matches(request))
            && self.path.as_ref().is_none_or(|path| path.matches(request))
            && self.fields.iter().all(|field| field.matches(request))
    }
}

/// The routes of all VIPs in the configuration's order, and each VIP's default pool.
#[derive(Debug, Clone)]
pub struct Routes {
    routes: Vec<Route>,
    defaults: Vec<Option<PoolId>>,
}

impl Routes {
    /// `defaults` has an entry for each VIP, `None` where it has no default pool.
    pub fn new(routes: Vec<Route>, defaults: Vec<Option<PoolId>>) -> Self {
        Self { routes, defaults }
    }

    /// The pool of the first route that matches, else the VIP's default pool; `None` is answered with 404.
    pub fn decide(&self, vip: usize, request: &impl Request) -> Option<PoolId> {
        let route = self.routes.iter().find(|route| route.matches(vip, request));
        route
            .map(|route| route.pool)
            .or_else(|| self.defaults.get(vip).copied().flatten())
    }

    /// The pools that requests at this VIP may go to, each once.
    pub(crate) fn pools_of(&self, vip: usize) -> BTreeSet<PoolId> {
        let routes = self.routes.iter();
        let routes = routes.filter(|route| route.vip.is_none_or(|only| only == vip));
        let default = self.defaults.get(vip).copied().flatten();
        routes.map(|route| route.pool).chain(default).collect()
    }

    /// The VIP and the pool that each route or default names.
    pub(crate) fn named(&self) -> impl Iterator<Item = (Option<usize>, PoolId)> {
        let routes = self.routes.iter().map(|route| (route.vip, route.pool));
        routes.chain(self.defaults.iter().flatten().map(|pool| (None, *pool)))
    }

    pub(crate) fn vips(&self) -> usize {
        self.defaults.len()
    }
}
