//! A request's way to its server, and the answer's way back.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use baton_packet::RequestHead;
use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tracing::trace;

use crate::body::{AnswerBody, Download};
use crate::dispatch::{Choice, Dispatch};
use crate::errors::Failure;
use crate::exchange::{Exchange, InProgress};
use crate::headers;
use crate::limits::Limits;
use crate::stats::{Stats, UpstreamError};
use crate::tunnel::Tunnel;
use crate::upload::{Progress, Upload};
use crate::upstream::{SendError, Upstream};
use crate::upstreams::Upstreams;

/// Answers the requests of one client connection.
#[derive(Debug)]
pub(crate) struct Forwarder<D> {
    pub(crate) vip: SocketAddr,
    pub(crate) client: SocketAddr,
    /// The client as X-Forwarded-For has it.
    pub(crate) forwarded_for: HeaderValue,
    pub(crate) dispatch: Arc<D>,
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) upstreams: Arc<Upstreams>,
    pub(crate) limits: Limits,
    pub(crate) stats: Arc<Stats>,
    /// What the connection becomes when hyper is done with it.
    pub(crate) tunnel: Mutex<Option<Tunnel>>,
}

/// A server, as the dispatcher named it.
struct Server {
    name: Arc<str>,
    address: SocketAddr,
}

impl<D: Dispatch> Forwarder<D> {
    /// hyper calls this once for each head that [`ClientIo`](crate::client::ClientIo) lets through.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<AnswerBody>, Failure> {
        let (head, in_progress) = self.exchange.accept().ok_or(Failure::Unchecked)?;
        let (parts, body) = request.into_parts();
        let body = Upload::new(body, head.expects_continue);
        let progress = body.progress();
        let mut answer = match self.forward(&head, parts, body).await {
            Ok((answer, upstream, client)) => self.pass_on(answer, upstream, client, in_progress),
            Err(failure) => {
                trace!(client = %self.client, %failure, "answering for the server");
                in_progress.answering();
                failure
                    .answer()
                    .map(|text| AnswerBody::own(text, Some(in_progress)))
            }
        };
        if !is_complete(progress.as_deref()) && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            // Nobody may want the rest; the client should not expect that its next request is read behind it.
            answer
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        self.stats.answered(answer.status());
        Ok(answer)
    }

    /// Sends a request to its server. With the head of the answer come the connection that brings the rest, and the
    /// client's connection if the protocol changes.
    async fn forward(
        &self,
        head: &RequestHead,
        mut parts: Parts,
        body: Upload,
    ) -> Result<(Response<Incoming>, Box<Upstream>, Option<OnUpgrade>), Failure> {
        let server = match self.dispatch.choose(self.vip, self.client, head) {
            Choice::Server { name, address } => Server { name, address },
            Choice::NoRoute => return Err(Failure::NoRoute),
            Choice::NoServer => return Err(Failure::NoServer),
        };
        trace!(client = %self.client, server = %server.name, path = head.path, "forwarding");
        let client = parts.extensions.remove::<OnUpgrade>();
        let offered = headers::remove_hop_by_hop(&mut parts.headers)
            .filter(|offered| !headers::is_http2(offered));
        self.readdress(&mut parts);
        if let Some(offered) = &offered {
            headers::set_upgrade(&mut parts.headers, offered.clone());
        }
        let progress = body.progress();
        let (mut answer, upstream) = self.send(&server, parts, body).await?;
        if headers::is_ambiguous(answer.headers()) {
            return Err(self.failed(&server, UpstreamError::Malformed));
        }

        let confirmed = headers::remove_hop_by_hop(answer.headers_mut());
        *answer.version_mut() = Version::HTTP_11;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok((answer, upstream, None));
        }
        let may_change = offered.is_some() && client.is_some() && is_complete(progress.as_deref());
        match confirmed.filter(|_| may_change) {
            Some(confirmed) => headers::set_upgrade(answer.headers_mut(), confirmed),
            None => return Err(self.failed(&server, UpstreamError::Malformed)),
        }
        Ok((answer, upstream, client))
    }

    /// Makes a request that came to the VIP one to a server.
    fn readdress(&self, parts: &mut Parts) {
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        if !parts.headers.contains_key(HOST) {
            // Only HTTP/1.0 may leave it out.
            let host = parts
                .uri
                .authority()
                .map_or_else(|| self.vip.to_string(), |authority| authority.to_string());
            if let Ok(host) = HeaderValue::from_str(&host) {
                parts.headers.insert(HOST, host);
            }
        }
        if parts.uri.authority().is_some() {
            let path = parts.uri.path_and_query().cloned();
            parts.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        }
        headers::set_forwarded(&mut parts.headers, &self.forwarded_for);
    }

    /// A server may close a kept connection just when a request is sent on it. The request is then sent once more on a
    /// new connection, if doing it twice does no harm and no body is lost (RFC 9110, section 9.2.2).
    async fn send(
        &self,
        server: &Server,
        parts: Parts,
        body: Upload,
    ) -> Result<(Response<Incoming>, Box<Upstream>), Failure> {
        let Some(mut upstream) = self.upstreams.take(server.address) else {
            return self.send_fresh(server, parts, body).await;
        };
        self.stats.upstream_reused();
        let again =
            (parts.method.is_idempotent() && body.progress().is_none()).then(|| parts.clone());
        match (self.send_on(&mut upstream, parts, body).await, again) {
            (Ok(answer), _) => Ok((answer, upstream)),
            (Err(SendError::Server(UpstreamError::Closed)), Some(again)) => {
                self.send_fresh(server, again, Upload::none()).await
            }
            (Err(error), _) => Err(self.send_failed(server, &error)),
        }
    }

    async fn send_fresh(
        &self,
        server: &Server,
        parts: Parts,
        body: Upload,
    ) -> Result<(Response<Incoming>, Box<Upstream>), Failure> {
        let connecting = Upstream::connect(server.address, self.limits.connect_timeout).await;
        let mut upstream = connecting.map_err(|error| self.failed(server, error))?;
        self.stats.upstream_connected();
        match self.send_on(&mut upstream, parts, body).await {
            Ok(answer) => Ok((answer, upstream)),
            Err(error) => Err(self.send_failed(server, &error)),
        }
    }

    async fn send_on(
        &self,
        upstream: &mut Upstream,
        parts: Parts,
        body: Upload,
    ) -> Result<Response<Incoming>, SendError> {
        let progress = body.progress();
        let mut request = Request::from_parts(parts, body);
        if let Some(progress) = progress.clone() {
            hyper::ext::on_informational(&mut request, move |answer| {
                if answer.status() == StatusCode::CONTINUE {
                    progress.want();
                }
            });
        }
        upstream
            .send(request, progress.as_deref(), self.limits.response_timeout)
            .await
    }

    fn send_failed(&self, server: &Server, error: &SendError) -> Failure {
        match error {
            SendError::Body => Failure::BadBody,
            SendError::Server(error) => self.failed(server, *error),
        }
    }

    fn failed(&self, server: &Server, error: UpstreamError) -> Failure {
        self.stats.upstream_failed(error);
        Failure::Upstream {
            server: Arc::clone(&server.name),
            error,
        }
    }

    fn pass_on(
        &self,
        answer: Response<Incoming>,
        upstream: Box<Upstream>,
        client: Option<OnUpgrade>,
        in_progress: InProgress,
    ) -> Response<AnswerBody> {
        in_progress.answering();
        let (parts, incoming) = answer.into_parts();
        let body = if let Some(client) = client {
            let tunnel = Tunnel {
                client,
                upstream,
                in_progress,
            };
            *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
            AnswerBody::own(Full::new(Bytes::new()), None)
        } else {
            let (upstreams, stats) = (Arc::clone(&self.upstreams), Arc::clone(&self.stats));
            AnswerBody::server(
                Download::new(incoming, upstream, upstreams, stats),
                in_progress,
            )
        };
        Response::from_parts(parts, body)
    }
}

/// Whether the client has sent its whole request.
fn is_complete(body: Option<&Progress>) -> bool {
    body.is_none_or(Progress::is_ended)
}
