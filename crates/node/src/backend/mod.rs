//! The role `backend`.

use anyhow::bail;

use crate::context::Context;

/// Runs the role until the context says stop.
pub async fn run(_context: Context) -> anyhow::Result<()> {
    bail!("role \"backend\" is not there yet: use relay pools only");
}
