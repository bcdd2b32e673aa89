//! The admin address: `/metrics` (Prometheus), `/status` (JSON), `/healthz` (`ok` once every role is ready), `/drain` (`PUT`: nothing new for
//! this node; `DELETE`: again).

pub mod families;
pub mod metrics;
mod registry;
mod status;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::context::Context;
pub use metrics::Sample;
pub use registry::Registry;
pub use status::Status;

/// What an answer that is on its way gets to end when the node does.
const ENDING: Duration = Duration::from_secs(1);

/// Serves until the context says stop.
pub async fn serve(listener: TcpListener, context: Context) -> io::Result<()> {
    let mut stop = context.stop.clone();
    let mut graceful = stop.clone();
    let server = axum::serve(listener, router(context))
        .with_graceful_shutdown(async move { graceful.requested().await });
    // A client that says nothing does not hold the node up.
    let enough = async {
        stop.requested().await;
        sleep(ENDING).await;
    };
    tokio::select! {
        served = server.into_future() => served,
        () = enough => Ok(()),
    }
}

fn router(context: Context) -> Router {
    let admin = Admin {
        context,
        started: Instant::now(),
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/healthz", get(healthz))
        // Methods that no web page may use elsewhere without being asked (CORS): this address is often one that browsers reach.
        .route("/drain", put(drain).delete(undrain))
        .with_state(Arc::new(admin))
}

struct Admin {
    context: Context,
    started: Instant,
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match metrics::encode(admin.context.registry.samples()) {
        Ok(text) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn status(State(admin): State<Arc<Admin>>) -> Json<Status> {
    let config = Arc::clone(&admin.context.config.borrow());
    Json(Status::new(
        &config,
        &admin.context.registry,
        &admin.context.health.borrow(),
        &admin.context.roll.called(),
        &admin.context.duty,
        admin.started.elapsed(),
    ))
}

async fn drain(State(admin): State<Arc<Admin>>) -> Json<Drained> {
    admin.set_draining(true)
}

async fn undrain(State(admin): State<Arc<Admin>>) -> Json<Drained> {
    admin.set_draining(false)
}

/// The answer of `/drain`.
#[derive(Debug, Serialize)]
struct Drained {
    node: String,
    draining: bool,
}

impl Admin {
    fn set_draining(&self, draining: bool) -> Json<Drained> {
        self.context.duty.drain(draining);
        tracing::info!(draining, "asked by the operator");
        let node = self.context.config.borrow().node.name.clone();
        Json(Drained { node, draining })
    }
}

async fn healthz(State(admin): State<Arc<Admin>>) -> Response {
    let waiting = admin.context.registry.waiting_for();
    if waiting.is_empty() {
        return "ok\n".into_response();
    }
    let text = format!("not ready: {}\n", waiting.join(", "));
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}
