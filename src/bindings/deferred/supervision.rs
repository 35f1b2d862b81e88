//! The supervision tree as JavaScript sees it.

use std::time::Duration;

use serde::ser::{Serialize, SerializeMap, Serializer};
use tinkex_supervise::{Kind, Node, System, TaskHandle};
use wasm_bindgen::JsValue;

use super::super::host::supervision;
use crate::service::Service;

/// A console that draws more often shows nothing more; whatever happens in between, the latest state wins.
const PAUSE: Duration = Duration::from_millis(100);

/// A process at some time, as `SupervisionRow` in `js/boundary.ts` has it.
struct Row<'a>(&'a Node, Duration);

struct Queue(&'static str, usize);

/// One shape for all plain fields, so that writing one is compiled once and not for each type.
#[derive(Clone, Copy)]
enum Field<'a> {
    Absent,
    Number(f64),
    Text(&'a str),
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let &Row(node, now) = self;
        let ms = |since: Duration| Field::Number(now.saturating_sub(since).as_micros() as f64 / 1000.0);
        let kind = match node.kind {
            Kind::Worker => "worker",
            Kind::Supervisor => "supervisor",
            Kind::TaskSupervisor => "taskSupervisor",
            Kind::Task => "task",
        };
        let waits = node.waits.as_ref();
        let mut row = serializer.serialize_map(None)?;
        for (name, field) in [
            ("id", Field::Number(node.id as f64)),
            ("parent", node.parent.map_or(Field::Absent, |id| Field::Number(id as f64))),
            ("name", Field::Text(&node.name)),
            ("kind", Field::Text(kind)),
            ("state", Field::Text(node.state.as_str())),
            ("restarts", Field::Number(node.restarts.into())),
            ("uptimeMs", ms(node.started)),
            ("waitsFor", waits.map_or(Field::Absent, |(what, _)| Field::Text(what))),
            ("waitsMs", waits.map_or(Field::Absent, |(_, since)| ms(*since))),
        ] {
            row.serialize_entry(name, &field)?;
        }
        let queues: Vec<Queue> = node.queues.iter().map(|&(name, length)| Queue(name, length)).collect();
        row.serialize_entry("queues", &queues)?;
        row.end()
    }
}

impl Serialize for Queue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let &Queue(name, length) = self;
        let mut queue = serializer.serialize_map(None)?;
        for (name, field) in [("name", Field::Text(name)), ("length", Field::Number(length as f64))] {
            queue.serialize_entry(name, &field)?;
        }
        queue.end()
    }
}

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Field::Absent => serializer.serialize_none(),
            Field::Number(number) => serializer.serialize_f64(*number),
            Field::Text(text) => serializer.serialize_str(text),
        }
    }
}

/// All processes of a tree, each after its supervisor.
pub fn rows(system: &System) -> JsValue {
    let now = system.now();
    let nodes = system.snapshot();
    let objects = serde_wasm_bindgen::Serializer::new().serialize_maps_as_objects(true);
    objects.collect_seq(nodes.iter().map(|node| Row(node, now))).unwrap_or_default()
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
