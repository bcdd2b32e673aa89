//! `baton lab`: the command line.

use std::ffi::OsString;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::client::follow;
use crate::cluster::{Lab, Options, requirements};
use crate::impair::{self, Faults};
use crate::report::Recorder;
use crate::scenarios::compare::{self, Effort, Record, Workload};
use crate::scenarios::demo::{self, Story};
use crate::scenarios::{Setting, faults, matrix, replication_cost, scale, table4};
use crate::{interrupt, origin};

/// Clusters in network namespaces of this machine
#[derive(Debug, Subcommand)]
pub enum LabCommand {
    /// Bring a cluster up
    Up(Up),
    /// Run a program on one of the hosts: client, balancer1.., proxy1.., backend1..
    Exec(Exec),
    /// Remove exactly what `up` made
    Down(Name),
    /// Run a scenario on a cluster of its own
    #[command(subcommand)]
    Run(Scenario),
    /// Print what `run compare --record` kept as a table in Markdown
    Table(Table),
    /// Forward frames between two interfaces with faults
    #[command(hide = true)]
    Impair(Impair),
    /// Answer uploads with what arrived
    #[command(hide = true)]
    Origin(Origin),
    /// Follow a plan of requests from standard input, on one connection
    #[command(hide = true)]
    Fetch,
}

#[derive(Args, Debug)]
pub struct Up {
    #[command(flatten)]
    name: Name,
    #[command(flatten)]
    options: Options,
    /// Print the VIP and the hosts as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub struct Exec {
    #[command(flatten)]
    name: Name,
    host: String,
    #[arg(required = true, last = true)]
    command: Vec<OsString>,
}

#[derive(Args, Debug)]
pub struct Impair {
    first: String,
    second: String,
    #[command(flatten)]
    faults: Faults,
    #[arg(long)]
    seed: u64,
}

#[derive(Args, Debug)]
pub struct Origin {
    #[arg(long)]
    listen: SocketAddr,
}

/// Which lab.
#[derive(Args, Debug)]
pub struct Name {
    /// Name of the lab; several can be up at once
    #[arg(long, default_value = "lab", value_parser = name)]
    name: String,
}

/// What is tried on a cluster.
#[derive(Debug, Subcommand)]
pub enum Scenario {
    /// Requests that must work, on a LAN and on a path of 50 ms, from clients of several kinds
    Matrix(Cases),
    /// Direct, handoff, relay, HAProxy and nginx side by side
    Compare(Compare),
    /// Proxies, balancers, back ends and cables that fail, at each moment of a connection's life
    Faults(Cases),
    /// 100 uploads, one of two proxies lost half-way, noticed sooner or later
    Table4(Cases),
    /// Uploads through one to four proxies on slow cables
    Scale(Common),
    /// Several proxies that tell each other of their flows, against one
    ReplicationCost(Common),
    /// Faults of all kinds at random, one after the other, while transfers run
    Chaos(Chaos),
    /// What Baton does, told to a person
    Demo(Common),
}

#[derive(Args, Debug)]
pub struct Cases {
    #[command(flatten)]
    common: Common,
    /// Only cases whose name contains this, or is like this (with *); several with commas between them
    #[arg(long, value_name = "PATTERNS")]
    only: Option<String>,
}

#[derive(Args, Debug)]
pub struct Chaos {
    #[command(flatten)]
    common: Common,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    faults: u32,
}

#[derive(Args, Debug)]
pub struct Compare {
    #[command(flatten)]
    common: Common,
    /// Only these workloads, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = Workload::named)]
    workload: Vec<Workload>,
    /// Of each run that takes a given time (5; with --short 1)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: Option<u64>,
    /// Of each system under each workload; the median counts (5; with --short 2)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: Option<u32>,
    /// Keep the report in this file, with the kind of machine and the date; `baton lab table` makes a table of it
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Table {
    /// What `run compare --record` kept
    file: PathBuf,
}

/// Options of all scenarios.
#[derive(Args, Clone, Debug)]
pub struct Common {
    #[command(flatten)]
    options: Options,
    /// Smaller files and fewer variants
    #[arg(long)]
    short: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl LabCommand {
    /// Does what the command line says. `baton` is this program: it is run on the lab's hosts.
    ///
    /// # Errors
    /// What went wrong and what to do.
    pub fn run(self, baton: &Path) -> anyhow::Result<ExitCode> {
        match self {
            Self::Up(up) => up.run(baton),
            Self::Exec(exec) => exec.run(),
            Self::Down(name) => Lab::down(&name.name).map(|()| ExitCode::SUCCESS),
            Self::Run(scenario) => scenario.run(baton),
            Self::Table(Table { file }) => {
                print!("{}", compare::table(&file)?);
                Ok(ExitCode::SUCCESS)
            }
            Self::Impair(Impair {
                first,
                second,
                faults,
                seed,
            }) => {
                impair::forward(&first, &second, faults, seed, || println!("forwarding"))?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Origin(Origin { listen }) => {
                origin::serve(listen, || println!("listening"))?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Fetch => fetch(),
        }
    }
}

impl Scenario {
    fn run(self, baton: &Path) -> anyhow::Result<ExitCode> {
        requirements::check()?;
        interrupt::catch()?;
        let (name, common) = match &self {
            Self::Matrix(matrix) => ("matrix", &matrix.common),
            Self::Faults(faults) => ("faults", &faults.common),
            Self::Table4(table4) => ("table4", &table4.common),
            Self::Scale(common) => ("scale", common),
            Self::Chaos(chaos) => ("chaos", &chaos.common),
            Self::ReplicationCost(common) => ("replication-cost", common),
            Self::Compare(compare) => ("compare", &compare.common),
            Self::Demo(common) => ("demo", common),
        };
        let Common {
            options,
            short,
            json,
        } = common.clone();
        let mut record = None;
        let mut recorder = Recorder::new(name, options.seed);
        let setting = Setting {
            baton,
            options,
            short,
        };
        match self {
            Self::Matrix(matrix) => {
                recorder = recorder.only(matrix.only);
                matrix::run(&mut recorder, &setting)?;
            }
            Self::Faults(cases) => {
                recorder = recorder.only(cases.only);
                faults::run(&mut recorder, &setting)?;
            }
            Self::Compare(Compare {
                workload,
                seconds,
                runs,
                record: to,
                ..
            }) => {
                record = to;
                let usual = Effort::usual(short);
                let effort = Effort {
                    seconds: seconds.unwrap_or(usual.seconds),
                    runs: runs.unwrap_or(usual.runs),
                };
                compare::run(&mut recorder, &setting, &workload, &effort)?;
            }
            Self::Chaos(chaos) => faults::chaos::run(&mut recorder, &setting, chaos.faults)?,
            Self::ReplicationCost(_) => replication_cost::run(&mut recorder, &setting)?,
            Self::Table4(cases) => {
                recorder = recorder.only(cases.only);
                table4::run(&mut recorder, &setting)?;
            }
            Self::Scale(_) => scale::run(&mut recorder, &setting)?,
            Self::Demo(_) => demo::run(&mut recorder, &setting, &Story { told: !json })?,
        }
        let report = recorder.finish();
        if let Some(file) = record {
            Record::of(&report)?.keep(&file)?;
        }
        if json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            print!("{}", report.summary());
        }
        Ok(if report.ok() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl Up {
    fn run(self, baton: &Path) -> anyhow::Result<ExitCode> {
        interrupt::catch()?;
        let name = self.name.name;
        let mut lab = Lab::up(&name, self.options, baton)?;
        if let Err(error) = lab.content.make_all() {
            let _ = Lab::down(&name);
            return Err(error);
        }
        if self.json {
            println!("{}", described(&lab));
        } else {
            println!("lab {name} is up: the VIP is {}", lab.vip());
            println!(
                "try: baton lab exec --name {name} client -- curl http://{}/b/whoami",
                lab.vip()
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn described(lab: &Lab) -> Value {
    let mut hosts = serde_json::Map::new();
    for host in lab.topology.hosts() {
        let netns = lab.netns(&host.name);
        let files = lab.dir(&host.name);
        let about = json!({"namespace": netns.name(), "ipv4": host.v4(), "ipv6": host.v6(), "files": files});
        hosts.insert(host.name, about);
    }
    json!({"name": lab.name, "vip": lab.vip(), "mechanism": lab.options.mechanism.name(), "hosts": hosts})
}

impl Exec {
    /// Becomes the program.
    fn run(self) -> anyhow::Result<ExitCode> {
        let netns = Lab::host(&self.name.name, &self.host)?;
        let (program, arguments) = self.command.split_first().context("no program")?;
        let error = netns.command(program).args(arguments).exec();
        Err(error).with_context(|| format!("cannot run {} on {}", program.display(), self.host))
    }
}

fn fetch() -> anyhow::Result<ExitCode> {
    let mut plan = String::new();
    std::io::stdin().read_to_string(&mut plan)?;
    let outcome = follow(&serde_json::from_str(&plan).context("the plan is not as expected")?);
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(ExitCode::SUCCESS)
}

/// Part of names of namespaces and of a directory.
fn name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if text.is_empty() || text.len() > 40 || !text.chars().all(allowed) {
        return Err("a name has 1 to 40 letters, digits, - or _".to_owned());
    }
    Ok(text.to_owned())
}
