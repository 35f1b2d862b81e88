//! A run's own history, as a page reads it when all is over.

use std::collections::BTreeMap;
use std::rc::Rc;

use tinkex::platform::plain::{Given, Wrong};

use super::RunWorld;
use super::tab::Tab;

pub struct History {
    pub is_completed: bool,
    /// The last incarnation; 0 where no model was made.
    pub last: u32,
    rows: Vec<Row>,
}

struct Row {
    kind: String,
    incarnation: u32,
    step: u32,
    path: Option<String>,
    value: Option<String>,
    seam: Option<Seam>,
}

/// The beginning of an incarnation.
#[derive(Clone)]
pub struct Seam {
    /// Milliseconds since 1970.
    pub at: f64,
    /// The step behind which it goes on.
    pub begins: u32,
    pub reason: String,
    pub model: String,
}

impl History {
    pub async fn read(world: &Rc<RunWorld>) -> History {
        let bytes = Tab::read(world).await;
        let wrong = Wrong::default();
        let given = Given::new(&bytes, &wrong);
        let rows = given.list("rows").map(|row| {
            let row = Given::of(row, &wrong);
            let (kind, step) = (row.text("type"), row.count("step"));
            let seam = (kind == "incarnation").then(|| Seam {
                at: row.number("at"),
                begins: step,
                reason: row.text("reason"),
                model: row.text("modelId"),
            });
            Row {
                incarnation: row.count("incarnation"),
                path: row.optional_text("path"),
                value: row.optional_text("value"),
                kind,
                step,
                seam,
            }
        });
        let status = given.object("status");
        let has_model = status.optional_text("modelId").is_some();
        History {
            is_completed: status.text("state") == "completed",
            last: if has_model { status.count("incarnation") } else { 0 },
            rows: rows.collect(),
        }
    }

    /// How an incarnation began; none for the first.
    pub fn seam(&self, incarnation: u32) -> Option<&Seam> {
        self.rows.iter().filter(|row| row.incarnation == incarnation).find_map(|row| row.seam.as_ref())
    }

    /// What the functions of an incarnation's steps have given, by step; of a run over data nothing.
    pub fn steps(&self, incarnation: u32) -> BTreeMap<u32, String> {
        let mut steps = BTreeMap::new();
        for row in self.rows.iter().filter(|row| row.kind == "step" && row.incarnation == incarnation) {
            let twice = steps.insert(row.step, row.value.clone().unwrap_or_default());
            assert_eq!(twice, None, "the history has step {} once", row.step);
        }
        steps
    }

    /// The incarnations that the last one's weights come from, the last one first, each with the last of its steps that count.
    pub fn lineage(&self) -> Vec<(u32, u32)> {
        let (mut lineage, mut at, mut until) = (Vec::new(), self.last, u32::MAX);
        while at > 0 {
            lineage.push((at, until));
            let seam = self.rows.iter().find(|row| row.seam.is_some() && row.incarnation == at);
            let Some((path, step)) = seam.and_then(|row| Some((row.path.as_ref()?, row.step))) else { break };
            // By its name: run-{id}-{incarnation}-{step}.
            let saved_by = path.rsplit('-').nth(1).and_then(|incarnation| incarnation.parse().ok());
            let saved_by = saved_by.expect("the run has saved it");
            (at, until) = (saved_by, step);
        }
        lineage
    }
}
