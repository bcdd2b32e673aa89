//! What a machine must have for a lab.

use std::env;

use anyhow::bail;
use nix::unistd::geteuid;

/// Programs and the Debian packages that bring them.
const PROGRAMS: [(&str, &str); 7] = [
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("nsenter", "util-linux"),
    ("sysctl", "procps"),
    ("ethtool", "ethtool"),
    ("nginx", "nginx"),
    ("curl", "curl"),
];

/// Debian's own: the one that its packages of modules are for.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// # Errors
/// One sentence that names what is missing and what to do.
pub(crate) fn check() -> anyhow::Result<()> {
    if !geteuid().is_root() {
        bail!("a lab makes network namespaces, which only root may: run it as root or with sudo");
    }
    for (program, package) in PROGRAMS {
        require(program, package)?;
    }
    Ok(())
}

/// # Errors
/// When `program` is not in the search path, or, if it is a path, not there.
pub(crate) fn require(program: &str, package: &str) -> anyhow::Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|dir| dir.join(program).is_file()) {
        return Ok(());
    }
    bail!("the program {program} is missing: install the package {package}")
}
