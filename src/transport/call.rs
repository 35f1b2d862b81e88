//! One call to the service: what is sent, over which kind of connection, and how it may be repeated.

use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;

use super::connections::Class;
use super::retry::Policy;
use crate::platform::numbers;

pub struct Call {
    pub method: &'static str,
    /// Behind `/api/v1/`.
    pub path: String,
    pub class: Class,
    pub policy: Policy,
    pub body: Body,
    pub timeout: Option<Duration>,
    /// The content types that its answer may have.
    pub accept: &'static str,
    pub headers: Vec<(&'static str, String)>,
    /// The header that says how often it was sent before.
    pub counter: &'static str,
    /// It is to arrive also when the page that sends it goes: of all such bodies of a page 64 KiB may be under way.
    pub keepalive: bool,
    /// Fixed by the caller where the same key must be used again; else made for this call.
    pub idempotency_key: Option<String>,
}

/// What a call carries.
#[derive(Clone)]
pub enum Body {
    None,
    Json(Rc<[u8]>),
    Protobuf(Rc<[u8]>),
}

impl Call {
    pub fn get(path: &str) -> Call {
        Call {
            method: "GET",
            path: path.to_owned(),
            class: Class::Submission,
            policy: Policy::Patient,
            body: Body::None,
            timeout: None,
            accept: "application/json",
            headers: Vec::new(),
            counter: "x-stainless-retry-count",
            keepalive: false,
            idempotency_key: None,
        }
    }

    pub fn post(path: &str, body: Body) -> Call {
        Call { method: "POST", body, ..Call::get(path) }
    }

    /// A POST of a message of the protocol.
    pub fn post_json(path: &str, message: &impl Serialize) -> Call {
        Call::post(path, Body::json(message))
    }

    pub fn class(self, class: Class) -> Call {
        Call { class, ..self }
    }

    pub fn policy(self, policy: Policy) -> Call {
        Call { policy, ..self }
    }

    pub fn timeout(self, timeout: Duration) -> Call {
        Call { timeout: Some(timeout), ..self }
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Call {
        self.headers.push((name, value.to_owned()));
        self
    }
}

impl Body {
    pub fn json(message: &impl Serialize) -> Body {
        Body::Json(tinkex_protocol::json::write(message, numbers::write).into())
    }
}
