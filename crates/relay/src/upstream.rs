//! Connections to servers.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::deadline::Deadline;
use crate::serve::prepare_socket;
use crate::stats::UpstreamError;
use crate::upload::{Progress, Upload};

/// One connection to a server. It makes progress only while it is polled, by the task of the client that it serves.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    requests: http1::SendRequest<Upload>,
    connection: http1::Connection<TokioIo<TcpStream>, Upload>,
    finished: bool,
}

/// Why a request got no answer.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The client's body broke off or is malformed.
    Body,
    /// The server failed.
    Server(UpstreamError),
}

impl Upstream {
    pub(crate) async fn connect(
        address: SocketAddr,
        limit: Duration,
    ) -> Result<Box<Self>, UpstreamError> {
        let connecting = timeout(limit, TcpStream::connect(address)).await;
        let stream = connecting
            .map_err(|_| UpstreamError::ConnectTimeout)?
            .map_err(|_| UpstreamError::Connect)?;
        prepare_socket(SockRef::from(&stream));
        let (requests, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|_| UpstreamError::Connect)?;
        Ok(Box::new(Self {
            address,
            requests,
            connection,
            finished: false,
        }))
    }

    /// Sends `request` and waits for the head of the answer: up to `limit` from the last that the server got.
    pub(crate) async fn send(
        &mut self,
        request: Request<Upload>,
        progress: Option<&Progress>,
        limit: Duration,
    ) -> Result<Response<Incoming>, SendError> {
        let mut response = pin!(self.requests.send_request(request));
        let (connection, finished) = (&mut self.connection, &mut self.finished);
        let mut deadline = Deadline::default();
        let mut turn = None;
        poll_fn(|cx| {
            let driven = connection.poll_without_shutdown(cx);
            *finished |= driven.is_ready();
            // Only the connection, which has this task's waker, can bring the answer.
            match response.as_mut().poll(&mut unwoken()) {
                Poll::Ready(answer) => {
                    return Poll::Ready(answer.map_err(|error| SendError::of(&error)));
                }
                Poll::Pending if driven.is_ready() => {
                    return Poll::Ready(Err(SendError::Server(UpstreamError::Closed)));
                }
                Poll::Pending => {}
            }
            let now = progress.map_or(Some(0), Progress::server_turn);
            if now != turn {
                turn = now;
                if now.is_some() {
                    deadline.set(limit)
                } else {
                    deadline.clear()
                }
            }
            deadline
                .poll(cx)
                .map(|()| Err(SendError::Server(UpstreamError::ResponseTimeout)))
        })
        .await
    }

    /// Moves bytes of the present request and its answer. Ready when the connection can do no more.
    pub(crate) fn poll_drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.finished {
            let _ = ready!(self.connection.poll_without_shutdown(cx));
            self.finished = true;
        }
        Poll::Ready(())
    }

    /// The bare connection once the server has changed the protocol, and what it has sent since.
    pub(crate) async fn into_stream(mut self: Box<Self>) -> (TcpStream, Bytes) {
        poll_fn(|cx| self.poll_drive(cx)).await;
        let parts = self.connection.into_parts();
        (parts.io.into_inner(), parts.read_buf)
    }

    /// Whether another request can be sent; a connection that the server has closed meanwhile is found out.
    pub(crate) fn is_reusable(&mut self) -> bool {
        self.poll_drive(&mut unwoken()).is_pending() && self.requests.is_ready()
    }
}

fn unwoken() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl SendError {
    fn of(error: &hyper::Error) -> Self {
        if error.is_user() {
            Self::Body
        } else if error.is_parse() {
            Self::Server(UpstreamError::Malformed)
        } else {
            Self::Server(UpstreamError::Closed)
        }
    }
}
