//! `baton lab`: drives this very program.

use std::process::ExitCode;

use anyhow::Context;
use baton_lab::LabCommand;

/// Does what the command line says.
pub(crate) fn lab(command: LabCommand) -> anyhow::Result<ExitCode> {
    let baton = std::env::current_exe().context("cannot find this program's own file")?;
    command.run(&baton)
}
