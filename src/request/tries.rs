//! One try of a request, as the task that makes it shows it. Boxed, so that it is compiled once and not into every loop.

use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tinkex_supervise::waiting_for;

use super::Progress;
use crate::platform::HttpResponse;
use crate::transport::{Call, Silence, Transport};

/// Waits for a connection and sends the call over it once; `progress` knows from then on.
pub fn attempt(
    transport: &Transport,
    call: &Rc<Call>,
    retries: u32,
    progress: Option<Progress>,
) -> LocalBoxFuture<'static, Result<HttpResponse, Silence>> {
    let (transport, call) = (transport.clone(), call.clone());
    async move {
        let waiting = waiting_for("a connection");
        let _permit = transport.permit(call.class).await;
        drop(waiting);
        if let Some(progress) = progress {
            progress.sent();
        }
        let _waiting = waiting_for("the server to take it");
        transport.attempt(&call, call.idempotency_key.as_deref(), retries).await
    }
    .boxed_local()
}
