//! What must work: each clause of the first milestone's sections 3 (the program), 4 (the data path) and 5 (requests) that is about a
//! whole cluster is a case, named `ITEM/VARIANT`.

mod access_log;
mod ambiguous;
mod browser;
mod checks;
mod clients;
mod confirmed;
mod deaths;
mod downloads;
mod edit;
mod encapsulated;
mod endings;
mod fallback;
mod forged;
mod ground;
mod host;
mod impaired;
mod log;
mod long_path;
mod messages;
mod moved_uploads;
mod narrow;
mod odd;
mod offers;
mod operation;
mod pieces;
mod pipelining;
mod policies;
mod refusals;
mod releases;
mod repeated_binds;
mod rotation;
mod routes;
mod servers;
mod split_head;
mod strays;
mod streams;
mod tcp;
mod thinking;
mod unread;
mod uploads;

use std::time::Duration;

use anyhow::{bail, ensure};

use super::site::{self, ClientTcp, Site};
use super::{SERVERS, Setting};
use crate::cluster::{Lab, Mechanism, Options};
use crate::report::Recorder;
use ground::Ground;
pub(super) use uploads::{NO_EXPECT, put};

/// Where nodes hear each other (docs/wire.md).
const CLUSTER_PORT: u16 = 6950;
/// One way of the long path.
const LONG_DELAY: Duration = Duration::from_millis(25);

/// The node that the client reaches.
const PROXY: &str = "proxy1";

/// Runs all cases.
///
/// # Errors
/// When interrupted, or when the options make it impossible.
pub(crate) fn run(recorder: &mut Recorder, setting: &Setting<'_>) -> anyhow::Result<()> {
    ensure!(
        usize::from(setting.options.backends) >= SERVERS.len(),
        "the matrix needs three back ends or more"
    );
    program_and_data_path(recorder, setting)?;
    hard_cases(recorder, setting)?;
    let families = if setting.options.ipv6 {
        &[true][..]
    } else {
        &[false, true]
    };
    for &ipv6 in families {
        for path in Path::all(setting, ipv6) {
            let mut options = setting.options.clone();
            options.ipv6 = ipv6;
            options.faults.delay = path.delay;
            path_cases(recorder, setting, options, &path)?;
        }
    }
    Ok(())
}

/// Sections 3 and 4. What is about handing off is tried with that mechanism only.
fn program_and_data_path(recorder: &mut Recorder, setting: &Setting<'_>) -> anyhow::Result<()> {
    let mut edited = Ground::new(setting.options.clone(), setting.baton);
    routes::cases(recorder, &mut edited)?;
    policies::cases(recorder, &mut edited)?;
    fallback::unprivileged(recorder, &mut edited)?;
    drop(edited); // with the routes of its last case
    let mut ground = Ground::new(setting.options.clone(), setting.baton);
    requests_and_programs(recorder, &mut ground.other(|_| ()), setting)?;
    odd::cases(recorder, &mut ground, setting.short)?;
    checks::cases(recorder, &mut ground)?;
    if setting.options.mechanism == Mechanism::Relay {
        return Ok(());
    }
    offers::cases(recorder, &mut ground.other(|_| ()), setting.short)?;
    odd::handoff_cases(recorder, &mut ground)?;
    forged::cases(recorder, &mut ground, setting.short)?;
    narrow::cases(recorder, &ground, setting.short)?;
    operation::cases(recorder, &mut ground)?;
    fallback::cases(recorder, &ground)?;
    encapsulated::cases(recorder, &ground, setting.short)?;
    split_head::cases(recorder, &ground, setting.short)?;
    access_log::cases(recorder, &mut ground.other(|_| ()))?;
    host::cases(recorder, &mut ground)?;
    pieces::cases(recorder, &mut ground.other(|_| ()), setting.short)?;
    ambiguous::cases(recorder, &mut ground.other(|_| ()))
}

/// The later milestone's sections 2, requests of every kind, and 5, programs at both ends.
fn requests_and_programs(
    recorder: &mut Recorder,
    ground: &mut Ground<'_>,
    setting: &Setting<'_>,
) -> anyhow::Result<()> {
    let (short, relay) = (setting.short, setting.options.mechanism == Mechanism::Relay);
    pipelining::cases(recorder, ground, short)?;
    messages::cases(recorder, ground)?;
    refusals::cases(recorder, ground)?;
    streams::cases(recorder, ground, short)?;
    endings::cases(recorder, ground, short)?;
    clients::cases(recorder, ground, short)?;
    browser::cases(recorder, ground)?;
    servers::cases(recorder, ground, relay, short)
}

/// What breaks naive designs; some of it on cables that are in a case's hands.
fn hard_cases(recorder: &mut Recorder, setting: &Setting<'_>) -> anyhow::Result<()> {
    let mut ground = Ground::new(setting.options.clone(), setting.baton);
    unread::cases(recorder, &mut ground, setting.short)?;
    tcp::cases(recorder, &mut ground, setting.short)?;
    if setting.options.faults.none() {
        impaired::cases(recorder, &ground, setting.short)?;
    }
    if setting.options.mechanism == Mechanism::Relay {
        return Ok(());
    }
    confirmed::cases(recorder, &mut ground, setting.short)?;
    moved_uploads::cases(recorder, &mut ground, setting.short)?;
    let mut tapped = ground.other(|options| options.tapped = &["client", PROXY]);
    deaths::cases(recorder, &mut tapped)?;
    releases::cases(recorder, &mut tapped, setting.short)?;
    repeated_binds::cases(recorder, &mut tapped, setting.short)?;
    strays::cases(recorder, &mut tapped, setting.short)?;
    pieces::lost_cases(recorder, &mut tapped, setting.short)?;
    thinking::cases(recorder, &mut tapped, setting.short)
}

fn path_cases(
    recorder: &mut Recorder,
    setting: &Setting<'_>,
    options: Options,
    path: &Path,
) -> anyhow::Result<()> {
    let (mechanism, ipv6) = (options.mechanism, options.ipv6);
    let mut site = Site::new(options, setting.baton);
    let item4 = if ipv6 { "5.4/ipv6/" } else { "" };
    items(
        recorder,
        &mut Place {
            site: &mut site,
            tcp: site::ALL_ON,
            path,
            prefix: item4.to_owned(),
        },
    )?;
    if ipv6 {
        return Ok(());
    }
    for &tcp in path.variants {
        let path = &path.shortened();
        items(
            recorder,
            &mut Place {
                site: &mut site,
                tcp,
                path,
                prefix: format!("5.4/{}/", tcp.name),
            },
        )?;
    }
    if path.delay > Duration::ZERO {
        for tcp in [site::ALL_ON, site::NO_TIMESTAMPS] {
            let mut place = Place {
                site: &mut site,
                tcp,
                path,
                prefix: String::new(),
            };
            long_path::cases(recorder, &mut place, mechanism, setting.short)?;
        }
    }
    Ok(())
}

/// Items 1 to 3.
fn items(recorder: &mut Recorder, place: &mut Place<'_, '_>) -> anyhow::Result<()> {
    downloads::cases(recorder, place)?;
    uploads::cases(recorder, place)?;
    rotation::cases(recorder, place)
}

/// Where and how a group of cases runs.
struct Place<'a, 'b> {
    site: &'a mut Site<'b>,
    tcp: ClientTcp,
    path: &'a Path,
    /// Of the cases' names.
    prefix: String,
}

impl Place<'_, '_> {
    fn case_name(&self, item: &str, what: &str) -> String {
        format!("{}{item}/{what}/{}", self.prefix, self.path.label)
    }

    fn lab(&mut self) -> anyhow::Result<&mut Lab> {
        Ok(&mut *self.site.lab(self.tcp)?)
    }
}

/// A kind of path between the client and the cluster, and what is worth trying on it.
#[derive(Clone, Debug)]
struct Path {
    label: String,
    delay: Duration,
    get: Vec<&'static str>,
    put: Vec<&'static str>,
    /// On one connection.
    requests: usize,
    variants: &'static [ClientTcp],
}

impl Path {
    fn all(setting: &Setting<'_>, ipv6: bool) -> Vec<Self> {
        let asked = setting.options.faults.delay;
        if asked > Duration::ZERO {
            return vec![Self::long(asked, setting.short)];
        }
        match (setting.short, ipv6) {
            (true, true) => vec![Self::lan(true)],
            (short, _) => vec![Self::lan(short), Self::long(LONG_DELAY, short)],
        }
    }

    fn lan(short: bool) -> Self {
        let (largest_get, largest_put) = if short {
            ("64MiB", "10MB")
        } else {
            ("1GiB", "100MB")
        };
        Self {
            label: "lan".to_owned(),
            delay: Duration::ZERO,
            get: vec!["0B", "1KB", "1MB", largest_get],
            put: vec!["0B", "1KB", "1MB", largest_put],
            requests: if short { 300 } else { 1000 },
            variants: variants(short),
        }
    }

    fn long(delay: Duration, short: bool) -> Self {
        let files = if short {
            vec!["0B", "1KB", "1MB"]
        } else {
            vec!["0B", "1KB", "1MB", "20MB"]
        };
        Self {
            label: format!("{}ms", 2 * delay.as_millis()),
            delay,
            get: files.clone(),
            put: files,
            requests: if short { 60 } else { 1000 },
            variants: if short { &[] } else { variants(short) },
        }
    }

    /// For the variants of the client's TCP: without what takes long on a long path with a window of 64 KiB.
    fn shortened(&self) -> Self {
        let mut path = self.clone();
        if path.delay > Duration::ZERO {
            path.get.retain(|&file| file != "20MB");
            path.put.retain(|&file| file != "20MB");
            path.requests = path.requests.min(200);
        }
        path
    }
}

fn variants(short: bool) -> &'static [ClientTcp] {
    if short {
        &[site::NO_TIMESTAMPS, site::ALL_OFF]
    } else {
        &[
            site::NO_TIMESTAMPS,
            site::NO_WINDOW_SCALING,
            site::NO_SACK,
            site::ALL_OFF,
        ]
    }
}

/// The answers of one connection, if all requests had one.
fn complete(outcome: crate::client::Outcome) -> anyhow::Result<Vec<crate::client::Answer>> {
    match outcome.error {
        None => Ok(outcome.answers),
        Some(error) => bail!(error),
    }
}
