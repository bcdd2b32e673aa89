//! A connection that has changed its protocol: bytes both ways until both sides have ended.

use std::io;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt, copy_bidirectional_with_sizes};

use crate::client::ClientIo;
use crate::exchange::InProgress;
use crate::upstream::Upstream;

/// Bytes in transit each way.
const BUFFER: usize = 65_536;

/// Both ends of a tunnel that begins once hyper has told the client of it.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) client: OnUpgrade,
    pub(crate) upstream: Box<Upstream>,
    /// Keeps what the client sends meanwhile from being taken for a request.
    pub(crate) in_progress: InProgress,
}

impl Tunnel {
    /// An end of stream passes through; an error on one side ends both.
    pub(crate) async fn run(self) -> io::Result<()> {
        let upgraded = self.client.await.map_err(io::Error::other)?;
        let parts = upgraded
            .downcast::<TokioIo<ClientIo>>()
            .map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut client = parts.io.into_inner().into_tunnel();
        let (mut server, early) = self.upstream.into_stream().await;
        server.write_all(&parts.read_buf).await?;
        client.write_all(&early).await?;
        copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await?;
        drop(self.in_progress);
        Ok(())
    }
}
