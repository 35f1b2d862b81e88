//! A wait that knows a suspended clock from a slow child: nobody is killed for the time in which he could not run.

use std::time::Duration;

use crate::{report::Report, system::System};

/// A timer that took more than twice its time was not waiting: the device slept, or the page was held back.
const SUSPENDED: u32 = 2;

/// Resolves after `after`. If the clock says that the timer came far too late, the wait begins once more, once.
pub(crate) async fn deadline(system: System, after: Duration) {
    let began = system.now();
    system.runtime().timer(after).await;
    let took = system.now().saturating_sub(began);
    if took > after.saturating_mul(SUSPENDED) && !after.is_zero() {
        system.report(Report::Suspended { asked: after, took });
        system.runtime().timer(after).await;
    }
}
