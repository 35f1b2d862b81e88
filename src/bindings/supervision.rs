//! The supervision tree as JavaScript sees it.

use std::time::Duration;

use serde::Serialize;
use tinkex_supervise::{Kind, System, TaskHandle};
use wasm_bindgen::JsValue;

use super::host::ServiceHost;
use crate::service::Service;

/// A console that draws more often shows nothing more; whatever happens in between, the latest state wins.
const PAUSE: Duration = Duration::from_millis(100);

/// One process. `SupervisionRow` in `js/boundary.ts` says what the fields are.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    id: f64,
    parent: Option<f64>,
    name: &'a str,
    kind: &'static str,
    state: &'static str,
    restarts: u32,
    uptime_ms: f64,
    waits_for: Option<&'a str>,
    waits_ms: Option<f64>,
    queues: Vec<Queue>,
}

#[derive(Serialize)]
struct Queue {
    name: &'static str,
    length: usize,
}

/// All processes of a tree, each after its supervisor.
pub fn rows(system: &System) -> JsValue {
    let now = system.now();
    let ms = |since: Duration| now.saturating_sub(since).as_micros() as f64 / 1000.0;
    let nodes = system.snapshot();
    let mut rows = Vec::with_capacity(nodes.len());
    for node in &nodes {
        rows.push(Row {
            id: node.id as f64,
            parent: node.parent.map(|id| id as f64),
            name: &node.name,
            kind: match node.kind {
                Kind::Worker => "worker",
                Kind::Supervisor => "supervisor",
                Kind::TaskSupervisor => "taskSupervisor",
                Kind::Task => "task",
            },
            state: node.state.as_str(),
            restarts: node.restarts,
            uptime_ms: ms(node.started),
            waits_ms: node.waits.as_ref().map(|(_, since)| ms(*since)),
            waits_for: node.waits.as_ref().map(|(what, _)| &**what),
            queues: node.queues.iter().map(|&(name, length)| Queue { name, length }).collect(),
        });
    }
    serde_wasm_bindgen::to_value(&rows).unwrap_or_default()
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
                host.host.supervision(host.service, rows(ctx.system()));
                ctx.system().runtime().timer(PAUSE).await;
            }
        };
        // Nobody listens any more, or the service is closed.
        let _: Result<(), _> = end.until_shutdown(telling).await;
    })
}
