//! Load by wrk.

use std::time::Duration;

use anyhow::Context;

use crate::cluster::Lab;
use crate::command;

/// Connections kept busy at once.
const CONNECTIONS: &str = "64";

/// What wrk saw.
#[derive(Debug, PartialEq)]
pub(crate) struct Load {
    pub(crate) requests_per_second: f64,
    pub(crate) requests: u64,
    /// Answers other than 2xx and 3xx, and errors of sockets.
    pub(crate) failed: u64,
}

/// Sends requests for `url` from the client of the lab, as many as it can.
///
/// # Errors
/// When wrk fails or says something else than it used to.
pub(crate) fn wrk(
    lab: &Lab,
    url: &str,
    headers: &[&str],
    duration: Duration,
) -> anyhow::Result<Load> {
    let arguments: Vec<&str> = headers.iter().flat_map(|header| ["-H", header]).collect();
    run(lab, url, &arguments, duration)
}

/// The same, with requests and checks as a script (in Lua) on the client says.
///
/// # Errors
/// As [`wrk`].
pub(crate) fn wrk_script(
    lab: &Lab,
    url: &str,
    script: &str,
    duration: Duration,
) -> anyhow::Result<Load> {
    run(lab, url, &["-s", script], duration)
}

fn run(lab: &Lab, url: &str, arguments: &[&str], duration: Duration) -> anyhow::Result<Load> {
    let mut wrk = lab.netns("client").command("wrk");
    wrk.args([
        "-t",
        "2",
        "-c",
        CONNECTIONS,
        "-d",
        &format!("{}s", duration.as_secs()),
    ]);
    parse(&command::run(wrk.args(arguments).arg(url))?)
}

fn parse(text: &str) -> anyhow::Result<Load> {
    let context = || format!("unexpected words of wrk: {text}");
    let line = |start: &str| {
        text.lines()
            .map(str::trim)
            .find_map(|line| line.strip_prefix(start))
    };
    let requests_per_second = line("Requests/sec:")
        .and_then(|rest| rest.trim().parse().ok())
        .with_context(context)?;
    let requests = text
        .lines()
        .find(|line| line.contains(" requests in "))
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .with_context(context)?;
    let other_statuses: u64 =
        line("Non-2xx or 3xx responses:").map_or(Ok(0), |rest| rest.trim().parse())?;
    // "connect 0, read 12, write 0, timeout 0"
    let errors: u64 = line("Socket errors:").map_or(0, |rest| {
        rest.split([' ', ','])
            .filter_map(|word| word.parse::<u64>().ok())
            .sum()
    });
    Ok(Load {
        requests_per_second,
        requests,
        failed: other_statuses + errors,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "Running 1s test @ http://127.0.0.1/
  2 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.02ms  100.00us   9.00ms   90.00%
    Req/Sec    17.00k     1.00k   18.00k    70.00%
  34210 requests in 1.00s, 40.11MB read
";

    #[test]
    fn figures() {
        let text = format!("{GOOD}Requests/sec:  34120.55\nTransfer/sec:     40.00MB\n");
        assert_eq!(
            parse(&text).unwrap(),
            Load {
                requests_per_second: 34120.55,
                requests: 34210,
                failed: 0
            }
        );
    }

    #[test]
    fn errors_are_counted() {
        let errors = "  Socket errors: connect 1, read 12, write 0, timeout 3\n  Non-2xx or 3xx responses: 4\n";
        let text = format!("{GOOD}{errors}Requests/sec:  34120.55\n");
        assert_eq!(parse(&text).unwrap().failed, 20);
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(parse("unable to connect").is_err());
    }
}
