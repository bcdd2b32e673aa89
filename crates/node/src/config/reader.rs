//! A cursor over a spanned TOML table: typed getters that record what is wrong and go on.
//!
//! A getter that answers `None` for a key that is there has recorded a problem, so a section may read all its keys first and give up (`?`)
//! afterwards: every error of the file is found in one pass.

use std::fmt::Display;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::Problems;
use super::suggest;

/// One table of the file. Keys that nobody asked for are reported when it is dropped.
pub(super) struct Section<'a> {
    table: &'a DeTable<'a>,
    span: Range<usize>,
    place: String,
    problems: &'a Problems<'a>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// `place` is how messages name the table, e.g. `[node]`.
    pub(super) fn new(
        table: &'a DeTable<'a>,
        span: Range<usize>,
        place: String,
        problems: &'a Problems<'a>,
    ) -> Self {
        let known = Vec::new();
        Self {
            table,
            span,
            place,
            problems,
            known,
        }
    }

    /// How messages name this table.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Line of the table's beginning.
    pub(super) fn line(&self) -> usize {
        self.problems.line(&self.span)
    }

    /// A key that may be absent.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Item<'a>) -> Option<T>,
    ) -> Option<T> {
        read(&self.item(key)?)
    }

    /// A key that has a default.
    pub(super) fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Item<'a>) -> Option<T>,
    ) -> T {
        self.optional(key, read).unwrap_or(default)
    }

    /// A key that must be there; `example` is a value as one would write it.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&Item<'a>) -> Option<T>,
    ) -> Option<T> {
        let item = self.item(key);
        if item.is_none() {
            self.missing(key, example, "");
        }
        read(&item?)
    }

    /// Records that `key` is missing; `why` says who needs it when it is not always required.
    pub(super) fn missing(&self, key: &str, example: &str, why: impl Display) {
        let message = format!("missing key \"{key}\" in {}{why}", self.place);
        self.problem(message, format!("add {key} = {example}"));
    }

    /// Whether the key is there, right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Records something wrong with the value of a key that is there, and was read.
    pub(super) fn problem_at(&self, key: &str, what: impl Display, help: impl Into<String>) {
        let span = self.table.get(key).map_or(self.span.clone(), Spanned::span);
        let message = format!("\"{key}\" in {}: {what}", self.place);
        self.problems.add(&span, message, help);
    }

    /// The text of a key, if it is one.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.table.get(key)?.get_ref().as_str()
    }

    /// The key's value.
    pub(super) fn item(&mut self, key: &'static str) -> Option<Item<'a>> {
        self.known.push(key);
        let value = self.table.get(key)?;
        Some(Item {
            value: value.get_ref(),
            span: value.span(),
            key: key.to_owned(),
            place: self.place.clone(),
            problems: self.problems,
        })
    }

    /// The table `[key]`; anything else is a problem.
    pub(super) fn table(&mut self, key: &'static str) -> Option<Section<'a>> {
        let item = self.item(key)?;
        let header = format!("[{key}]");
        match item.section(header.clone()) {
            None => item.not(
                "a table",
                format!("begin it with {header} on a line of its own"),
            ),
            section => section,
        }
    }

    /// Every table of `[[key]]`; `header` is how the file writes it.
    pub(super) fn tables(&mut self, key: &'static str, header: &str) -> Vec<Section<'a>> {
        let mut tables = Vec::new();
        let Some(item) = self.item(key) else {
            return tables;
        };
        let Some(array) = item.value.as_array() else {
            item.not::<()>(
                "a list of tables",
                format!("begin each with {header} on a line of its own"),
            );
            return tables;
        };
        for (place, value) in array.iter().enumerate() {
            let element = item.element(value);
            let name = value
                .get_ref()
                .get("name")
                .and_then(|name| name.get_ref().as_str());
            let place = match name {
                Some(name) => format!("{header} \"{name}\""),
                None => format!("{header} number {}", place + 1),
            };
            match element.section(place) {
                Some(section) => tables.push(section),
                None => element
                    .not(
                        "a table",
                        format!("begin it with {header} on a line of its own"),
                    )
                    .unwrap_or_default(),
            }
        }
        tables
    }

    /// Records something wrong with the table as a whole.
    pub(super) fn problem(&self, message: impl Into<String>, help: impl Into<String>) {
        self.problems.add(&self.span, message, help);
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let help = match suggest::nearest(name, self.known.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("known keys: {}", self.known.join(", ")),
            };
            let message = format!("unknown key \"{name}\" in {}", self.place);
            self.problems.add(&key.span(), message, help);
        }
    }
}

/// One value of the file.
pub(super) struct Item<'a> {
    value: &'a DeValue<'a>,
    span: Range<usize>,
    key: String,
    place: String,
    problems: &'a Problems<'a>,
}

impl<'a> Item<'a> {
    /// The value as it was parsed.
    pub(super) fn value(&self) -> &'a DeValue<'a> {
        self.value
    }

    /// The elements, if it is a list; anything else is a problem.
    pub(super) fn elements(&self, example: &str) -> Option<impl Iterator<Item = Item<'a>>> {
        let Some(array) = self.value.as_array() else {
            return self.not("a list", format!("write [{example}]"));
        };
        Some(array.iter().map(|value| self.element(value)))
    }

    fn element(&self, value: &'a Spanned<DeValue<'a>>) -> Item<'a> {
        Item {
            value: value.get_ref(),
            span: value.span(),
            key: self.key.clone(),
            place: self.place.clone(),
            problems: self.problems,
        }
    }

    /// The table inside, if it is one.
    pub(super) fn section(&self, place: String) -> Option<Section<'a>> {
        let table = self.value.as_table()?;
        Some(Section::new(table, self.span.clone(), place, self.problems))
    }

    /// How messages name the table that this value is in.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Records that the value is not of the expected kind.
    pub(super) fn not<T>(&self, kind: &str, help: impl Into<String>) -> Option<T> {
        let found = match self.value {
            DeValue::String(text) => format!("\"{text}\""),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
            other => format!("a {}", other.type_str()),
        };
        self.wrong(format_args!("{found} is not {kind}"), help)
    }

    /// Records that the value is wrong.
    pub(super) fn wrong<T>(&self, what: impl Display, help: impl Into<String>) -> Option<T> {
        let message = format!("\"{}\" in {}: {what}", self.key, self.place);
        self.problems.add(&self.span, message, help);
        None
    }
}
