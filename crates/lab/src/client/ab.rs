//! Load by ApacheBench, which speaks HTTP/1.0.

use anyhow::Context;

use crate::cluster::{Lab, requirements};
use crate::command;

/// Connections at once.
const CONNECTIONS: &str = "16";

/// What ab saw.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bench {
    pub(crate) complete: u64,
    /// Errors of all kinds: connections, lengths, and answers other than 2xx.
    pub(crate) failed: u64,
    /// Requests on connections that were kept.
    pub(crate) kept_alive: u64,
}

/// Sends so many requests for `url` from the client of the lab; `-k` among the arguments keeps connections.
///
/// # Errors
/// When ab is missing, gives up or says something else than it used to.
pub(crate) fn ab(lab: &Lab, url: &str, requests: u64, arguments: &[&str]) -> anyhow::Result<Bench> {
    requirements::require("ab", "apache2-utils")?;
    let mut ab = lab.netns("client").command("ab");
    ab.args(["-q", "-c", CONNECTIONS, "-n", &requests.to_string()]);
    parse(&command::run(ab.args(arguments).arg(url))?)
}

fn parse(text: &str) -> anyhow::Result<Bench> {
    let figure = |name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.trim().parse::<u64>().ok()
    };
    let needed =
        |name: &str| figure(name).with_context(|| format!("unexpected words of ab: {text}"));
    Ok(Bench {
        complete: needed("Complete requests:")?,
        failed: needed("Failed requests:")?
            + figure("Write errors:").unwrap_or(0)
            + figure("Non-2xx responses:").unwrap_or(0),
        kept_alive: figure("Keep-Alive requests:").unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        let text = "Time taken for tests:   0.1 seconds\nComplete requests:      600\nFailed requests:        2\n   (Connect: 0, Receive: 0, Length: 2, Exceptions: 0)\nNon-2xx responses:      3\nKeep-Alive requests:    594\n";
        let expected = Bench {
            complete: 600,
            failed: 5,
            kept_alive: 594,
        };
        assert_eq!(parse(text).unwrap(), expected);
        assert!(parse("apr_socket_connect(): Connection refused").is_err());
    }
}
