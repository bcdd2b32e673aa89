//! What README.md and `docs/` show is right.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::path::Path;

use baton::config::{Config, Scope};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn read(file: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(file)).unwrap()
}

#[test]
fn the_configuration_of_the_quick_start_has_no_error() {
    let readme = read("README.md");
    let files: Vec<&str> = readme
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    let [cluster, proxy, backend] = files[..] else {
        panic!("{} files", files.len());
    };
    for node in [proxy, backend] {
        let text = format!("{node}{cluster}");
        let config = Config::parse(&text, Path::new("baton.toml"), Scope::Elsewhere);
        let config = config.unwrap_or_else(|report| panic!("{report}"));
        assert!(config.needs_handoff());
        assert_eq!(config.servers.len(), 2);
    }
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    let folder = Path::new(ROOT).join("docs");
    let mut links = 0;
    for page in std::fs::read_dir(&folder).unwrap() {
        let page = page.unwrap().path();
        let text = std::fs::read_to_string(&page).unwrap();
        for rest in text.split("](").skip(1) {
            let target = rest.split([')', '#']).next().unwrap();
            if !target.is_empty() && !target.contains("://") {
                assert!(folder.join(target).exists(), "{}: {target}", page.display());
                links += 1;
            }
        }
    }
    assert!(links >= 5, "only {links} links found");
}
