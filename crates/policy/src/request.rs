//! What a decision reads of a request.

use baton_packet::RequestHead;

/// A parsed request head, as far as routes look at it.
///
/// Every implementation must read the same bytes alike, or the proxy and the relay would disagree on where a request
/// goes; both use [`RequestHead`].
pub trait Request {
    /// The method, case-sensitive.
    fn method(&self) -> &str;

    /// The host in lower case, without port and final dot, an IPv6 address in brackets; `None` when there is none.
    /// That of an absolute target wins over the `Host` field (RFC 9112, section 3.2.2).
    fn host(&self) -> Option<&str>;

    /// The path without the query, as sent, not decoded.
    fn path(&self) -> &str;

    /// What follows the `?`, as sent, not decoded; `None` without one.
    fn query(&self) -> Option<&str>;

    /// The values of the header lines called `name` (any case), in order, without surrounding white space.
    fn header_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a;
}

impl Request for RequestHead {
    fn method(&self) -> &str {
        &self.method
    }

    fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    fn header_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        RequestHead::header_values(self, name)
    }
}
