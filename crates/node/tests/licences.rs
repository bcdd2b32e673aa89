//! Every dependency has a licence that `deny.toml` allows.

#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;

#[test]
fn every_dependency_has_an_allowed_licence() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let rules = std::fs::read_to_string(format!("{root}/deny.toml")).unwrap();
    let rules: toml::Table = rules.parse().unwrap();
    let allowed: Vec<&str> = rules["licenses"]["allow"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|each| each.as_str())
        .collect();

    let tree = [
        "tree",
        "--workspace",
        "--offline",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}|{l}",
    ];
    let output = Command::new(env!("CARGO"))
        .args(tree)
        .current_dir(root)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tree = String::from_utf8(output.stdout).unwrap();
    let packages: Vec<_> = tree
        .lines()
        .filter_map(|line| line.trim_end_matches(" (*)").split_once('|'))
        .collect();
    assert!(
        packages.len() > 100,
        "only {} packages found",
        packages.len()
    );
    for (package, licence) in packages {
        assert!(
            satisfied(licence, &allowed),
            "{package} has the licence {licence:?}"
        );
    }
}

/// Whether an SPDX expression can be satisfied with the allowed licences. Old manifests write `/` for `OR`.
fn satisfied(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let satisfied = any(&mut words, allowed);
    satisfied && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

/// `AND` binds tighter than `OR`.
fn any(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut satisfied = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        satisfied |= all(words, allowed);
    }
    satisfied
}

fn all(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut satisfied = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        satisfied &= one(words, allowed);
    }
    satisfied
}

fn one(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let inner = any(words, allowed);
        return words.next_if_eq(&")").is_some() && inner;
    }
    let licence = words.next().unwrap_or_default();
    // An exception to a licence only permits more.
    if words.next_if_eq(&"WITH").is_some() {
        words.next();
    }
    allowed.contains(&licence)
}

#[test]
fn expressions_are_understood() {
    let allowed = ["MIT", "BSD-2-Clause"];
    for yes in [
        "MIT",
        "GPL-2.0 OR MIT",
        "GPL-2.0/MIT",
        "(GPL-2.0 OR MIT) AND BSD-2-Clause",
        "MIT WITH x AND MIT",
    ] {
        assert!(satisfied(yes, &allowed), "{yes}");
    }
    for no in [
        "",
        "GPL-2.0",
        "MIT AND GPL-2.0",
        "(MIT AND GPL-2.0) OR GPL-3.0",
        "MIT GPL-2.0",
    ] {
        assert!(!satisfied(no, &allowed), "{no}");
    }
}
