//! Configuration files: right, or reported with a place in the file and a remedy.

use std::path::Path;

use baton::config::{Config, Scope};

/// The text of a file.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let read = || Config::parse(text, Path::new("x.toml"), Scope::Elsewhere);
    match read() {
        Ok(config) => {
            assert!(read().is_ok());
            let _ = config.needs_handoff();
        }
        Err(report) => {
            assert!(!report.errors.is_empty(), "wrong, and nobody says why");
            let lines = text.split('\n').count();
            for problem in &report.errors {
                assert!((1..=lines).contains(&problem.line), "{problem:?}");
                assert!(!problem.message.is_empty() && !problem.help.is_empty());
                assert!(problem.message != "not understood", "{report}");
            }
            let again = read().unwrap_err();
            assert_eq!(again.to_string(), report.to_string(), "always the same");
        }
    }
}
