//! `baton drain`: nothing new for a node.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::status::ask;

/// Asks the node at this admin address, if it is the one of this name.
pub(crate) fn drain(node: &str, admin: SocketAddr, undo: bool) -> anyhow::Result<()> {
    let nobody = || {
        format!(
            "no answer from {admin}; is {node} running there, and is that its [node] admin address (--admin)?"
        )
    };
    let status: Value =
        serde_json::from_str(&ask(admin, "GET", "/status").with_context(nobody)?)
            .with_context(|| format!("what answers at {admin} is not a baton node (--admin)"))?;
    let name = status["node"].as_str().unwrap_or_default();
    ensure!(
        name == node,
        "the node at {admin} is {name}, not {node}: run this on {node}'s machine, or give its admin address (--admin)"
    );
    let method = if undo { "DELETE" } else { "PUT" };
    ask(admin, method, "/drain").with_context(nobody)?;
    if undo {
        println!("{node} may be given something again");
    } else {
        println!(
            "{node} is given nothing new; what it has goes on (`baton status` counts its flows). Undo: baton drain --undo {node}"
        );
    }
    Ok(())
}
