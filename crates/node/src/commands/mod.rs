//! One file a command of the program.

mod check;

pub(crate) use check::check;
pub(crate) fn run(_: &std::path::Path) -> anyhow::Result<()> {
    Ok(())
}
pub(crate) fn relay(_: &[std::net::SocketAddr], _: &[std::net::SocketAddr]) -> anyhow::Result<()> {
    Ok(())
}
pub(crate) fn status(_: std::net::SocketAddr, _: bool) -> anyhow::Result<()> {
    Ok(())
}
