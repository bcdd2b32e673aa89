//! The names and references of a file, read quietly before anything else: an error in one section then neither causes
//! false errors in others nor hides true ones.

use baton_policy::Mechanism;
use toml::de::{DeTable, DeValue};

use super::reader::Item;
use super::suggest;

/// What refers to what, as far as the file can be understood. Places are those in the file.
pub(super) struct Outline<'a> {
    pub(super) vips: Names<'a>,
    pub(super) servers: Names<'a>,
    pub(super) pools: Names<'a>,
    pub(super) proxies: Names<'a>,
    pub(super) balancers: Names<'a>,
    /// How many `[[backend.service]]` there are.
    pub(super) services: usize,
    mechanisms: Vec<Mechanism>,
    leads: Vec<Lead<'a>>,
}

/// A route or a default pool: requests of this VIP (`None`: of all) may go to this pool.
struct Lead<'a> {
    vip: Option<&'a str>,
    pool: &'a str,
}

impl<'a> Outline<'a> {
    pub(super) fn new(root: &'a DeTable<'a>) -> Self {
        let defaults = tables(root, "vip").filter_map(|vip| {
            Some(Lead {
                vip: Some(string(vip, "name")?),
                pool: string(vip, "default_pool")?,
            })
        });
        let routes = tables(root, "route").filter_map(|route| {
            Some(Lead {
                vip: string(route, "vip"),
                pool: string(route, "pool")?,
            })
        });
        let mechanism = |pool| match string(pool, "mechanism") {
            Some("relay") => Mechanism::Relay,
            _ => Mechanism::Handoff,
        };
        let table = |name| root.get(name).and_then(|value| value.get_ref().as_table());
        let cluster = table("cluster");
        Self {
            vips: Names::of(root, "vip", "vip"),
            servers: Names::of(root, "server", "server"),
            pools: Names::of(root, "pool", "pool"),
            proxies: cluster.map_or_else(Names::none, |c| Names::of(c, "proxy", "cluster.proxy")),
            balancers: cluster.map_or_else(Names::none, |c| {
                Names::of(c, "balancer", "cluster.balancer")
            }),
            services: table("backend").map_or(0, |backend| tables(backend, "service").count()),
            mechanisms: tables(root, "pool").map(mechanism).collect(),
            leads: defaults.chain(routes).collect(),
        }
    }

    /// A handoff pool that requests of the VIP at this place may go to.
    pub(super) fn handoff_pool(&self, vip: usize) -> Option<&'a str> {
        let name = self.vips.names.get(vip).copied().flatten();
        let of_vip = self
            .leads
            .iter()
            .filter(|lead| lead.vip.is_none() || lead.vip == name);
        of_vip.map(|lead| lead.pool).find(|pool| {
            let place = self.pools.place(pool);
            place.is_some_and(|place| self.mechanisms[place] == Mechanism::Handoff)
        })
    }
}

/// The names of one kind of section.
pub(super) struct Names<'a> {
    section: &'static str,
    names: Vec<Option<&'a str>>,
}

impl<'a> Names<'a> {
    /// Of the tables `[[key]]` in `parent`, whose header is `section`.
    fn of(parent: &'a DeTable<'a>, key: &str, section: &'static str) -> Self {
        let names = tables(parent, key)
            .map(|table| string(table, "name"))
            .collect();
        Self { section, names }
    }

    fn none() -> Self {
        Self {
            section: "",
            names: Vec::new(),
        }
    }

    /// How many sections of this kind the file has.
    pub(super) fn count(&self) -> usize {
        self.names.len()
    }

    /// Where the section of that name is.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| *known == Some(name))
    }

    /// The place that the item names; a name that no section has is a problem.
    pub(super) fn resolve(&self, item: &Item<'_>) -> Option<usize> {
        let name = super::values::text(item)?;
        if let Some(place) = self.place(name) {
            return Some(place);
        }
        let section = self.section;
        let known = || self.names.iter().copied().flatten();
        let help = match suggest::nearest(name, known()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None if self.count() == 0 => format!("add a [[{section}]] with name = \"{name}\""),
            None => format!(
                "name one of {}, or add a [[{section}]]",
                known().collect::<Vec<_>>().join(", ")
            ),
        };
        item.wrong(
            format_args!("there is no {section} called \"{name}\""),
            help,
        )
    }

    /// The name of the section at `place`; a name that an earlier section has is a problem.
    pub(super) fn unique(&self, place: usize, item: &Item<'_>) -> Option<String> {
        let name = super::values::text(item)?;
        if self.place(name).is_some_and(|first| first < place) {
            return item.wrong(
                format_args!(
                    "duplicate name \"{name}\": an earlier [[{}]] has it",
                    self.section
                ),
                "give each its own name",
            );
        }
        Some(name.to_owned())
    }
}

/// The tables of `[[section]]`.
fn tables<'a>(
    root: &'a DeTable<'a>,
    section: &str,
) -> impl Iterator<Item = &'a DeTable<'a>> + use<'a> {
    let array = root
        .get(section)
        .and_then(|value| value.get_ref().as_array());
    array
        .into_iter()
        .flatten()
        .filter_map(|value| value.get_ref().as_table())
}

fn string<'a>(table: &'a DeTable<'a>, key: &str) -> Option<&'a str> {
    match table.get(key)?.get_ref() {
        DeValue::String(text) => Some(text),
        _ => None,
    }
}
