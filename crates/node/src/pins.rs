//! Where a role's programs and flows stay when this process goes.

use std::io::ErrorKind;

use anyhow::Result;
use baton_kernel::{Error, Pins};

use crate::config::Config;

/// The place of this node's role, and what a process before has left there. None: nothing can be kept here, which is told.
pub(crate) fn open(config: &Config, role: &'static str) -> Result<Option<Pins>> {
    match Pins::open(&config.node.name, role) {
        Ok(pins) => {
            if pins.found() {
                tracing::info!(role, "goes on with the flows that are in the kernel");
            }
            Ok(Some(pins))
        }
        Err(error) if is_missing(&error) => {
            tracing::warn!("connections do not outlive this process: {error}");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether there is no place at all, or none for this user.
fn is_missing(error: &Error) -> bool {
    match error {
        Error::NoFileSystem { .. } => true,
        Error::Pin { source, .. } => matches!(
            source.kind(),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
        ),
        _ => false,
    }
}
