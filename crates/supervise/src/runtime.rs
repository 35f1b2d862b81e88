//! What a single-threaded executor has to offer, so that everything above it is the same on each.

use std::{future::Future, pin::Pin, time::Duration};

/// A future that stays on its thread.
pub type LocalBoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A single-threaded executor with a clock: a browser's event loop, a `LocalSet`, or
/// [`VirtualTime`](crate::virtual_time::VirtualTime) in tests. It is held as `Rc<dyn Runtime>`.
///
/// # Example
///
/// With tokio, on a `LocalSet` (the crate itself does not depend on it):
///
/// ```text
/// struct Tokio(std::time::Instant);
///
/// impl Runtime for Tokio {
///     fn now(&self) -> Duration {
///         self.0.elapsed()
///     }
///     fn timer(&self, after: Duration) -> LocalBoxFuture<'static, ()> {
///         Box::pin(tokio::time::sleep(after))
///     }
///     fn spawn(&self, future: LocalBoxFuture<'static, ()>) {
///         tokio::task::spawn_local(future);
///     }
/// }
/// ```
pub trait Runtime: 'static {
    /// Time since an origin of the runtime's choice. It never goes back; it may jump forward, when a laptop
    /// sleeps or a browser holds a hidden page.
    fn now(&self) -> Duration;

    /// Resolves once `after` has passed. Dropping it cancels it at once, and leaves nothing behind.
    fn timer(&self, after: Duration) -> LocalBoxFuture<'static, ()>;

    /// Runs a future to its end, starting in a later turn: never inside of this call. Everything that this crate
    /// starts, it starts here; the futures that it passes never panic when they are polled.
    fn spawn(&self, future: LocalBoxFuture<'static, ()>);
}
