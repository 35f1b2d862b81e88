//! Accepts connections until told to stop. hyper is driven directly, not through `axum::serve`, because a fault
//! may ask for a connection to be closed without an answer.

use super::host::Host;
use super::web::Closed;
use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::ServiceExt;

/// How long connections get to finish when the server stops.
const GRACE: Duration = Duration::from_secs(2);

/// A pause after a failed accept (no file descriptors left), so that the loop does not spin.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

pub(super) async fn serve(
    listener: TcpListener,
    routes: Router,
    stop: impl Future<Output = ()>,
    host: &Host,
) {
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, routes.clone(), stopped.clone()));
            }
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
    }
    drop(listener);
    host.release();
    stopping.send_replace(true);
    let finished = async { while connections.join_next().await.is_some() {} };
    // After the grace the rest is cut off, which a client meets like any lost connection.
    let _ = tokio::time::timeout(GRACE, finished).await;
}

#[derive(Debug)]
struct NoAnswer;

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("closed without an answer")
    }
}

impl std::error::Error for NoAnswer {}

async fn connection(stream: TcpStream, routes: Router, mut stopped: watch::Receiver<bool>) {
    // Small answers must not wait for an acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let routes = routes.clone();
        async move {
            let answered: Result<_, Infallible> = routes.oneshot(request.map(Body::new)).await;
            let Ok(response) = answered;
            if response.extensions().get::<Closed>().is_some() { Err(NoAnswer) } else { Ok(response) }
        }
    });
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    // How a connection ended interests nobody: the client has noticed.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopped.wait_for(|stopped| *stopped) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
