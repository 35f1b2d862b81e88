//! What a supervisor is told about a child and about itself, checked before anything starts.

use std::time::Duration;

/// How a child is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Its future is dropped, without a word.
    BrutalKill,
    /// It is asked to stop, and killed when it takes longer.
    After(Duration),
    /// It is asked to stop, and waited for. The default of supervisors, whose children have limits of their own.
    Infinity,
}

impl Default for Shutdown {
    /// OTP's five seconds.
    fn default() -> Self {
        Self::After(Duration::from_secs(5))
    }
}
