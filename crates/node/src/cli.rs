//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use baton_lab::LabCommand;
use clap::{Parser, Subcommand};

use crate::commands;
use crate::config::Report;

/// One address, many web servers: each request goes to the right server, and its answer straight to the client.
#[derive(Debug, Parser)]
#[command(
    name = "baton",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
#[command(
    after_help = "Example:\n  baton relay --listen 127.0.0.1:8080 --to 127.0.0.1:9001,127.0.0.1:9002"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node with the roles in its configuration.
    ///
    /// SIGTERM and SIGINT stop it and undo what it did to the machine; SIGHUP reads the file again. SIGUSR2 ends the process alone: what it has
    /// in the kernel goes on, as after a crash, and the next start takes it over.
    #[command(after_help = "Example:\n  baton run --config /etc/baton.toml")]
    Run {
        /// The node's configuration, see docs/configuration.md.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Take off this machine what a node has left in the kernel that will not be started again, or is of another version.
    #[command(after_help = "Example:\n  sudo baton detach proxy1")]
    Detach {
        /// The node's name, as in its configuration.
        #[arg(value_name = "NODE")]
        node: String,
    },
    /// Give a node nothing new: a proxy decides for no more flows, and balancers send it no more packets, while what it has goes on; a back
    /// end gets no more requests, and its connections move with their next ones.
    ///
    /// Asks the node itself. It lasts until it is undone or the node is started anew.
    #[command(
        after_help = "Examples:\n  baton drain proxy2\n  baton drain --undo proxy2\n  baton drain backend1 --admin 192.0.2.21:9660"
    )]
    Drain {
        /// The node's name, as in its configuration.
        #[arg(value_name = "NODE")]
        node: String,
        /// It may be given something again.
        #[arg(long)]
        undo: bool,
        /// The node's admin address (`admin` in its configuration).
        #[arg(long, value_name = "ADDR", default_value_t = crate::config::DEFAULT_ADMIN)]
        admin: SocketAddr,
    },
    /// Report every error of a configuration: file, line, what to do.
    #[command(
        after_help = "Examples:\n  baton check /etc/baton.toml\n  baton check --offline proxy2.toml"
    )]
    Check {
        /// The configuration.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        /// The file is for another machine: do not look at this one's interfaces and secret file.
        #[arg(long)]
        offline: bool,
    },
    /// Say what this machine lacks for handoff, if anything.
    #[command(after_help = "Example:\n  sudo baton probe")]
    Probe,
    /// Relay HTTP to servers in turn: no configuration, no privileges.
    #[command(
        after_help = "Example:\n  baton relay --listen 127.0.0.1:8080 --to 127.0.0.1:9001,127.0.0.1:9002"
    )]
    Relay {
        /// Where clients connect; may be given several times.
        #[arg(long, value_name = "ADDR", required = true, value_delimiter = ',')]
        listen: Vec<SocketAddr>,
        /// The servers, which take turns.
        #[arg(
            long,
            value_name = "ADDR[,ADDR...]",
            required = true,
            value_delimiter = ','
        )]
        to: Vec<SocketAddr>,
    },
    /// Clusters in network namespaces of this machine, and what can be tried on them.
    #[command(subcommand)]
    #[command(
        after_help = "Examples:\n  baton lab run demo\n  baton lab up --proxies 1 --backends 3 --mechanism handoff\n  baton lab exec client -- curl http://10.77.0.10/a/whoami\n  baton lab down"
    )]
    Lab(LabCommand),
    /// Show what a running node does.
    #[command(
        after_help = "Examples:\n  baton status\n  baton status --json --admin 127.0.0.1:9660"
    )]
    Status {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        /// The node's admin address (`admin` in its configuration).
        #[arg(long, value_name = "ADDR", default_value_t = crate::config::DEFAULT_ADMIN)]
        admin: SocketAddr,
    },
}

/// Runs the program: its arguments in, its exit code out.
pub fn main() -> ExitCode {
    let done = |()| ExitCode::SUCCESS;
    let outcome = match Cli::parse().command {
        Command::Run { config } => commands::run(&config).map(done),
        Command::Check {
            file,
            json,
            offline,
        } => Ok(commands::check(&file, json, offline)),
        Command::Detach { node } => commands::detach(&node).map(done),
        Command::Drain { node, undo, admin } => commands::drain(&node, admin, undo).map(done),
        Command::Probe => commands::probe().map(done),
        Command::Relay { listen, to } => commands::relay(&listen, &to).map(done),
        Command::Lab(command) => commands::lab(command),
        Command::Status { json, admin } => commands::status(admin, json).map(done),
    };
    outcome.unwrap_or_else(|error| {
        match error.downcast_ref::<Report>() {
            Some(report) => eprintln!("{report}"),
            None => eprintln!("baton: {error:#}"),
        }
        ExitCode::FAILURE
    })
}
