//! Many tasks over a sequence: bounded, in order, and gone with the stream.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use futures_util::Stream;

use crate::{context::Context, exit::Exit, handle::TaskHandle, panics::destructor, tasks::TaskSupervisor};

/// The results of [`TaskSupervisor::stream`], in the order of the items.
///
/// At most `limit` items are under way or done and not taken, so a slow reader holds the work back. A task that
/// crashes gives its exit in its place and the others go on. Dropping the stream kills the tasks that are left.
pub struct TaskStream<I, T, F> {
    supervisor: TaskSupervisor,
    items: I,
    limit: usize,
    timeout: Option<Duration>,
    task: F,
    under_way: VecDeque<TaskHandle<Option<T>>>,
}

// Nothing in it is pinned in place.
impl<I, T, F> Unpin for TaskStream<I, T, F> {}

impl<I, T, F, Fut> TaskStream<I, T, F>
where
    I: Iterator,
    I::Item: 'static,
    T: 'static,
    F: Fn(Context, I::Item) -> Fut + Clone + 'static,
    Fut: Future<Output = T> + 'static,
{
    pub(crate) fn new(supervisor: TaskSupervisor, items: I, limit: usize, task: F) -> Self {
        Self { supervisor, items, limit: limit.max(1), timeout: None, task, under_way: VecDeque::new() }
    }

    /// Ends each task that takes longer, counted from its start; its place in the stream says [`Exit::Timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The next result; `None` after the last item's.
    pub async fn next(&mut self) -> Option<Result<T, Exit>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    fn fill(&mut self) {
        while self.under_way.len() < self.limit {
            let Some(item) = self.items.next() else { return };
            let (task, timeout) = (self.task.clone(), self.timeout);
            let name = self.supervisor.name().clone();
            self.under_way.push_back(self.supervisor.spawn_nolink(name, move |ctx| async move {
                let system = ctx.system().clone();
                let mut work = Box::pin(async move { task(ctx, item).await });
                let mut time = timeout.map(|timeout| system.runtime().timer(timeout));
                poll_fn(move |cx| {
                    if let Poll::Ready(value) = work.as_mut().poll(cx) {
                        return Poll::Ready(Some(value));
                    }
                    match &mut time {
                        Some(time) => time.as_mut().poll(cx).map(|()| None),
                        None => Poll::Pending,
                    }
                })
                .await
            }));
        }
    }
}

impl<I, T, F, Fut> Stream for TaskStream<I, T, F>
where
    I: Iterator,
    I::Item: 'static,
    T: 'static,
    F: Fn(Context, I::Item) -> Fut + Clone + 'static,
    Fut: Future<Output = T> + 'static,
{
    type Item = Result<T, Exit>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.fill();
        let Some(first) = this.under_way.front_mut() else { return Poll::Ready(None) };
        let Poll::Ready(result) = Pin::new(first).poll(cx) else { return Poll::Pending };
        this.under_way.pop_front();
        Poll::Ready(Some(result.and_then(|value| value.ok_or(Exit::Timeout))))
    }
}

impl<I, T, F> Drop for TaskStream<I, T, F> {
    fn drop(&mut self) {
        destructor(&mut || {
            for task in &self.under_way {
                task.kill();
            }
        });
    }
}
