//! `baton run`: a node.
//!
//! Tasks: one a role, and the admin server. All hold a [`Context`]; the loop here owns the other ends of its channels,
//! and is the only one that listens to signals. A role that ends before it was told to ends the program.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::admin::{self, Registry};
use crate::checks::{self, Checks};
use crate::config::{Config, Scope};
use crate::context::{Context, Ending, stop};
use crate::duty::Duty;
use crate::health;
use crate::logging::{self, Logging};
use crate::reload::needs_restart;
use crate::roles::Role;
use crate::roll::Roll;
use crate::signals::{Ends, reloads};

/// How long roles may take to undo what they did and to finish what they are at.
const STOPPING: Duration = Duration::from_secs(15);

/// A process that was killed has let go of its sockets after this time.
const DYING: Duration = Duration::from_secs(1);

/// Runs the node until SIGTERM or SIGINT.
pub(crate) fn run(file: &Path) -> anyhow::Result<()> {
    let config = Config::load(file, Scope::ThisMachine)?;
    if config.needs_handoff() {
        baton_kernel::probe()?;
    }
    let logging = logging::init(config.node.log, config.node.log_format);
    let runtime = tokio::runtime::Runtime::new().context("cannot start")?;
    runtime.block_on(node(file, config, &logging))
}

async fn node(file: &Path, config: Config, logging: &Logging) -> anyhow::Result<()> {
    let (mut ends, mut reloads) = (Ends::new()?, reloads()?);
    let roles = Role::of(&config);
    let admin = config.node.admin;
    let (configs, config) = watch::channel(Arc::new(config));
    let (stopper, stop) = stop();
    let registry = Arc::new(Registry::new(roles.iter().map(|role| role.name())));
    let context = Context {
        config,
        stop,
        registry,
        health: health::board(),
        duty: Duty::default(),
        roll: Roll::default(),
        checks: Checks::default(),
    };

    let mut tasks = JoinSet::new();
    if let Some(address) = admin {
        let listener = listen(address).await;
        let listener =
            listener.with_context(|| format!("[node] admin {address} cannot be used"))?;
        let context = context.clone();
        tasks.spawn(async move {
            (
                "admin",
                admin::serve(listener, context).await.map_err(Into::into),
            )
        });
    }
    let checking = context.clone();
    tasks.spawn(async move {
        checks::run(checking).await;
        ("checks", Ok(()))
    });
    for role in roles {
        let context = context.clone();
        tasks.spawn(async move { (role.name(), role.run(context).await) });
    }

    let (ending, outcome) = loop {
        tokio::select! {
            (name, ending) = ends.next() => {
                match ending {
                    Ending::Leave => tracing::info!(signal = name, "stopping"),
                    Ending::HandOver => tracing::info!(signal = name, "stopping; what is in the kernel stays for the next process"),
                }
                break (ending, Ok(()));
            }
            _ = reloads.recv() => reload(file, &configs, logging),
            // Another start may go on.
            ended = tasks.join_next() => break (Ending::HandOver, Err(early_end(ended))),
        }
    };
    stopper.stop(ending);
    let stopped = tokio::select! {
        stopped = timeout(STOPPING, drain(&mut tasks)) => stopped.context("not all roles stopped in time").and_then(|outcome| outcome),
        _ = ends.next() => Err(anyhow!("stopped before all roles had ended, by a second signal")),
    };
    outcome.and(stopped)
}

/// A process that was killed just now is waited for.
async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let end = Instant::now() + DYING;
    loop {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < end => {
                sleep(DYING / 50).await;
            }
            bound => return bound,
        }
    }
}

/// Takes a new configuration, or keeps the old one and says why.
fn reload(file: &Path, configs: &watch::Sender<Arc<Config>>, logging: &Logging) {
    let new = match Config::load(file, Scope::ThisMachine) {
        Ok(new) => new,
        Err(report) => {
            for error in &report.errors {
                let (line, column) = (error.line, error.column);
                tracing::error!(file = %file.display(), line, column, help = error.help, "{}", error.message);
            }
            tracing::error!(file = %file.display(), errors = report.errors.len(), "the old configuration stays");
            return;
        }
    };
    for key in needs_restart(&configs.borrow(), &new) {
        tracing::warn!("a change of {key} takes effect at the next start");
    }
    logging.set_level(new.node.log);
    configs.send_replace(Arc::new(new));
    tracing::info!(file = %file.display(), "configuration reloaded");
}

type Ended = Option<Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>>;

/// Why a task ended that nobody had told to.
fn early_end(ended: Ended) -> anyhow::Error {
    match ended {
        Some(Ok((name, Err(error)))) => error.context(format!("{name} failed")),
        Some(Ok((name, Ok(())))) => anyhow!("{name} ended by itself"),
        Some(Err(error)) => anyhow!(error).context("a role broke"),
        None => anyhow!("the configuration has nothing to do"),
    }
}

/// Waits for all tasks; the first error is the result.
async fn drain(tasks: &mut JoinSet<(&'static str, anyhow::Result<()>)>) -> anyhow::Result<()> {
    let mut outcome = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let ended = match ended {
            Ok((name, result)) => result.with_context(|| format!("{name} did not stop cleanly")),
            Err(error) => Err(anyhow!(error).context("a role broke")),
        };
        outcome = outcome.and(ended);
    }
    outcome
}
