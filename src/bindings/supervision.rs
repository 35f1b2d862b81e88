//! The supervision tree as JavaScript sees it.

use std::time::Duration;

use tinkex_supervise::{Kind, System, TaskHandle};

use super::host::ServiceHost;
use crate::platform::plain::Plain;
use crate::service::Service;

/// A console that draws more often shows nothing more; whatever happens in between, the latest state wins.
const PAUSE: Duration = Duration::from_millis(100);

/// All processes of a tree, each after its supervisor: a list of what is `SupervisionRow` in `js/boundary.ts`.
pub fn rows(system: &System) -> Vec<u8> {
    let now = system.now();
    let ms = |since: Duration| now.saturating_sub(since).as_micros() as f64 / 1000.0;
    Plain::array(|plain| {
        for node in system.snapshot() {
            let kind = match node.kind {
                Kind::Worker => "worker",
                Kind::Supervisor => "supervisor",
                Kind::TaskSupervisor => "taskSupervisor",
                Kind::Task => "task",
            };
            let row = plain.item();
            plain.number("id", node.id as f64);
            if let Some(parent) = node.parent {
                plain.number("parent", parent as f64);
            }
            plain.text("name", &node.name);
            plain.text("kind", kind);
            plain.text("state", node.state.as_str());
            plain.number("restarts", node.restarts.into());
            plain.number("uptimeMs", ms(node.started));
            if let Some((what, since)) = &node.waits {
                plain.text("waitsFor", what);
                plain.number("waitsMs", ms(*since));
            }
            let queues = plain.list("queues");
            for (name, length) in node.queues {
                let queue = plain.item();
                plain.text("name", name);
                plain.number("length", length as f64);
                plain.close(queue);
            }
            plain.close(queues);
            plain.close(row);
        }
    })
}

/// Starts the task that tells the host how the tree is now, and each time when it has changed.
pub fn tell(service: &Service, host: ServiceHost) -> TaskHandle<()> {
    let mut changes = service.system().changes();
    service.calls().spawn_nolink("supervision", move |ctx| async move {
        let _waiting = ctx.waiting_for("a change of the tree");
        let end = ctx.clone();
        let telling = async {
            loop {
                changes.due().await;
                host.host.supervision(host.service, &rows(ctx.system()));
                ctx.system().runtime().timer(PAUSE).await;
            }
        };
        // Nobody listens any more, or the service is closed.
        let _: Result<(), _> = end.until_shutdown(telling).await;
    })
}
