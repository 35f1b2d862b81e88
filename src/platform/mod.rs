//! What the client needs of the world outside: a clock, timers and an executor (supervise's `Runtime`), HTTP,
//! randomness, and a place for messages. The browser's stands in `browser`; tests bring a simulated one.

use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tinkex_supervise::Runtime;

#[cfg(target_arch = "wasm32")]
pub mod browser;
pub mod numbers;
pub mod plain;

/// The world outside, as the client sees it. Held as `Rc<dyn Platform>`.
pub trait Platform: Runtime {
    /// Sends one request over one connection. Dropping the future aborts it.
    fn http(&self, request: HttpRequest) -> LocalBoxFuture<'static, Result<HttpResponse, HttpFailure>>;

    /// 64 random bits; from a cryptographic source, where keys are made of them.
    fn random(&self) -> u64;

    /// Wall-clock time since 1970, for records that people read; never for waiting.
    fn unix_time(&self) -> Duration;

    /// A message for the developer who looks at the console.
    fn log(&self, level: Level, message: &str);

    /// Lets the second file of the package be loaded, where the program is in two: nobody waits for it.
    fn bring_the_rest(&self) {}
}

/// How much a message matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// One HTTP request, whole.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    pub method: &'static str,
    pub url: String,
    pub headers: Vec<(&'static str, String)>,
    /// Shared: the same bytes are sent again when a request is repeated.
    pub body: Option<std::rc::Rc<[u8]>>,
    /// It outlives the page that sends it.
    pub keepalive: bool,
}

/// One HTTP response, whole. Header names are in lower case.
#[derive(Clone, Debug, Default)]
pub struct HttpResponse {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl HttpResponse {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// What isn't UTF-8 is read as Latin-1, in which old servers write.
    pub fn text(&self) -> String {
        match str::from_utf8(&self.body) {
            Ok(text) => text.to_owned(),
            Err(_) => self.body.iter().map(|&byte| char::from(byte)).collect(),
        }
    }
}

/// No response came; the platform's own words for why.
#[derive(Clone, Debug)]
pub struct HttpFailure(pub String);

/// A random UUID (version 4), as the service's idempotency keys are.
pub fn uuid(platform: &dyn Platform) -> String {
    let high = (platform.random() & !0xf000) | 0x4000;
    let low = (platform.random() & !(0b11 << 62)) | 0b10 << 62;
    let mut text = String::with_capacity(36);
    for place in 0..32 {
        if matches!(place, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        let half = if place < 16 { high } else { low };
        text.push(b"0123456789abcdef"[(half >> (60 - place % 16 * 4)) as usize & 15].into());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_text_in_utf_8_or_else_in_latin_1() {
        let text =
            |body: &[u8]| HttpResponse { status: 500, headers: Vec::new(), body: body.to_vec() }.text();
        assert_eq!(text("größer".as_bytes()), "größer");
        assert_eq!(text(b"gr\xf6\xdfer"), "größer");
    }
}
