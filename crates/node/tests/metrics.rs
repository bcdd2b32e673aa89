//! `docs/metrics.md` names exactly what the program counts.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;

use baton_flow::Counter;
use baton_relay::UpstreamError;

const DOCS: &str = include_str!("../../../docs/metrics.md");
const ABI: &str = include_str!("../../../bpf/include/abi.h");
const FAMILIES: &str = include_str!("../src/admin/families.rs");
const NUMBERS: &str = include_str!("../src/proxy/numbers.rs");

/// The cells in code font at the beginning of each row of the table that follows `heading`.
fn rows(heading: &str, cells: usize) -> BTreeSet<Vec<&'static str>> {
    let (_, section) = DOCS.split_once(heading).unwrap();
    section
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('`').skip(1).step_by(2).take(cells).collect())
        .collect()
}

fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<Vec<&'a str>> {
    names.into_iter().map(|name| vec![name]).collect()
}

/// Every text in quotation marks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2)
}

#[test]
fn every_family_is_documented() {
    let known: BTreeSet<String> = FAMILIES
        .split("Family::")
        .filter_map(|definition| {
            let name = quoted(definition).next()?;
            let suffix = if definition.starts_with("counter(") {
                "_total"
            } else {
                ""
            };
            Some(format!("{name}{suffix}"))
        })
        .collect();
    assert!(known.len() > 15, "only {known:?} found");
    assert_eq!(
        rows("## Families", 1),
        names(known.iter().map(String::as_str))
    );
}

#[test]
fn every_packet_reason_is_documented() {
    for (list, heading) in [
        ("PROXY_COUNTERS", "## Packets at a proxy"),
        ("BALANCER_COUNTERS", "## Packets at a balancer"),
        ("BACKEND_COUNTERS", "## Packets at a back end"),
    ] {
        let (_, list) = ABI.split_once(&format!("#define {list}(X)")).unwrap();
        let (list, _) = list.split_once("\n\n").unwrap();
        let known: BTreeSet<Vec<&str>> = list
            .split("X(")
            .skip(1)
            .map(|counter| quoted(counter).collect())
            .collect();
        assert!(known.len() > 5, "only {known:?} found");
        assert_eq!(rows(heading, 2), known);
    }
}

#[test]
fn every_event_and_error_is_documented() {
    assert_eq!(
        rows("`baton_decisions_total` by", 1),
        names(Counter::ALL.iter().map(|counter| counter.name()))
    );
    assert_eq!(
        rows("`baton_relay_server_errors_total` by", 1),
        names(UpstreamError::ALL.map(UpstreamError::name))
    );
    let (_, kinds) = NUMBERS
        .split_once("const ALL: [(Trouble, &'static str)")
        .unwrap();
    let (kinds, _) = kinds.split_once("];\n").unwrap();
    assert_eq!(rows("`baton_errors_total` by", 1), names(quoted(kinds)));
}

#[test]
fn alerts_name_what_exists() {
    let (_, alerts) = DOCS.split_once("## What to alert on").unwrap();
    let families = rows("## Families", 1);
    let mut seen = 0;
    for word in alerts.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
        if word.starts_with("baton_") {
            assert!(families.contains(&vec![word]), "{word} is no family");
            seen += 1;
        }
    }
    assert!(seen > 5);
    let reasons: BTreeSet<&str> = [
        rows("## Packets at a proxy", 2),
        rows("## Packets at a back end", 2),
    ]
    .into_iter()
    .flatten()
    .map(|row| row[1])
    .collect();
    for pattern in alerts.split("reason=").skip(1) {
        let value = quoted(pattern).next().unwrap();
        for reason in value.split("\\|") {
            assert!(reasons.contains(reason), "{reason} is no reason");
        }
    }
}
