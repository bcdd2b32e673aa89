//! The file that lines go to. Trouble with it is told once, and stops nothing.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub(super) struct LogFile {
    path: PathBuf,
    file: Option<File>,
    failing: bool,
}

impl LogFile {
    /// Appends to the file, which is made if it is not there.
    pub(super) fn open(path: &Path) -> LogFile {
        let mut log = LogFile {
            path: path.to_owned(),
            file: None,
            failing: false,
        };
        let opened = log.opened().map(drop);
        log.note(opened);
        log
    }

    /// Whether it could be written.
    pub(super) fn write(&mut self, text: &[u8]) -> bool {
        if text.is_empty() {
            return true;
        }
        let written = self.opened().and_then(|mut file| file.write_all(text));
        if written.is_err() {
            self.file = None;
        }
        self.note(written)
    }

    fn opened(&mut self) -> io::Result<&File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => File::options().append(true).create(true).open(&self.path)?,
        };
        Ok(self.file.insert(file))
    }

    fn note(&mut self, outcome: io::Result<()>) -> bool {
        let file = self.path.display();
        match &outcome {
            Err(error) if !self.failing => {
                tracing::error!(%file, %error, "the access log cannot be written: lines are lost until it can");
            }
            Ok(()) if self.failing => tracing::info!(%file, "the access log can be written again"),
            _ => {}
        }
        self.failing = outcome.is_err();
        outcome.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays_and_a_lost_file_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs").join("access.log");
        let mut log = LogFile::open(&path);
        assert!(!log.write(b"lost\n"), "there is no such directory");
        std::fs::create_dir(folder.path().join("logs")).unwrap();
        std::fs::write(&path, "before\n").unwrap();
        assert!(log.write(b"one\n"));
        assert!(log.write(b"two\n"));
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "before\none\ntwo\n"
        );
    }
}
