//! What is wrong with a configuration: every error of a file at once, each with its place and what to do.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Every error of one file, in the file's order. Never empty.
#[derive(Debug, thiserror::Error, Serialize)]
pub struct Report {
    /// The file as the user named it.
    pub file: PathBuf,
    /// What is wrong with it.
    pub errors: Vec<Problem>,
}

/// One error of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

impl Report {
    /// The report of a file that has no text to point into.
    pub(super) fn unreadable(file: &Path, message: String, help: &str) -> Self {
        let problem = Problem {
            line: 1,
            column: 1,
            message,
            help: help.to_owned(),
        };
        Self {
            file: file.to_owned(),
            errors: vec![problem],
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        for problem in &self.errors {
            let Problem {
                line,
                column,
                message,
                help,
            } = problem;
            let help = help.replace('\n', "\n    ");
            writeln!(f, "{file}:{line}:{column}: {message}\n    {help}")?;
        }
        match self.errors.len() {
            1 => write!(f, "{file}: 1 error"),
            n => write!(f, "{file}: {n} errors"),
        }
    }
}

/// Collects the problems of one text while it is read.
pub(super) struct Problems<'a> {
    text: &'a str,
    found: RefCell<Vec<(usize, String, String)>>,
}

impl<'a> Problems<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            found: RefCell::default(),
        }
    }

    /// Records that what stands at `span` is wrong.
    pub(super) fn add(
        &self,
        span: &Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let problem = (span.start, message.into(), help.into());
        self.found.borrow_mut().push(problem);
    }

    /// Line number (from 1) of a place in the text.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        position(self.text, span.start).0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// The report of all that was found.
    pub(super) fn into_report(self, file: &Path) -> Report {
        let mut found = self.found.into_inner();
        found.sort_by_key(|(start, ..)| *start);
        let errors = found.into_iter().map(|(start, message, help)| {
            let (line, column) = position(self.text, start);
            Problem {
                line,
                column,
                message,
                help,
            }
        });
        Report {
            file: file.to_owned(),
            errors: errors.collect(),
        }
    }
}

/// Line and column, from 1, of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let (mut line, mut column) = (1, 1);
    for (_, character) in text.char_indices().take_while(|(at, _)| *at < offset) {
        match character {
            '\n' => (line, column) = (line + 1, 1),
            _ => column += 1,
        }
    }
    (line, column)
}
