//! Answers that the relay gives itself.

use std::sync::Arc;

use baton_packet::HeadError;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use thiserror::Error;

use crate::stats::UpstreamError;

const TEXT: &str = "text/plain; charset=utf-8";

/// Why a request gets no answer of a server. The message is for the client.
#[derive(Debug, Clone, Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    BadHead(HeadError),
    /// hyper saw a request that [`ClientIo`](crate::client::ClientIo) did not: the connection is closed.
    #[error("the request head was not checked")]
    Unchecked,
    #[error("the request's body is malformed or broke off")]
    BadBody,
    #[error("the request head took too long")]
    SlowHead,
    #[error("the request head is too long")]
    LongHead,
    #[error("CONNECT is not supported here")]
    ConnectMethod,
    #[error("no route matches this request")]
    NoRoute,
    #[error("no server is available for this request")]
    NoServer,
    #[error("server {server} {}", said_of(*.error))]
    Upstream {
        server: Arc<str>,
        error: UpstreamError,
    },
}

fn said_of(error: UpstreamError) -> &'static str {
    match error {
        UpstreamError::Connect => "refused the connection or cannot be reached",
        UpstreamError::ConnectTimeout => "did not accept the connection in time",
        UpstreamError::Closed => "closed the connection without an answer",
        UpstreamError::Malformed => "sent an answer that is not HTTP/1.1",
        UpstreamError::ResponseTimeout => "did not answer in time",
        UpstreamError::Broken => "broke off its answer",
    }
}

impl Failure {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::BadHead(_) | Self::BadBody | Self::Unchecked => StatusCode::BAD_REQUEST,
            Self::SlowHead => StatusCode::REQUEST_TIMEOUT,
            Self::LongHead => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::ConnectMethod => StatusCode::NOT_IMPLEMENTED,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::NoServer => StatusCode::SERVICE_UNAVAILABLE,
            Self::Upstream {
                error: UpstreamError::ConnectTimeout | UpstreamError::ResponseTimeout,
                ..
            } => StatusCode::GATEWAY_TIMEOUT,
            Self::Upstream { .. } => StatusCode::BAD_GATEWAY,
        }
    }

    /// The answer to a request.
    pub(crate) fn answer(&self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(self.text()));
        *response.status_mut() = self.status();
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
        response
    }

    /// The whole answer to what is not a request; the connection is closed behind it.
    pub(crate) fn last_words(&self) -> Bytes {
        let (status, text) = (self.status(), self.text());
        let length = text.len();
        Bytes::from(format!(
            "HTTP/1.1 {status}\r\ncontent-type: {TEXT}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}"
        ))
    }

    fn text(&self) -> String {
        format!("{}: {self}\n", self.status())
    }
}
