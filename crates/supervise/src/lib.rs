//! OTP supervision for a single-threaded executor.
//!
//! Whatever runs concurrently has an owner that sees it end. A [`Supervisor`] keeps children in an order and restarts them
//! as their [`ChildSpec`]s and its [`Strategy`] say; a [`DynamicSupervisor`] keeps those that come and go; a
//! [`TaskSupervisor`] keeps pieces of work with one result each. Everything stands on a [`System`], which stands on a
//! [`Runtime`]: an executor that can tell the time, set a timer, and run a future.
//!
//! What is guaranteed:
//! - Each start has exactly one [`Exit`], whether it returns, panics (while it is made, polled or dropped), is killed, or is
//!   dropped by its executor.
//! - No child outlives its supervisor, no task its task supervisor, however that one ends.
//! - A crash concerns those whom the strategy names, and nobody else.
//! - A wait that is cancelled ends at once, and its timer with it.
//!
//! What is not: there is one thread, so what never yields can't be stopped, and holds up everyone. Polls over 50 ms are
//! [reported](Report::SlowPoll). A panic while another one unwinds ends the program, unless a
//! [`destructor`] holds it back.
//!
//! ```
//! use std::time::Duration;
//! use tinkex_supervise::{Exit, System, TaskSupervisor, virtual_time::VirtualTime};
//!
//! let world = VirtualTime::new(0); // in a browser: your `Runtime` on `spawn_local` and `setTimeout`
//! let system = System::new(world.runtime());
//! world.block_on(async {
//!     let tasks = TaskSupervisor::new("requests").limit(8);
//!     let supervisor = tasks.start(&system).await.unwrap();
//!
//!     let poll = tasks.spawn("poll", |ctx| async move {
//!         let _shown = ctx.waiting_for("request 7");
//!         ctx.sleep(Duration::from_secs(3600)).await
//!     });
//!     poll.cancel(); // ends the sleep at once: the clock does not move
//!     assert!(poll.await.unwrap().is_err());
//!     assert_eq!(world.now(), Duration::ZERO);
//!
//!     supervisor.ask_to_stop();
//!     assert_eq!(supervisor.monitor().await, Exit::Shutdown);
//! });
//! system.assert_accounted();
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod answers;
mod callers;
mod cancel;
mod context;
mod deadlines;
mod dynamic;
mod exit;
pub mod faults;
mod handle;
mod machine;
mod mailbox;
mod map;
mod names;
mod panics;
mod pid;
mod process;
mod reply;
mod report;
mod runtime;
mod seat;
mod shell;
mod spec;
mod stream;
mod supervisor;
mod system;
mod tasks;
mod tree;
#[cfg(feature = "virtual-time")]
pub mod virtual_time;
mod waiters;

/// The example of the README is compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use answers::{ChildError, ChildInfo, Counts, Started};
pub use cancel::{CancelToken, Cancelled, CancelledFuture};
pub use context::{Context, Waiting, YieldNow, waiting_for};
pub use dynamic::DynamicSupervisor;
pub use exit::{Exit, IntoExit, PanicInfo};
pub use handle::TaskHandle;
pub use mailbox::{Address, CallError, Mailbox, mailbox};
pub use names::{NameTaken, Names};
pub use panics::{contain, destructor, install_hook as install_panic_hook, under_way as panic_under_way};
pub use pid::{Kind, Monitor, Pid, State};
pub use reply::{Answer, Dropped, Reply, reply};
pub use report::{Report, ReportContext};
pub use runtime::{LocalBoxFuture, Runtime};
pub use spec::{AutoShutdown, ChildSpec, Intensity, Restart, Shutdown, SpecError, Strategy};
pub use stream::TaskStream;
pub use supervisor::Supervisor;
pub use system::System;
pub use tasks::TaskSupervisor;
pub use tree::{Change, Changes, Node};
