//! The supervision tree as JavaScript sees it.

use std::time::Duration;

use serde::ser::{Serialize, SerializeMap, Serializer};
use tinkex_supervise::{Kind, System, TaskHandle};
use wasm_bindgen::JsValue;

use super::host::supervision;
use crate::service::Service;

/// A console that draws more often shows nothing more; whatever happens in between, the latest state wins.
const PAUSE: Duration = Duration::from_millis(100);

/// One object of plain fields: a process, as `SupervisionRow` in `js/boundary.ts` has it, or one of its queues.
struct Row<'a, const N: usize>([(&'static str, Field<'a>); N]);

/// One shape for all fields, so that writing one is compiled once and not for each type.
enum Field<'a> {
    Absent,
    Number(f64),
    Text(&'a str),
    Queues(Vec<Row<'a, 2>>),
}

impl<const N: usize> Serialize for Row<'_, N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(None)?;
        for (name, field) in &self.0 {
            fields.serialize_entry(name, field)?;
        }
        fields.end()
    }
}

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Field::Absent => serializer.serialize_none(),
            Field::Number(number) => serializer.serialize_f64(*number),
            Field::Text(text) => serializer.serialize_str(text),
            Field::Queues(queues) => serializer.collect_seq(queues),
        }
    }
}

/// All processes of a tree, each after its supervisor.
pub fn rows(system: &System) -> JsValue {
    let now = system.now();
    let ms = |since: Duration| Field::Number(now.saturating_sub(since).as_micros() as f64 / 1000.0);
    let nodes = system.snapshot();
    let mut rows = Vec::with_capacity(nodes.len());
    for node in &nodes {
        let kind = match node.kind {
            Kind::Worker => "worker",
            Kind::Supervisor => "supervisor",
            Kind::TaskSupervisor => "taskSupervisor",
            Kind::Task => "task",
        };
        let (waits_for, waits) = match &node.waits {
            Some((what, since)) => (Field::Text(what), ms(*since)),
            None => (Field::Absent, Field::Absent),
        };
        let queue = |&(name, length): &(&'static str, usize)| {
            Row([("name", Field::Text(name)), ("length", Field::Number(length as f64))])
        };
        rows.push(Row([
            ("id", Field::Number(node.id as f64)),
            ("parent", node.parent.map_or(Field::Absent, |id| Field::Number(id as f64))),
            ("name", Field::Text(&node.name)),
            ("kind", Field::Text(kind)),
            ("state", Field::Text(node.state.as_str())),
            ("restarts", Field::Number(node.restarts.into())),
            ("uptimeMs", ms(node.started)),
            ("waitsFor", waits_for),
            ("waitsMs", waits),
            ("queues", Field::Queues(node.queues.iter().map(queue).collect())),
        ]));
    }
    let objects = serde_wasm_bindgen::Serializer::new().serialize_maps_as_objects(true);
    rows.serialize(&objects).unwrap_or_default()
}

/// Starts the task that tells the host how the tree of the service of this number is now, and each time when it has changed.
pub fn tell(service: &Service, number: u32) -> TaskHandle<()> {
    let mut changes = service.system().changes();
    service.calls().spawn_nolink("supervision", move |ctx| async move {
        let _waiting = ctx.waiting_for("a change of the tree");
        let end = ctx.clone();
        let telling = async {
            loop {
                changes.due().await;
                supervision(number, rows(ctx.system()));
                ctx.system().runtime().timer(PAUSE).await;
            }
        };
        // Nobody listens any more, or the service is closed.
        let _: Result<(), _> = end.until_shutdown(telling).await;
    })
}
