//! `baton detach`: takes off this machine what a node has left that did not stop.

use anyhow::Context;

use crate::addresses::Addresses;

/// Prints what was there.
pub(crate) fn detach(node: &str) -> anyhow::Result<()> {
    let detached = baton_kernel::detach(node)?;
    if detached.roles.is_empty() {
        println!("nothing of {node} is in the kernel");
        return Ok(());
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start")?;
    let removed = runtime.block_on(async {
        let mut addresses = Addresses::new()?;
        addresses.remove_left(&detached.vips).await
    })?;
    for role in &detached.roles {
        println!("{role}: programs detached, flows forgotten");
    }
    for address in removed {
        println!("{address}: removed");
    }
    Ok(())
}
