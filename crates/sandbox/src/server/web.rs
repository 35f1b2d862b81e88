//! Routes: the API to the core, everything else to the site if there is one; faults and CORS around them.

use super::host::Host;
use crate::faults::{Fault, Faults, Then};
use crate::message::{self, Headers, Method, Request};
use crate::settings::LARGEST_BODY;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request as HttpRequest, State};
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};
use axum::http::{Method as HttpMethod, StatusCode};
use axum::response::Response;
use axum::routing::any;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};
use tower_http::services::{ServeDir, ServeFile};

/// How long a browser may remember that a request is allowed. Chromium takes at most two hours.
const PREFLIGHT_AGE: Duration = Duration::from_secs(7200);

/// Marks a response that must not be sent: the connection is closed instead.
#[derive(Clone, Copy)]
pub(super) struct Closed;

#[derive(Clone)]
struct Front {
    host: Host,
    faults: Option<Arc<Mutex<Faults>>>,
}

/// The whole site. Any origin may call the API: it listens on loopback, and nothing in it is secret.
pub(super) fn routes(host: Host, site: Option<PathBuf>, faults: Option<Faults>) -> Router {
    let front = Front { host, faults: faults.map(|faults| Arc::new(Mutex::new(faults))) };
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([HttpMethod::GET, HttpMethod::POST, HttpMethod::PUT, HttpMethod::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(Any)
        .allow_private_network(true)
        .max_age(PREFLIGHT_AGE);
    let routes = Router::new().route("/api/{*rest}", any(api)).with_state(front).layer(cors);
    match site {
        None => routes.fallback(|| async { not_found() }),
        Some(folder) => {
            // A path without an extension is a page of the console's; a missing file is missing.
            let index = ServeFile::new(folder.join("index.html"));
            let files = ServeDir::new(folder).fallback(any(move |request: HttpRequest| {
                let index = index.clone();
                async move { page(index, request).await }
            }));
            routes.fallback_service(files)
        }
    }
}

async fn page(mut index: ServeFile, request: HttpRequest) -> Response {
    let last = request.uri().path().rsplit('/').next().unwrap_or_default();
    if last.contains('.') {
        return not_found();
    }
    match index.try_call(request).await {
        Ok(response) => {
            let mut response = response.map(Body::new);
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            response
        }
        Err(_) => not_found(),
    }
}

fn not_found() -> Response {
    to_http(message::Response::error(404, "There is nothing at this address; the API is under /api/v1/."))
}

async fn api(State(front): State<Front>, request: HttpRequest) -> Response {
    let fault = front.faults.as_ref().map_or_else(Fault::default, |faults| {
        faults.lock().expect("deciding about a fault does not panic").decide()
    });
    if !fault.delay.is_zero() {
        tokio::time::sleep(fault.delay).await;
    }
    match fault.then {
        Then::Handle => {}
        Then::Drop => return closed(),
        Then::Refuse(status) => return refusal(status),
        Then::Lose | Then::HandleAndRefuse(_) => {
            if let Ok(request) = read(request).await {
                front.host.handle(&request).await;
            }
            return match fault.then {
                Then::HandleAndRefuse(status) => refusal(status),
                _ => closed(),
            };
        }
        Then::Restart => {
            front.host.restart();
            return closed();
        }
    }
    match read(request).await {
        Err(response) => to_http(response),
        Ok(request) => front.host.handle(&request).await.map_or_else(closed, to_http),
    }
}

fn refusal(status: u16) -> Response {
    to_http(message::Response::error(status, format!("{status}, because --faults asks for it.")))
}

fn closed() -> Response {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(Closed);
    response
}

/// Reads a request whole, within the limit.
async fn read(request: HttpRequest) -> Result<Request, message::Response> {
    let too_large = || {
        let limit = LARGEST_BODY / (1024 * 1024);
        message::Response::error(
            413,
            format!("The body is larger than {limit} MiB: send fewer datums at once."),
        )
    };
    let (parts, body) = request.into_parts();
    let claimed = header(&parts.headers, &CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if claimed.is_some_and(|length| length > LARGEST_BODY as u64) {
        return Err(too_large());
    }
    let body = to_bytes(body, LARGEST_BODY).await.map_err(|_| too_large())?;
    let method = match parts.method {
        HttpMethod::GET => Method::Get,
        HttpMethod::POST => Method::Post,
        HttpMethod::PUT => Method::Put,
        HttpMethod::DELETE => Method::Delete,
        _ => Method::Other,
    };
    let headers = Headers {
        api_key: header(&parts.headers, &HeaderName::from_static("x-api-key")),
        content_type: header(&parts.headers, &CONTENT_TYPE),
        content_encoding: header(&parts.headers, &CONTENT_ENCODING),
        accept: header(&parts.headers, &ACCEPT),
        idempotency_key: header(&parts.headers, &HeaderName::from_static("x-idempotency-key")),
    };
    let path = parts.uri.path_and_query().map_or_else(|| "/".into(), ToString::to_string);
    Ok(Request { method, path, headers, body })
}

fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn to_http(response: message::Response) -> Response {
    let status = StatusCode::from_u16(response.status).expect("our statuses are between 200 and 599");
    let length = response.body.len();
    let mut http = Response::new(Body::from(response.body));
    *http.status_mut() = status;
    http.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(response.content_type));
    // Clients take a 400 without a length for a proxy's.
    http.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    http.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    http
}
