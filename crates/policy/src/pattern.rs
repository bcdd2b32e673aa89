//! The conditions of a route, each parsed once and then certain to make sense.

use std::net::Ipv6Addr;

use regex::{Regex, RegexBuilder};
use thiserror::Error;

use crate::fields;
use crate::request::Request;

/// Bytes that a compiled `path_regex` may take; a larger one is refused.
const REGEX_SIZE_LIMIT: usize = 1 << 20;

/// Why a condition was refused, and what to write instead.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum PatternError {
    #[error(
        "host \"{0}\": write a name without port, such as \"www.example.com\", or \"*.example.com\" for all names below it"
    )]
    Host(String),
    #[error("path \"{0}\": a path begins with \"/\" and has no query; use `query` for parameters")]
    Path(String),
    #[error("path_regex \"{pattern}\": {reason}")]
    Regex {
        pattern: String,
        reason: regex::Error,
    },
    #[error("method \"{0}\": write a method's name, such as \"GET\"")]
    Method(String),
    #[error("`method` has an empty list: name at least one method, or leave it out for any")]
    NoMethod,
    #[error("{kind} name \"{name}\": {remedy}")]
    Name {
        kind: &'static str,
        name: String,
        remedy: &'static str,
    },
}

/// A request's host: one name, or all names below a suffix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// Exactly this name, in lower case.
    Exact(String),
    /// Any name that ends with this, which begins with a dot; not the suffix itself.
    Below(String),
}

impl HostPattern {
    /// Parses `name` or `*.suffix`, in any case.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let error = || PatternError::Host(text.to_owned());
        let host = text.to_ascii_lowercase();
        if let Some(literal) = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            let address: Ipv6Addr = literal.parse().map_err(|_| error())?;
            return Ok(Self::Exact(format!("[{address}]")));
        }
        let host = host.strip_suffix('.').unwrap_or(&host);
        let name = host.strip_prefix("*.").unwrap_or(host);
        let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.starts_with('.') || !name.bytes().all(is_name_byte) {
            return Err(error());
        }
        Ok(match host.strip_prefix('*') {
            Some(suffix) => Self::Below(suffix.to_owned()),
            None => Self::Exact(host.to_owned()),
        })
    }

    pub(crate) fn matches(&self, request: &impl Request) -> bool {
        let Some(host) = request.host() else {
            return false;
        };
        match self {
            Self::Exact(name) => host == name,
            Self::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        }
    }
}

/// A request's path, without query.
#[derive(Debug, Clone)]
pub enum PathPattern {
    /// Exactly this path.
    Exact(String),
    /// A path that begins with this.
    Prefix(String),
    /// A path in which this is found.
    Regex(Regex),
}

impl PathPattern {
    /// The condition `path`.
    pub fn exact(path: &str) -> Result<Self, PatternError> {
        // "*" is the target of a server-wide OPTIONS (RFC 9112, 3.2.4).
        if path == "*" {
            Ok(Self::Exact(path.to_owned()))
        } else {
            checked_path(path).map(Self::Exact)
        }
    }

    /// The condition `path_prefix`.
    pub fn prefix(path: &str) -> Result<Self, PatternError> {
        checked_path(path).map(Self::Prefix)
    }

    /// The condition `path_regex`, in the syntax of the `regex` crate, whose time is linear in the path's length.
    pub fn regex(pattern: &str) -> Result<Self, PatternError> {
        RegexBuilder::new(pattern)
            .size_limit(REGEX_SIZE_LIMIT)
            .dfa_size_limit(REGEX_SIZE_LIMIT)
            .build()
            .map(Self::Regex)
            .map_err(|reason| PatternError::Regex {
                pattern: pattern.to_owned(),
                reason,
            })
    }

    pub(crate) fn matches(&self, request: &impl Request) -> bool {
        let path = request.path();
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => path.starts_with(prefix.as_str()),
            Self::Regex(regex) => regex.is_match(path),
        }
    }
}

fn checked_path(path: &str) -> Result<String, PatternError> {
    let plain = path
        .bytes()
        .all(|byte| byte.is_ascii_graphic() || !byte.is_ascii());
    if path.starts_with('/') && plain && !path.contains(['?', '#']) {
        Ok(path.to_owned())
    } else {
        Err(PatternError::Path(path.to_owned()))
    }
}

/// One or more methods, case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodPattern(Vec<String>);

impl MethodPattern {
    /// Any of `methods`.
    pub fn parse<'a>(methods: impl IntoIterator<Item = &'a str>) -> Result<Self, PatternError> {
        let checked = |method: &str| {
            if is_token(method) {
                Ok(method.to_owned())
            } else {
                Err(PatternError::Method(method.to_owned()))
            }
        };
        let methods: Vec<_> = methods.into_iter().map(checked).collect::<Result<_, _>>()?;
        if methods.is_empty() {
            Err(PatternError::NoMethod)
        } else {
            Ok(Self(methods))
        }
    }

    pub(crate) fn matches(&self, request: &impl Request) -> bool {
        self.0.iter().any(|method| method == request.method())
    }
}

/// A header line, a cookie or a query parameter: present, or with exactly one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPattern {
    place: Place,
    name: String,
    value: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Header,
    Cookie,
    Query,
}

impl FieldPattern {
    /// A header line called `name`, in any case; without `value`: of any value.
    pub fn header(name: &str, value: Option<&str>) -> Result<Self, PatternError> {
        let remedy = "a header's name has letters, digits and \"-\"; write it without colon";
        Self::new(Place::Header, "header", name, value, is_token(name), remedy)
    }

    /// A cookie; its name is case-sensitive.
    pub fn cookie(name: &str, value: Option<&str>) -> Result<Self, PatternError> {
        let remedy = "a cookie's name has no space, \"=\" or \";\"";
        Self::new(Place::Cookie, "cookie", name, value, is_token(name), remedy)
    }

    /// A query parameter, name and value as sent, not decoded.
    pub fn query(name: &str, value: Option<&str>) -> Result<Self, PatternError> {
        let valid = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"=&#".contains(&byte));
        let remedy = "write it as it stands in the query, percent-encoded, without \"=\" and \"&\"";
        Self::new(Place::Query, "query", name, value, valid, remedy)
    }

    fn new(
        place: Place,
        kind: &'static str,
        name: &str,
        value: Option<&str>,
        valid: bool,
        remedy: &'static str,
    ) -> Result<Self, PatternError> {
        let name = name.to_owned();
        if valid {
            Ok(Self {
                place,
                name,
                value: value.map(str::to_owned),
            })
        } else {
            Err(PatternError::Name { kind, name, remedy })
        }
    }

    pub(crate) fn matches(&self, request: &impl Request) -> bool {
        match self.place {
            Place::Header => request
                .header_values(&self.name)
                .any(|value| self.value_is(value)),
            Place::Cookie => request
                .header_values("cookie")
                .flat_map(fields::cookies)
                .any(|pair| self.pair_is(pair)),
            Place::Query => {
                let query = request.query().unwrap_or_default();
                fields::parameters(query.as_bytes()).any(|pair| self.pair_is(pair))
            }
        }
    }

    fn pair_is(&self, (name, value): (&[u8], &[u8])) -> bool {
        name == self.name.as_bytes() && self.value_is(value)
    }

    fn value_is(&self, sent: &[u8]) -> bool {
        self.value
            .as_ref()
            .is_none_or(|value| value.as_bytes() == sent)
    }
}

/// `token` of RFC 9110, 5.6.2.
fn is_token(text: &str) -> bool {
    let is_token_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token_byte)
}
