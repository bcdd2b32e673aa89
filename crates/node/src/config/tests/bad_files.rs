//! Every `tests/bad/*.toml` gives exactly the report beside it.

use std::path::{Path, PathBuf};

use crate::config::{Config, Scope};

#[test]
fn every_bad_file_gives_its_whole_report() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    let files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    assert!(files.len() >= 5, "only {} bad files found", files.len());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let expected = std::fs::read_to_string(file.with_extension("report")).unwrap();
        let name = Path::new(file.file_name().unwrap());
        let report = Config::parse(&text, name, Scope::Elsewhere).unwrap_err();
        assert_eq!(
            report.to_string(),
            expected.trim_end(),
            "the report of {}",
            name.display()
        );
    }
}
