//! The sandbox's door: a client's request as its core reads it, and the core's answer as a client does.

use std::time::Duration;

use tinkex::platform::{HttpRequest, HttpResponse};
use tinkex::transport::Settings;
use tinkex_sandbox::message::{Headers, Method, Request, Response};

pub fn header(request: &HttpRequest, name: &str) -> Option<String> {
    request.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
}

pub fn asked(request: &HttpRequest) -> Request {
    let header = |name: &str| header(request, name);
    Request {
        method: if request.method == "GET" { Method::Get } else { Method::Post },
        path: request.url.strip_prefix("http://sandbox").expect("all goes to the sandbox").to_owned(),
        headers: Headers {
            api_key: header("x-api-key"),
            content_type: header("content-type"),
            content_encoding: None,
            accept: header("accept"),
            idempotency_key: header("x-idempotency-key"),
        },
        body: request.body.as_ref().map(|body| body.to_vec()).unwrap_or_default().into(),
    }
}

pub fn answered(response: Response) -> HttpResponse {
    let headers = vec![("content-type".to_owned(), response.content_type.to_owned())];
    HttpResponse { status: response.status, headers, body: response.body.to_vec() }
}

/// By which a client finds it.
pub fn to_sandbox(api_key: &str) -> Settings {
    Settings {
        base_url: "http://sandbox".into(),
        api_key: api_key.into(),
        timeout: Duration::from_secs(60),
        max_retries: None,
        max_connections: 6,
    }
}
