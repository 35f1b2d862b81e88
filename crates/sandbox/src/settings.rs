//! What can be set about a sandbox, and why each number is what it is.

use serde_json::{Map, Value};
use std::time::Duration;

/// Everything that is chosen at the start. [`Settings::default`] is what `tinkex-sandbox` without flags uses.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A session without a heartbeat for this long is ended. Clients send one every 10 s.
    pub session_timeout: Duration,
    /// How long a poll is held at most. Clients give up after 45 s, the hosted service answers after about 30.
    pub hold: Duration,
    /// How long a result that was fetched stays fetchable, for a client whose reply was lost.
    pub keep_fetched: Duration,
    /// A result larger than this many bytes is announced first, to a client that allows it.
    pub announce_above: usize,
    /// Ephemeral samplers kept per model; the oldest goes first. A loop makes one every step.
    pub ephemeral_samplers: usize,
    /// Keep the body of each applied request for `sandbox/log`, so that the log can be replayed elsewhere.
    pub log_bodies: bool,
    /// Threads of one forward and backward pass. They change how long it takes, never its result.
    pub threads: usize,
    /// Overrides of the flags that `client/config` answers.
    pub flags: Map<String, Value>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            session_timeout: Duration::from_secs(120),
            hold: Duration::from_secs(30),
            keep_fetched: Duration::from_secs(600),
            announce_above: 256 * 1024,
            ephemeral_samplers: 64,
            log_bodies: false,
            threads: 1,
            flags: Map::new(),
        }
    }
}

/// The largest body that is read, in bytes. Clients cut their data into chunks of about 5 MB.
pub const LARGEST_BODY: usize = 64 * 1024 * 1024;
