//! `[[pool]]`: servers that requests may go to, how one is chosen, and how the bytes travel.

use baton_policy::{Mechanism, Member, Policy, Pool, ServerId};

use super::check::{self, Check};
use super::outline::Outline;
use super::reader::{Item, Section};
use super::server::Known;
use super::values::{integer, list, one_of};

const MECHANISMS: [(&str, Mechanism); 2] =
    [("handoff", Mechanism::Handoff), ("relay", Mechanism::Relay)];

const POLICIES: [(&str, Policy); 2] = [
    ("weighted-round-robin", Policy::WeightedRoundRobin),
    ("weighted-random", Policy::WeightedRandom),
];

pub(super) fn read(
    mut section: Section<'_>,
    place: usize,
    outline: &Outline<'_>,
    servers: &[Known],
) -> (Option<Pool>, Option<Check>) {
    let check = section
        .item("check")
        .and_then(|item| match item.section("[pool.check]".to_owned()) {
            None => item.not("a table", "write check = { path = \"/\" }"),
            section => section,
        })
        .map(check::read);
    (pool(section, place, outline, servers), check)
}

fn pool(
    mut section: Section<'_>,
    place: usize,
    outline: &Outline<'_>,
    servers: &[Known],
) -> Option<Pool> {
    let name = section.required("name", "\"pages\"", |item| {
        outline.pools.unique(place, item)
    });
    let mechanism = section.or("mechanism", Mechanism::Handoff, one_of(&MECHANISMS));
    let policy = section.or("policy", Policy::WeightedRoundRobin, one_of(&POLICIES));
    let members = section.required("servers", "[\"backend1\"]", |item| {
        let mut places = Vec::new();
        list(item, "\"backend1\"", |element| {
            let (member, place) = member(element, outline)?;
            if places.contains(&place) {
                return element.wrong(
                    "a server is named twice",
                    "name it once and give it a weight",
                );
            }
            places.push(place);
            reachable(element, mechanism, &servers[place])?;
            Some(member)
        })
    });
    // What the pool itself would refuse was refused above, with its place in the file.
    Pool::new(name?, mechanism, policy, members?)
        .map_err(|error| section.problem(error.to_string(), "correct \"servers\""))
        .ok()
}

/// A server's name, or `{ name = "...", weight = N }`.
fn member(item: &Item<'_>, outline: &Outline<'_>) -> Option<(Member, usize)> {
    let (place, weight) = match item.section(format!("a server of {}", item.place())) {
        None => (outline.servers.resolve(item)?, 1),
        Some(mut table) => {
            let place =
                table.required("name", "\"backend1\"", |name| outline.servers.resolve(name));
            let weight = table.or("weight", 1, integer(1..=Pool::MAX_WEIGHT));
            (place?, weight)
        }
    };
    let Ok(id) = u16::try_from(place) else {
        return item.wrong("more than 65536 servers", "use fewer [[server]] sections");
    };
    let server = ServerId(id);
    Some((Member { server, weight }, place))
}

/// Whether the server can be reached in the way of the pool.
fn reachable(item: &Item<'_>, mechanism: Mechanism, known: &Known) -> Option<()> {
    let (has, kind, key, example) = match mechanism {
        Mechanism::Handoff => (known.has_address, "handoff", "address", "10.77.0.21"),
        Mechanism::Relay => (known.has_http, "relay", "http", "10.77.0.21:8080"),
    };
    if has {
        return Some(());
    }
    item.wrong(
        format_args!("a {kind} pool needs the server's \"{key}\", and this one has none"),
        format!(
            "add {key} = \"{example}\" to the [[server]] at line {}",
            known.line
        ),
    )
}
