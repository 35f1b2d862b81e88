//! An instance of the client that dies in the middle of whatever it does, in a world that goes on.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tinkex::platform::{HttpFailure, HttpRequest, HttpResponse, Level, Platform};
use tinkex_supervise::Runtime;

use crate::world::World;

/// A platform whose futures stop, in the middle of whatever they do, when it dies.
pub struct Instance {
    world: Rc<World>,
    /// The poll of the world's executor at which it dies.
    dies_at: Rc<Cell<u64>>,
    /// By how much its timers are late.
    late: Cell<Duration>,
    /// Timers fire at multiples of it alone, as those of a hidden page do.
    period: Cell<Duration>,
}

impl Instance {
    pub fn of(world: Rc<World>) -> Rc<Instance> {
        Rc::new(Instance {
            world,
            dies_at: Rc::new(Cell::new(u64::MAX)),
            late: Cell::default(),
            period: Cell::default(),
        })
    }

    /// Lets it die after so many polls of anything from now.
    pub fn die_after(&self, polls: u64) {
        self.dies_at.set(self.world.time.polls() + polls);
    }

    /// Its timers come late from now on.
    pub fn delay_timers(&self, by: Duration) {
        self.late.set(by);
    }

    /// Its timers fire once in each period from now on, all of them together.
    pub fn throttle_timers(&self, period: Duration) {
        self.period.set(period);
    }
}

impl Runtime for Instance {
    fn now(&self) -> Duration {
        self.world.now()
    }

    fn timer(&self, after: Duration) -> LocalBoxFuture<'static, ()> {
        let (now, period) = (self.now(), self.period.get());
        let after = after + self.late.get();
        if period.is_zero() {
            return self.world.timer(after);
        }
        let periods = (now + after).as_nanos().div_ceil(period.as_nanos());
        self.world.timer(period * periods as u32 - now)
    }

    fn spawn(&self, future: LocalBoxFuture<'static, ()>) {
        let (world, dies_at) = (self.world.clone(), self.dies_at.clone());
        let mut future = Some(future);
        // What is dead is not dropped either: that would run its code.
        self.world.spawn(Box::pin(poll_fn(move |cx| match world.time.polls() >= dies_at.get() {
            true => {
                std::mem::forget(future.take());
                Poll::Ready(())
            }
            false => match &mut future {
                Some(alive) => alive.as_mut().poll(cx),
                None => Poll::Ready(()),
            },
        })));
    }
}

impl Platform for Instance {
    fn http(&self, request: HttpRequest) -> LocalBoxFuture<'static, Result<HttpResponse, HttpFailure>> {
        self.world.http(request)
    }

    fn random(&self) -> u64 {
        self.world.random()
    }

    fn unix_time(&self) -> Duration {
        self.world.unix_time()
    }

    fn log(&self, level: Level, message: &str) {
        self.world.log(level, message);
    }
}
