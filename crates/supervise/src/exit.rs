//! Why something ended: the vocabulary of every exit, OTP's with panics added.

use std::{error::Error, fmt, rc::Rc};

use crate::cancel::Cancelled;

/// Why a child, a task or a supervisor ended. Each start has exactly one.
#[derive(Clone, Debug, PartialEq)]
pub enum Exit {
    /// It came to its end by itself. A transient child is not started again.
    Normal,
    /// It was asked to stop, and did. Not a crash: a transient child is not started again.
    Shutdown,
    /// As `Shutdown`, with a reason that its owner may read.
    ShutdownWith(Rc<str>),
    /// It returned an error, given here by its text. The text of the sources is appended, after a colon each.
    Error(Rc<str>),
    /// It panicked: while it was polled, while it was made, or while it was dropped.
    Panic(Rc<PanicInfo>),
    /// It was dropped before its end: by `brutal_kill`, after a shutdown that took too long, or with its executor.
    Killed,
    /// It has nothing to do, which is known from its init phase only. Its spec stays, unless it is temporary.
    Ignore,
    /// It took longer than it may: to become ready, or as an element of a stream.
    Timeout,
    /// There was nothing to ask, wait for or start it: it ended before, or was never started.
    NoProcess,
    /// The task supervisor has as many running and queued tasks as it may have; nothing was started.
    Refused,
}

/// What is known of a panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanicInfo {
    /// What it said.
    pub message: Rc<str>,
    /// Whether the message stands in the source as it is: nothing of what the code worked on is in it.
    pub literal: bool,
    /// Where: `file:line`, or `unknown` if someone replaced the panic hook.
    pub place: Rc<str>,
    /// Who was running: the names of the process itself, of the one that spawned it, and so on outwards.
    pub callers: Vec<Rc<str>>,
    /// Whether it came from a destructor, after the work itself was over or killed.
    pub in_destructor: bool,
}

impl Exit {
    /// An exit for an error that has only a text.
    pub fn error(text: impl fmt::Display) -> Self {
        Self::Error(text.to_string().into())
    }

    /// `Normal`, `Shutdown` and `ShutdownWith`: what isn't a crash. It is neither restarted when transient, nor
    /// reported when temporary.
    pub fn is_graceful(&self) -> bool {
        matches!(self, Self::Normal | Self::Shutdown | Self::ShutdownWith(_))
    }

    /// The panic, if it was one.
    pub fn panic(&self) -> Option<&PanicInfo> {
        match self {
            Self::Panic(info) => Some(info),
            _ => None,
        }
    }

    /// One stable word for each kind, for logs and for JavaScript.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Shutdown | Self::ShutdownWith(_) => "shutdown",
            Self::Error(_) => "error",
            Self::Panic(_) => "panic",
            Self::Killed => "killed",
            Self::Ignore => "ignore",
            Self::Timeout => "timeout",
            Self::NoProcess => "noproc",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShutdownWith(reason) => write!(f, "shutdown: {reason}"),
            Self::Error(text) => f.write_str(text),
            Self::Panic(info) => info.fmt(f),
            Self::Timeout => f.write_str("it took longer than it may"),
            Self::NoProcess => f.write_str("it is not running"),
            Self::Refused => f.write_str("too many tasks: wait for room() before the next"),
            other => f.write_str(other.kind()),
        }
    }
}

impl Error for Exit {}

impl fmt::Display for PanicInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panicked at {}: {}", self.place, self.message)
    }
}

impl From<Cancelled> for Exit {
    fn from(_: Cancelled) -> Self {
        Self::Shutdown
    }
}

impl From<String> for Exit {
    fn from(text: String) -> Self {
        Self::Error(text.into())
    }
}

impl From<&str> for Exit {
    fn from(text: &str) -> Self {
        Self::Error(text.into())
    }
}

/// `Cancelled` and `Exit` are taken out of their box; any other error is known by its text and its sources'.
impl From<Box<dyn Error>> for Exit {
    fn from(error: Box<dyn Error>) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(exit) => return *exit,
            Err(error) => error,
        };
        if error.is::<Cancelled>() {
            return Self::Shutdown;
        }
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            text.push_str(": ");
            text.push_str(&inner.to_string());
            source = inner.source();
        }
        Self::Error(text.into())
    }
}

/// What a child may return: `()`, a `Result` of it with an error that becomes an [`Exit`], or an `Exit`.
///
/// `()` and `Ok(())` mean the expected: `Shutdown` when the child had been asked to stop, `Normal` otherwise. An
/// `Exit` that is returned as such is taken as it is.
pub trait IntoExit {
    /// `None` stands for the expected end.
    fn into_exit(self) -> Option<Exit>;
}

impl IntoExit for () {
    fn into_exit(self) -> Option<Exit> {
        None
    }
}

impl IntoExit for Exit {
    fn into_exit(self) -> Option<Exit> {
        Some(self)
    }
}

impl<E: Into<Exit>> IntoExit for Result<(), E> {
    fn into_exit(self) -> Option<Exit> {
        self.err().map(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_of_an_error_are_in_its_text() {
        #[derive(Debug)]
        struct Outer(fmt::Error);
        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("can't write")
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let exit = Exit::from(Box::new(Outer(fmt::Error)) as Box<dyn Error>);
        assert_eq!(exit.to_string(), format!("can't write: {}", fmt::Error));
    }

    #[test]
    fn a_cancelled_wait_is_a_shutdown_and_no_crash() {
        assert_eq!(Exit::from(Box::new(Cancelled) as Box<dyn Error>), Exit::Shutdown);
        assert_eq!(Exit::from(Box::new(Exit::Normal) as Box<dyn Error>), Exit::Normal);
        assert_eq!(Err::<(), _>(Cancelled).into_exit(), Some(Exit::Shutdown));
    }
}
