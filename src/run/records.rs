//! What is written down of a run, and under which keys.
//!
//! | key | record | written |
//! |---|---|---|
//! | `run/{run}` | [`Kept`] | strict, when it is started |
//! | `run-control/{run}` | [`Control`] | strict, when the state or the incarnation changes |
//! | `run-cursor/{run}` | [`Cursor`] | in the commit of the call that is a step; of a function's, when the step is closed |
//! | `run-row/{run}/{incarnation}/{step}/{kind}` | [`Row`] | in the commit that deletes the call that it tells of |
//! | `run-place/{run}/{incarnation}/{step}` | [`Place`] | in the commit of the call that saves a checkpoint |
//! | `run-call/{run}/{step}/{call}` | [`Entry`] | in the commit of the call; again with what came of it |

use tinkex_journal::record::{Reader, Record, Writer, escaped};

use super::order::Position;

pub const RUNS: &str = "run/";

pub fn run_key(run: &str) -> String {
    [RUNS, &escaped(run)].concat()
}

pub fn control_key(run: &str) -> String {
    ["run-control/", &escaped(run)].concat()
}

pub fn cursor_key(run: &str) -> String {
    ["run-cursor/", &escaped(run)].concat()
}

pub fn rows_prefix(run: &str) -> String {
    ["run-row/", &escaped(run), "/"].concat()
}

/// The rows of one step.
pub fn step_prefix(run: &str, incarnation: u32, step: u32) -> String {
    format!("{}{incarnation:06}/{step:010}/", rows_prefix(run))
}

/// `nth`: of its kind at this step. A step's own row stands in front of those that tell what came behind it, and an
/// incarnation begins with its own.
pub fn row_key(run: &str, incarnation: u32, step: u32, kind: &str, nth: u32) -> String {
    let rank = match kind {
        "incarnation" => '0',
        "step" => '1',
        _ => '2',
    };
    format!("{}{rank}{kind}{nth:06}", step_prefix(run, incarnation, step))
}

pub fn place_key(run: &str, incarnation: u32, step: u32) -> String {
    format!("run-place/{}/{incarnation:06}/{step:010}", escaped(run))
}

pub fn entries_prefix(run: &str) -> String {
    ["run-call/", &escaped(run), "/"].concat()
}

pub fn entry_key(run: &str, step: u32, call: u32) -> String {
    format!("{}{step:010}/{call:010}", entries_prefix(run))
}

/// The step and the call that the key of an entry names.
pub fn entry_of(run: &str, key: &str) -> Option<(u32, u32)> {
    let (step, call) = key.strip_prefix(&entries_prefix(run))?.split_once('/')?;
    Some((step.parse().ok()?, call.parse().ok()?))
}

/// A run as it was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Milliseconds since 1970.
    pub created: u64,
    /// The plain value that it was started with.
    pub spec: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Running,
    Paused,
    Completed,
    Stopped,
    /// It was asked to stop, and does so when what is under way has come to its end.
    Stopping,
    /// The same, with a last checkpoint.
    Saving,
}

impl State {
    /// As users know it: a run that is to stop runs until it has.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Running | State::Stopping | State::Saving => "running",
            State::Paused => "paused",
            State::Completed => "completed",
            State::Stopped => "stopped",
        }
    }

    pub fn is_over(self) -> bool {
        matches!(self, State::Completed | State::Stopped)
    }

    pub fn is_to_stop(self) -> bool {
        matches!(self, State::Stopping | State::Saving)
    }
}

/// What a run is at, beside its cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    pub state: State,
    /// Why it was paused, or can't save a last checkpoint: the kind of the cause, and its words. Empty for none.
    pub cause: String,
    pub message: String,
    /// Milliseconds since 1970.
    pub since: u64,
    /// From 1; 0 before it has a model.
    pub incarnation: u32,
    pub model: String,
    pub session: String,
    /// Of the step function.
    pub version: String,
}

/// Where a run is: in front of its next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// From 1; all steps before it were asked for.
    pub step: u32,
    pub position: Position,
}

/// One line of a run's history: a plain value, an event as JavaScript has it.
pub struct Row(pub Vec<u8>);

/// Where the data of a checkpoint go on.
pub struct Place(pub Position);

/// A call of a step, under its place in the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub method: String,
    /// Of `once`.
    pub name: String,
    /// Of the arguments.
    pub check: u32,
    /// What came of it; none while that is not known.
    pub value: Option<Value>,
}

/// What a call of a step gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A plain value; of what the page recorded itself JSON text.
    Given(Vec<u8>),
    /// The error that it was rejected with, as a plain value.
    Failed(Vec<u8>),
}

impl Record for Kept {
    fn put(&self, fields: &mut Writer) {
        fields.number(self.created);
        fields.bytes(&self.spec);
    }

    fn take(fields: &mut Reader) -> Option<Kept> {
        Some(Kept { created: fields.number()?, spec: fields.bytes()?.to_vec() })
    }
}

impl Record for Control {
    fn put(&self, fields: &mut Writer) {
        fields.byte(self.state as u8);
        fields.texts(&[&self.cause, &self.message, &self.model, &self.session, &self.version]);
        fields.number(self.since);
        fields.count(self.incarnation);
    }

    fn take(fields: &mut Reader) -> Option<Control> {
        let states =
            [State::Running, State::Paused, State::Completed, State::Stopped, State::Stopping, State::Saving];
        Some(Control {
            state: *states.get(usize::from(fields.byte()?))?,
            cause: fields.text()?,
            message: fields.text()?,
            model: fields.text()?,
            session: fields.text()?,
            version: fields.text()?,
            since: fields.number()?,
            incarnation: fields.count()?,
        })
    }
}

impl Record for Cursor {
    fn put(&self, fields: &mut Writer) {
        fields.count(self.step);
        put_position(&self.position, fields);
    }

    fn take(fields: &mut Reader) -> Option<Cursor> {
        Some(Cursor { step: fields.count()?, position: take_position(fields)? })
    }
}

impl Record for Place {
    fn put(&self, fields: &mut Writer) {
        put_position(&self.0, fields);
    }

    fn take(fields: &mut Reader) -> Option<Place> {
        take_position(fields).map(Place)
    }
}

fn put_position(position: &Position, fields: &mut Writer) {
    fields.count(position.epoch);
    fields.count(position.block);
    fields.count(position.at);
    fields.texts(&[&position.cursor]);
}

fn take_position(fields: &mut Reader) -> Option<Position> {
    Some(Position {
        epoch: fields.count()?,
        block: fields.count()?,
        at: fields.count()?,
        cursor: fields.text()?,
    })
}

impl Record for Row {
    fn put(&self, fields: &mut Writer) {
        fields.bytes(&self.0);
    }

    fn take(fields: &mut Reader) -> Option<Row> {
        Some(Row(fields.bytes()?.to_vec()))
    }
}

impl Record for Entry {
    fn put(&self, fields: &mut Writer) {
        fields.texts(&[&self.method, &self.name]);
        fields.count(self.check);
        match &self.value {
            None => fields.byte(0),
            Some(Value::Given(bytes)) => {
                fields.byte(1);
                fields.bytes(bytes);
            }
            Some(Value::Failed(bytes)) => {
                fields.byte(2);
                fields.bytes(bytes);
            }
        }
    }

    fn take(fields: &mut Reader) -> Option<Entry> {
        let (method, name, check) = (fields.text()?, fields.text()?, fields.count()?);
        let value = match fields.byte()? {
            0 => None,
            1 => Some(Value::Given(fields.bytes()?.to_vec())),
            2 => Some(Value::Failed(fields.bytes()?.to_vec())),
            _ => return None,
        };
        Some(Entry { method, name, check, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_is_read_as_it_was_written() {
        fn same<R: Record + PartialEq + std::fmt::Debug>(record: R) {
            let bytes = record.to_bytes("key");
            assert_eq!(R::from_bytes("key", &bytes), Ok(record));
        }
        let position = Position { epoch: 1, block: 2, at: 3, cursor: "\"é\"".into() };
        same(Kept { created: 1 << 40, spec: vec![1, 2] });
        same(Cursor { step: 4, position });
        same(Entry {
            method: "once".into(),
            name: "n".into(),
            check: 9,
            value: Some(Value::Given(Vec::new())),
        });
        same(Entry {
            method: "optimStep".into(),
            name: String::new(),
            check: 9,
            value: Some(Value::Failed(vec![1])),
        });
        same(Entry { method: "sample".into(), name: String::new(), check: 9, value: None });
        for state in [State::Running, State::Paused, State::Stopped, State::Stopping, State::Saving] {
            same(Control {
                state,
                cause: "storage".into(),
                message: "full".into(),
                since: 5,
                incarnation: 2,
                model: "m".into(),
                session: "s".into(),
                version: "1".into(),
            });
        }
    }

    #[test]
    fn keys_are_in_the_order_of_what_they_name() {
        let rows = [
            row_key("r", 1, 9, "step", 0),
            row_key("r", 1, 9, "checkpoint", 0),
            row_key("r", 1, 10, "step", 0),
            row_key("r", 2, 3, "incarnation", 0),
            row_key("r", 2, 3, "evaluation", 0),
            row_key("r", 2, 4, "step", 0),
            row_key("r", 2, 4, "sample", 0),
            row_key("r", 2, 4, "sample", 1),
        ];
        assert!(rows.is_sorted());
        assert_eq!(entry_of("r/1", &entry_key("r/1", 7, 12)), Some((7, 12)));
        assert_eq!(entry_of("r", &entry_key("r2", 7, 12)), None);
    }
}
