//! Structured logs on standard error, as text or JSON.

use std::io::{IsTerminal, stderr};

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::LogFormat;

/// Changes the level of a running program.
#[derive(Debug)]
pub struct Logging(reload::Handle<Targets, Registry>);

/// Begins to log. Call it once.
pub fn init(level: Level, format: LogFormat) -> Logging {
    let (filter, handle) = reload::Layer::new(targets(level));
    let lines = fmt::layer()
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal());
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .init();
    Logging(handle)
}

impl Logging {
    /// Logs from this level on.
    pub fn set_level(&self, level: Level) {
        if let Err(error) = self.0.reload(targets(level)) {
            tracing::warn!(%error, "the log level stays as it was");
        }
    }
}

/// Baton's own crates at `level`; libraries only warn.
fn targets(level: Level) -> Targets {
    let libraries = LevelFilter::WARN.min(level.into());
    Targets::new()
        .with_default(libraries)
        .with_target("baton", level)
}
