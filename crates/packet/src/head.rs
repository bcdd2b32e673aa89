//! HTTP/1.x request heads (RFC 9112), read so strictly that no server can read them otherwise.
//!
//! A router that reads a message differently from the server behind it routes one request and lets another be executed
//! (request smuggling). What is ambiguous is therefore refused, not repaired. `tests/corpus/heads.txt` lists it.

use bytes::Bytes;

use crate::authority::Authority;

/// Header fields that a head may have; more are refused.
pub const MAX_HEADERS: usize = 100;

/// No method that is in use is longer (the longest registered one is UPDATEREDIRECTREF).
const MAX_METHOD: usize = 32;

/// What the bytes at hand are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of what may become a valid head.
    Partial,
    /// A whole head; a body or another request may follow it.
    Complete(RequestHead),
}

/// Why bytes are not a request head that can be routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// CR or LF alone ends a line for some servers and not for others (RFC 9112, section 2.2).
    #[error("a line ends with CR or LF alone instead of CR LF")]
    LineEnd,
    /// More than one empty line before the request line.
    #[error("more than one empty line before the request line")]
    EmptyLines,
    /// A control character other than a tab inside a header value. TLS and other binary protocols end here.
    #[error("control character 0x{0:02x} in the request head")]
    ControlCharacter(u8),
    /// The first word is not a method.
    #[error("the method is not a token of at most 32 characters")]
    Method,
    /// The request target is in none of the four forms of RFC 9112, section 3.2, or does not fit the method.
    #[error("malformed request target")]
    Target,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("HTTP version is neither 1.0 nor 1.1")]
    Version,
    /// The connection preface of HTTP/2 (RFC 9113, section 3.4).
    #[error("HTTP/2 without TLS: use HTTP/1.1")]
    Http2,
    /// A header line is malformed: no token before the colon, a folded line, space before the colon.
    #[error("malformed header line")]
    Header,
    /// More than [`MAX_HEADERS`] header fields.
    #[error("more than {MAX_HEADERS} header fields")]
    TooManyHeaders,
    /// HTTP/1.1 without Host, or Host more than once.
    #[error("there must be exactly one Host field")]
    HostCount,
    /// The Host field or the target's authority is not `name`, `name:port` or an address.
    #[error("Host is not a valid host name with optional port")]
    Host,
    /// The target names another host than the Host field.
    #[error("request target and Host field name different hosts")]
    HostMismatch,
    /// Content-Length is repeated, a list, not a number, or too large.
    #[error("Content-Length is not one decimal number")]
    ContentLength,
    /// Transfer-Encoding is repeated, other than `chunked`, or in HTTP/1.0.
    #[error("Transfer-Encoding is not exactly \"chunked\"")]
    TransferEncoding,
    /// Both Content-Length and Transfer-Encoding (RFC 9112, section 6.3).
    #[error("both Content-Length and Transfer-Encoding")]
    TwoLengths,
}

/// HTTP/1's two versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// How much follows the head before the next request begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// So many bytes.
    Length(u64),
    /// Until its last chunk; where that is, only a reader of the whole body knows.
    Chunked,
    /// The connection may stop being HTTP after this request: CONNECT, or an Upgrade.
    Tunnel,
}

/// One request head. Its bytes are kept as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// As sent; methods are case-sensitive.
    pub method: String,
    /// Of the Host field or the target, lowercase and without port; `None` only in HTTP/1.0.
    pub host: Option<String>,
    /// As sent, not decoded, without query. `/` for an absolute target without path, `*` for a server-wide OPTIONS,
    /// empty for CONNECT.
    pub path: String,
    /// What follows the first `?`, as sent.
    pub query: Option<String>,
    /// The protocol's version.
    pub version: Version,
    /// Bytes from the beginning, an empty line before the request line included, through the empty line at the end.
    pub head_len: usize,
    /// What follows.
    pub body: BodyLength,
    /// Whether the server keeps the connection after this request, as far as the client is asked.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110, section 10.1.1).
    pub expects_continue: bool,
    headers: Vec<(Bytes, Bytes)>,
}

impl RequestHead {
    /// Reads the head at the beginning of `bytes`.
    ///
    /// One empty line before the request line is skipped, as RFC 9112 (section 2.2) asks; it counts in `head_len`.
    /// The caller limits the length of what it passes; time is linear in it.
    ///
    /// # Errors
    /// [`HeadError`], as soon as no continuation could make the bytes a valid head. Whether Host and the lengths of
    /// the body are right is judged when the head is complete.
    pub fn parse(bytes: &[u8]) -> Result<Parsed, HeadError> {
        if bytes == b"\r" {
            return Ok(Parsed::Partial);
        }
        let skipped = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
        let rest = &bytes[skipped..];
        if matches!(rest, [b'\r' | b'\n', ..]) {
            return Err(if skipped > 0 {
                HeadError::EmptyLines
            } else {
                HeadError::LineEnd
            });
        }
        check_method(rest)?;
        let length = check_lines(rest)?;
        let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut fields);
        let Some(length) = length else {
            return request
                .parse(rest)
                .map(|_| Parsed::Partial)
                .map_err(refusal);
        };
        let text = Bytes::copy_from_slice(&rest[..length]);
        if request.parse(&text).map_err(refusal)? != httparse::Status::Complete(length) {
            return Err(HeadError::Header);
        }

        let version = if request.version == Some(1) {
            Version::Http11
        } else {
            Version::Http10
        };
        let fields = Fields(
            request
                .headers
                .iter()
                .map(|field| {
                    (
                        text.slice_ref(field.name.as_bytes()),
                        text.slice_ref(field.value),
                    )
                })
                .collect(),
        );
        let method = request.method.ok_or(HeadError::Method)?;
        let target = Target::parse(method, request.path.ok_or(HeadError::Target)?)?;
        let body = body(&fields, version)?;
        let tunnel = method == "CONNECT" || fields.upgrades(version);
        Ok(Parsed::Complete(RequestHead {
            method: method.to_owned(),
            host: host(target.authority, &fields, version)?,
            path: target.path,
            query: target.query,
            version,
            head_len: skipped + length,
            body: if tunnel { BodyLength::Tunnel } else { body },
            keep_alive: match version {
                Version::Http11 => !fields.lists(b"connection", b"close"),
                Version::Http10 => fields.lists(b"connection", b"keep-alive"),
            },
            expects_continue: version == Version::Http11
                && fields.lists(b"expect", b"100-continue"),
            headers: fields.0,
        }))
    }

    /// The values of all header fields of this name (any case), in order, without surrounding space.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        values(&self.headers, name.as_bytes())
    }

    /// Whether the answer has no body whatever its head says.
    pub fn is_head_method(&self) -> bool {
        self.method == "HEAD"
    }
}

/// The method can be refused before the line is complete; HTTP/2's preface looks like one.
fn check_method(bytes: &[u8]) -> Result<(), HeadError> {
    if bytes.starts_with(b"PRI * HTTP/2") {
        return Err(HeadError::Http2);
    }
    let method = bytes.iter().take_while(|byte| **byte != b' ');
    let mut length = 0;
    for byte in method {
        length += 1;
        match *byte {
            byte if byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte) => {}
            b'\r' | b'\n' => return Err(HeadError::Method),
            byte if byte.is_ascii_control() => return Err(HeadError::ControlCharacter(byte)),
            _ => return Err(HeadError::Method),
        }
        if length > MAX_METHOD {
            return Err(HeadError::Method);
        }
    }
    if length == 0 && !bytes.is_empty() {
        Err(HeadError::Method)
    } else {
        Ok(())
    }
}

/// Checks line ends and control characters of the head; its length, if its end is there.
fn check_lines(bytes: &[u8]) -> Result<Option<usize>, HeadError> {
    let mut line = 0;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\r' => match bytes.get(at + 1) {
                Some(b'\n') | None => {}
                Some(_) => return Err(HeadError::LineEnd),
            },
            b'\n' if at == 0 || bytes[at - 1] != b'\r' => return Err(HeadError::LineEnd),
            b'\n' if at == line + 1 => return Ok(Some(at + 1)),
            b'\n' => line = at + 1,
            b'\t' => {}
            control if control.is_ascii_control() => {
                return Err(HeadError::ControlCharacter(*control));
            }
            _ => {}
        }
    }
    Ok(None)
}

fn refusal(error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::HeaderName | httparse::Error::HeaderValue => HeadError::Header,
        httparse::Error::NewLine => HeadError::LineEnd,
        httparse::Error::Token => HeadError::Target,
        httparse::Error::TooManyHeaders => HeadError::TooManyHeaders,
        httparse::Error::Version => HeadError::Version,
        httparse::Error::Status => HeadError::Header,
    }
}

/// A request target, taken apart.
struct Target {
    authority: Option<(Authority, u16)>,
    path: String,
    query: Option<String>,
}

impl Target {
    fn parse(method: &str, text: &str) -> Result<Target, HeadError> {
        // A fragment is never sent (RFC 9112, section 3.2); servers that meet one cut it off, or do not.
        if text.contains('#') {
            return Err(HeadError::Target);
        }
        if method == "CONNECT" {
            let authority = Authority::parse(text).filter(|authority| authority.port.is_some());
            let authority = authority.ok_or(HeadError::Target)?;
            let port = authority.port.unwrap_or_default();
            return Ok(Target {
                authority: Some((authority, port)),
                path: String::new(),
                query: None,
            });
        }
        if text.starts_with('/') {
            return Ok(Target::at(None, text));
        }
        if text == "*" && method == "OPTIONS" {
            return Ok(Target::at(None, text));
        }
        let (scheme, rest) = text.split_once("://").ok_or(HeadError::Target)?;
        let default_port = match scheme.to_ascii_lowercase().as_str() {
            "http" => 80,
            "https" => 443,
            _ => return Err(HeadError::Target),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let authority = Authority::parse(authority).ok_or(HeadError::Host)?;
        Ok(Target::at(Some((authority, default_port)), path))
    }

    fn at(authority: Option<(Authority, u16)>, path_and_query: &str) -> Target {
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (path_and_query, None),
        };
        Target {
            authority,
            path: if path.is_empty() { "/" } else { path }.to_owned(),
            query,
        }
    }
}

/// The one host that target and Host field agree on.
fn host(
    target: Option<(Authority, u16)>,
    fields: &Fields,
    version: Version,
) -> Result<Option<String>, HeadError> {
    let field = match fields
        .only(b"host")
        .map_err(|Repeated| HeadError::HostCount)?
    {
        Some(value) => {
            let text = std::str::from_utf8(value).map_err(|_| HeadError::Host)?;
            Some(Authority::parse(text).ok_or(HeadError::Host)?)
        }
        None if version == Version::Http11 => return Err(HeadError::HostCount),
        None => None,
    };
    match (target, field) {
        (None, field) => Ok(field.map(|field| field.host)),
        (Some((target, _)), None) => Ok(Some(target.host)),
        (Some((target, default)), Some(field)) => {
            let same_port = target.port.unwrap_or(default) == field.port.unwrap_or(default);
            if target.host == field.host && same_port {
                Ok(Some(target.host))
            } else {
                Err(HeadError::HostMismatch)
            }
        }
    }
}

fn body(fields: &Fields, version: Version) -> Result<BodyLength, HeadError> {
    let length = fields
        .only(b"content-length")
        .map_err(|Repeated| HeadError::ContentLength)?;
    let encoding = fields
        .only(b"transfer-encoding")
        .map_err(|Repeated| HeadError::TransferEncoding)?;
    match (length, encoding) {
        (Some(_), Some(_)) => Err(HeadError::TwoLengths),
        (None, None) => Ok(BodyLength::Length(0)),
        (None, Some(coding))
            if version == Version::Http11 && coding.eq_ignore_ascii_case(b"chunked") =>
        {
            Ok(BodyLength::Chunked)
        }
        (None, Some(_)) => Err(HeadError::TransferEncoding),
        (Some(digits), None) => decimal(digits)
            .map(BodyLength::Length)
            .ok_or(HeadError::ContentLength),
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok()?;
    // `parse` would take a sign.
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

struct Fields(Vec<(Bytes, Bytes)>);

struct Repeated;

impl Fields {
    /// The value of a field that may come once.
    fn only(&self, name: &[u8]) -> Result<Option<&[u8]>, Repeated> {
        let mut values = values(&self.0, name);
        let first = values.next();
        if values.next().is_some() {
            Err(Repeated)
        } else {
            Ok(first)
        }
    }

    /// Whether a field that is a comma-separated list has this element (any case).
    fn lists(&self, name: &[u8], element: &[u8]) -> bool {
        values(&self.0, name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(element))
    }

    /// RFC 9110, section 7.8: an Upgrade counts if Connection names it, and not in HTTP/1.0.
    fn upgrades(&self, version: Version) -> bool {
        version == Version::Http11
            && values(&self.0, b"upgrade").next().is_some()
            && self.lists(b"connection", b"upgrade")
    }
}

fn values<'a>(fields: &'a [(Bytes, Bytes)], name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    fields
        .iter()
        .filter(move |(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_ref())
}
