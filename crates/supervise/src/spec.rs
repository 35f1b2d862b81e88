//! What a supervisor is told about a child and about itself, checked before anything starts.

use std::{fmt, future::Future, pin::Pin, rc::Rc, time::Duration};

use crate::{context::Context, exit::IntoExit, pid::Kind, process::Life};

/// When a child that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// Always.
    #[default]
    Permanent,
    /// After a crash: any exit that is not [graceful](Exit::is_graceful).
    Transient,
    /// Never, not even with its siblings. Its spec is forgotten when it ends.
    Temporary,
}

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

/// Whom the crash of one child concerns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The child alone.
    #[default]
    OneForOne,
    /// All: the others are stopped in reverse order, then all are started in order.
    OneForAll,
    /// Those that were started after it: stopped in reverse order, then started again with it.
    RestForOne,
}

/// Whether a supervisor stops by itself when significant children have ended by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoShutdown {
    /// No; significant children are refused.
    #[default]
    Never,
    /// When one has.
    AnySignificant,
    /// When the last one has.
    AllSignificant,
}

/// How many restarts in which time are a supervisor's own failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intensity {
    /// So many restarts are borne; one more and the supervisor stops. 0: none.
    pub restarts: u32,
    /// The length of the sliding window in which they are counted.
    pub period: Duration,
}

impl Default for Intensity {
    /// OTP's: one restart in five seconds.
    fn default() -> Self {
        Self { restarts: 1, period: Duration::from_secs(5) }
    }
}

pub(crate) type Factory = Rc<dyn Fn(Context) -> Pin<Box<dyn Life>>>;

/// How to make a child, and how to treat it. Clones make the same child.
///
/// Defaults are OTP's: permanent, a worker, five seconds to shut down.
///
/// ```
/// # use tinkex_supervise::*;
/// # use std::time::Duration;
/// let spec = ChildSpec::new("heartbeat", |ctx| async move {
///     ctx.ready();
///     while ctx.sleep(Duration::from_secs(10)).await.is_ok() {
///         // beat; the sleep is over at once when the child is asked to stop
///     }
/// })
/// .restart(Restart::Transient)
/// .shutdown(Shutdown::After(Duration::from_secs(1)));
/// ```
#[derive(Clone)]
pub struct ChildSpec {
    pub(crate) id: Rc<str>,
    pub(crate) kind: Kind,
    pub(crate) restart: Restart,
    pub(crate) shutdown: Shutdown,
    pub(crate) significant: bool,
    pub(crate) start_timeout: Option<Duration>,
    pub(crate) ready_at_once: bool,
    /// `None` for a temporary child that was started: it is not made again.
    pub(crate) factory: Option<Factory>,
    /// What is wrong with the supervisor that this child is.
    fault: Option<Box<SpecError>>,
}

impl ChildSpec {
    /// A child whose future `factory` makes, once for each start. It is started when it calls
    /// [`Context::ready`]; if it ends before, the start has failed with that exit, or, with [`Exit::Ignore`],
    /// there is nothing to run.
    ///
    /// A child should end soon after [`Context::shutdown`] resolves. It may return whatever [`IntoExit`] takes.
    pub fn new<F, Fut>(id: impl Into<Rc<str>>, factory: F) -> Self
    where
        F: Fn(Context) -> Fut + 'static,
        Fut: Future + 'static,
        Fut::Output: IntoExit,
    {
        let factory = move |ctx| -> Pin<Box<dyn Life>> { Box::pin(factory(ctx)) };
        Self::from_factory(id.into(), Kind::Worker, Rc::new(factory))
    }

    pub(crate) fn from_factory(id: Rc<str>, kind: Kind, factory: Factory) -> Self {
        Self {
            id,
            kind,
            restart: Restart::default(),
            shutdown: if kind == Kind::Worker { Shutdown::default() } else { Shutdown::Infinity },
            significant: false,
            start_timeout: None,
            ready_at_once: false,
            factory: Some(factory),
            fault: None,
        }
    }

    /// The spec of a supervisor that was told this, whatever comes of the check.
    pub(crate) fn checked(mut self, check: Result<(), SpecError>) -> Self {
        self.fault = check.err().map(Box::new);
        self
    }

    /// When it is started again. Permanent unless said.
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// How it is ended. Five seconds unless said; for supervisors, infinity.
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// Whether its end counts for its supervisor's [`AutoShutdown`]: a transient child's graceful end, a temporary
    /// child's any end.
    pub fn significant(mut self, significant: bool) -> Self {
        self.significant = significant;
        self
    }

    /// Ends the init phase by force: a child that is not ready in time is killed, its start has failed with
    /// [`Exit::Timeout`]. Without it there is no limit, as in OTP.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = Some(timeout);
        self
    }

    /// A child without init phase: it counts as started before its first poll, and need not call
    /// [`Context::ready`].
    pub fn ready_at_once(mut self) -> Self {
        self.ready_at_once = true;
        self
    }

    /// Its id.
    pub fn id(&self) -> &Rc<str> {
        &self.id
    }

    /// Its restart type.
    pub fn restart_type(&self) -> Restart {
        self.restart
    }

    /// How it is ended, defaults filled in.
    pub fn shutdown_type(&self) -> Shutdown {
        self.shutdown
    }

    /// Whether it is significant.
    pub fn is_significant(&self) -> bool {
        self.significant
    }

    /// Worker or supervisor.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether the spec can be used at all.
    pub fn check(&self) -> Result<(), SpecError> {
        if let Some(fault) = &self.fault {
            return Err(SpecError::clone(fault));
        }
        if self.significant && self.restart == Restart::Permanent {
            return Err(SpecError::SignificantPermanent(self.id.clone()));
        }
        Ok(())
    }

    /// Whether it can be used under a supervisor that shuts down so.
    pub(crate) fn check_under(&self, auto_shutdown: AutoShutdown) -> Result<(), SpecError> {
        self.check()?;
        if self.significant && auto_shutdown == AutoShutdown::Never {
            return Err(SpecError::SignificantNever(self.id.clone()));
        }
        Ok(())
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("id", &self.id)
            .field("restart", &self.restart)
            .field("shutdown", &self.shutdown)
            .field("significant", &self.significant)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// Checks what the supervisor is told, as a whole.
pub(crate) fn check_children(
    intensity: Intensity,
    auto_shutdown: AutoShutdown,
    children: &[ChildSpec],
) -> Result<(), SpecError> {
    if intensity.period.is_zero() {
        return Err(SpecError::InvalidPeriod);
    }
    for (nth, child) in children.iter().enumerate() {
        child.check_under(auto_shutdown)?;
        if children[..nth].iter().any(|other| other.id() == child.id()) {
            return Err(SpecError::DuplicateId(child.id().clone()));
        }
    }
    Ok(())
}

/// Why a spec is refused. What OTP refuses besides (a missing id or start, an unknown flag, a negative timeout)
/// can't be written down here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecError {
    /// Two children of one supervisor have this id.
    DuplicateId(Rc<str>),
    /// This child is significant and permanent: it never ends for good, so nothing can follow from its end.
    SignificantPermanent(Rc<str>),
    /// This child is significant, under a supervisor that never shuts down by itself.
    SignificantNever(Rc<str>),
    /// The period of the restart intensity is zero.
    InvalidPeriod,
}

impl SpecError {
    /// OTP's word for it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::DuplicateId(_) => "duplicate_child_name",
            Self::SignificantPermanent(_) | Self::SignificantNever(_) => "bad_combination",
            Self::InvalidPeriod => "invalid_period",
        }
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())?;
        match self {
            Self::DuplicateId(id) => write!(f, ": two children are called {id}; give each an id of its own"),
            Self::SignificantPermanent(id) => {
                write!(f, ": {id} is significant and permanent; make it transient or temporary")
            }
            Self::SignificantNever(id) => {
                write!(
                    f,
                    ": {id} is significant, and its supervisor's auto_shutdown is Never; set one of the two otherwise"
                )
            }
            Self::InvalidPeriod => {
                f.write_str(": the period of the restart intensity must be longer than zero")
            }
        }
    }
}

impl std::error::Error for SpecError {}
