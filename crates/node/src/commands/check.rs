//! `baton check`: every error of a configuration.

use std::io::{Write, stdout};
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use crate::config::{Config, Scope};

/// Prints the report on standard output; fails when it has errors.
pub(crate) fn check(file: &Path, json: bool, offline: bool) -> ExitCode {
    let scope = if offline {
        Scope::Elsewhere
    } else {
        Scope::ThisMachine
    };
    let outcome = Config::load(file, scope);
    let errors = outcome
        .as_ref()
        .err()
        .map_or(&[][..], |report| &report.errors);
    let shown = match &outcome {
        _ if json => {
            json!({ "file": file.to_string_lossy(), "ok": outcome.is_ok(), "errors": errors })
                .to_string()
        }
        Ok(_) => format!("{}: ok", file.display()),
        Err(report) => report.to_string(),
    };
    // Who closes the pipe early has read enough.
    let _ = writeln!(stdout(), "{shown}");
    match outcome {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
