//! Where cases run that are not about the path or the client's TCP.

use std::path::Path;

use crate::cluster::{Lab, Mechanism, Options};
use crate::scenarios::site::{ALL_ON, ClientTcp, Site};

/// A lab that comes up when it is needed, and others like it.
pub(super) struct Ground<'a> {
    options: Options,
    baton: &'a Path,
    site: Site<'a>,
}

/// What a case says of its addresses.
#[derive(Clone, Copy)]
pub(super) struct Named {
    pub(super) name: &'static str,
    pub(super) ipv6: bool,
}

const V4: Named = Named {
    name: "ipv4",
    ipv6: false,
};
const V6: Named = Named {
    name: "ipv6",
    ipv6: true,
};

impl<'a> Ground<'a> {
    pub(super) fn new(options: Options, baton: &'a Path) -> Self {
        let site = Site::new(options.clone(), baton);
        Self {
            options,
            baton,
            site,
        }
    }

    /// A lab of its own, with options changed.
    pub(super) fn other(&self, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = self.options.clone();
        change(&mut options);
        Self::new(options, self.baton)
    }

    pub(super) fn mechanism(&self) -> Mechanism {
        self.options.mechanism
    }

    /// Both, unless one was asked for.
    pub(super) fn families(&self) -> &'static [Named] {
        if self.options.ipv6 { &[V6] } else { &[V4, V6] }
    }

    /// Whether IPv6 was asked for.
    pub(super) fn is_ipv6(&self) -> bool {
        self.options.ipv6
    }

    /// # Errors
    /// When it does not come up.
    pub(super) fn lab(&mut self) -> anyhow::Result<&mut Lab> {
        self.lab_for(ALL_ON)
    }

    /// With the client's TCP like this.
    ///
    /// # Errors
    /// When it does not come up.
    pub(super) fn lab_for(&mut self, tcp: ClientTcp) -> anyhow::Result<&mut Lab> {
        Ok(&mut *self.site.lab(tcp)?)
    }
}
