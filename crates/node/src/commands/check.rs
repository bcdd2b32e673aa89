//! `baton check`: every error of a configuration.

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
    if json {
        println!(
            "{}",
            json!({ "file": file, "ok": outcome.is_ok(), "errors": errors })
        );
    } else {
        match &outcome {
            Ok(_) => println!("{}: ok", file.display()),
            Err(report) => println!("{report}"),
        }
    }
    match outcome {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
