//! `baton probe`: can this machine do handoff?

/// Prints that it can, or fails with what is missing.
pub(crate) fn probe() -> anyhow::Result<()> {
    baton_kernel::probe()?;
    println!("this machine has all that handoff needs");
    Ok(())
}
