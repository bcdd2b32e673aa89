//! Accepts clients and gives each a task.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};
use tracing::{trace, warn};

use crate::client::ClientIo;
use crate::dispatch::Dispatch;
use crate::exchange::Exchange;
use crate::forward::Forwarder;
use crate::headers;
use crate::limits::Limits;
use crate::stats::Stats;
use crate::upstreams::Upstreams;

/// How often idle server connections are looked through.
const TIDY_INTERVAL: Duration = Duration::from_secs(1);

/// Pause after an error of accept that will not go away by itself at once, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// hyper's buffers hold at least this; larger ones make bulk transfers cheaper.
const BUFFER: usize = 512 * 1024;

/// Relays the requests of all clients of `listener` to the servers that `dispatch` chooses, until `shutdown` completes
/// and the requests in flight are answered, or [`Limits::shutdown_timeout`] has passed.
///
/// What a connection's peer and local addresses say is taken for the client and the VIP. New limits hold for new
/// connections.
pub async fn serve<D: Dispatch>(
    listener: TcpListener,
    dispatch: Arc<D>,
    limits: watch::Receiver<Limits>,
    stats: Arc<Stats>,
    shutdown: impl Future<Output = ()> + Send,
) {
    // On Linux accepted sockets inherit these.
    prepare_socket(SockRef::from(&listener));
    let upstreams = Arc::new(Upstreams::default());
    let (closing, _) = watch::channel(());
    let mut clients = JoinSet::new();
    let mut tidy = interval(TIDY_INTERVAL);
    let mut shutdown = pin!(shutdown);
    loop {
        let now = *limits.borrow();
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept(), if clients.len() < now.max_connections => match accepted {
                Ok((stream, client)) => {
                    let relay = Relay {
                        dispatch: Arc::clone(&dispatch),
                        upstreams: Arc::clone(&upstreams),
                        limits: now,
                        stats: Arc::clone(&stats),
                    };
                    clients.spawn(relay.serve_client(stream, client, closing.subscribe()));
                }
                Err(error) => {
                    stats.accept_failed();
                    if !concerns_one_connection(&error) {
                        warn!(%error, "cannot accept connections; trying again");
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            },
            Some(_) = clients.join_next() => {}
            _ = tidy.tick() => upstreams.expire(now.idle_timeout),
        }
    }
    drop(listener);
    closing.send_replace(());
    let all = async { while clients.join_next().await.is_some() {} };
    let patience = limits.borrow().shutdown_timeout;
    if timeout(patience, all).await.is_err() {
        clients.shutdown().await;
    }
}

/// accept(2): these were errors of a connection that is gone already.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

/// What all clients share.
struct Relay<D> {
    dispatch: Arc<D>,
    upstreams: Arc<Upstreams>,
    limits: Limits,
    stats: Arc<Stats>,
}

impl<D: Dispatch> Relay<D> {
    async fn serve_client(
        self,
        stream: TcpStream,
        client: SocketAddr,
        mut closing: watch::Receiver<()>,
    ) {
        let _open = Open::new(Arc::clone(&self.stats));
        let Ok(vip) = stream.local_addr() else { return };
        let exchange = Arc::new(Exchange::new(Arc::clone(&self.stats)));
        let io = ClientIo::new(
            stream,
            Arc::clone(&exchange),
            self.limits,
            Arc::clone(&self.stats),
        );
        let (client, vip) = (canonical(client), canonical(vip));
        let forwarder = Arc::new(Forwarder {
            vip,
            client,
            forwarded_for: headers::forwarded_for(client.ip()),
            dispatch: self.dispatch,
            exchange,
            upstreams: self.upstreams,
            limits: self.limits,
            stats: self.stats,
            tunnel: Mutex::new(None),
        });
        let service = service_fn(|request| Arc::clone(&forwarder).answer(request));
        let mut connection = pin!(
            http1::Builder::new()
                .header_read_timeout(None)
                .max_buf_size(self.limits.max_head_bytes.max(BUFFER))
                .serve_connection(TokioIo::new(io), service)
                .with_upgrades()
        );
        let served = tokio::select! {
            served = connection.as_mut() => served,
            _ = closing.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            trace!(%client, %error, "connection broken");
        }
        let tunnel = forwarder
            .tunnel
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(tunnel) = tunnel
            && let Err(error) = tunnel.run().await
        {
            trace!(%client, %error, "tunnel broken");
        }
    }
}

/// A connection counts as active as long as this lives.
struct Open(Arc<Stats>);

impl Open {
    fn new(stats: Arc<Stats>) -> Self {
        stats.connection_opened();
        Self(stats)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connection_closed();
    }
}

/// Small answers go at once, and a peer that vanished without a word is found out in about two minutes, whatever the
/// connection waits for.
pub(crate) fn prepare_socket(socket: SockRef<'_>) {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    // Both only fail on a socket that is gone already, as the next read will tell.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&keepalive);
}

/// A client of a listener on `[::]` that came by IPv4 is named by its IPv4 address.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
