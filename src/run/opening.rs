//! An incarnation of a run: a session and a model of its own, taken up again or made.

use std::rc::Rc;

use tinkex_journal::record::{MODELS, Model, Place as Requests, Record, SESSIONS, Session, unescaped};
use tinkex_supervise::{Pid, Restart};

use super::Shared;
use super::event::{self, Saved, When};
use super::order::Position;
use super::records::{
    Control, Cursor, Entry, Place, Row, State, control_key, cursor_key, entries_prefix, entry_of, place_key,
    row_key,
};
use crate::error::{Error, Outcome};
use crate::request::Progress;
use crate::service::{Made, Service};
use crate::session::{Choice, OF_A_RUN, Resume};
use crate::store::{Durability, Fence, Op, Store, put};
use crate::training::TrainingClient;

/// A run's session and model while they are open here.
pub struct Incarnation {
    pub service: Service,
    pub client: TrainingClient,
    pid: Pid,
}

/// What opening gives: the incarnation, and where the run is by its records.
pub struct Opened {
    pub incarnation: Incarnation,
    pub control: Control,
    pub cursor: Cursor,
    /// What the function of the step at the cursor has done, by the order of its calls.
    pub entries: Vec<Entry>,
    /// The row that says that this is a new model.
    pub seam: Option<Vec<u8>>,
}

/// Why there is to be a new model.
pub struct Seam {
    pub from: Option<Saved>,
    /// A path that the run has no record of.
    pub path: Option<String>,
    pub reason: String,
    /// The step that the one before had reached.
    pub reached: u32,
}

impl Incarnation {
    /// Lets it go: what has a number goes on when it is opened again.
    pub async fn close(self, shared: &Shared) {
        let _ = shared.incarnations.terminate_child(&self.pid).await;
    }
}

/// Opens the model that the run has. Fails as the session does when the server has ended it.
pub async fn resume(shared: Rc<Shared>, fence: Fence, control: Control) -> Result<Box<Opened>, Error> {
    let resume = Resume::This(control.session.as_str().into());
    let (service, pid) = start(&shared, &fence, control.incarnation, resume).await?;
    match take_up(&shared, &fence, &service, &control).await {
        Ok((client, cursor, entries)) => {
            let incarnation = Incarnation { service, client, pid };
            Ok(Box::new(Opened { incarnation, control, cursor, entries, seam: None }))
        }
        Err(error) => {
            let _ = shared.incarnations.terminate_child(&pid).await;
            Err(error)
        }
    }
}

async fn take_up(
    shared: &Shared,
    fence: &Fence,
    service: &Service,
    control: &Control,
) -> Result<(TrainingClient, Cursor, Vec<Entry>), Error> {
    let Made { client, .. } = service.resume_training_client(control.model.as_str().into()).await?;
    let cursor = super::cursor(fence.store(), &shared.id).await?;
    let entries = entries(shared, fence.store(), cursor.step).await?;
    Ok((client, cursor, entries))
}

/// Makes the next model, and sets the run back to where it begins, in one commit.
pub async fn create(
    shared: Rc<Shared>,
    fence: Fence,
    control: Control,
    seam: Option<Seam>,
) -> Result<Box<Opened>, Error> {
    let number = control.incarnation + 1;
    let mut tried = false;
    loop {
        let (service, pid) = start(&shared, &fence, number, Resume::None).await?;
        let error = match begin(&shared, &fence, &service, &control, seam.as_ref()).await {
            Ok((client, control, cursor, seam)) => {
                let incarnation = Incarnation { service, client, pid };
                return Ok(Box::new(Opened { incarnation, control, cursor, entries: Vec::new(), seam }));
            }
            Err(error) => error,
        };
        let lost = service.session().lost();
        let _ = shared.incarnations.terminate_child(&pid).await;
        let ended = lost.is_some_and(|lost| matches!(lost.status(), Some(404 | 410)));
        if !ended || std::mem::replace(&mut tried, true) {
            return Err(error);
        }
        // An earlier life had begun with this session, and the server has ended it since.
        forget_session(&shared, &fence, number).await?;
    }
}

/// Deletes what was written of the session of an incarnation that there never was.
async fn forget_session(shared: &Shared, fence: &Fence, number: u32) -> Result<(), Error> {
    let its = owner(shared, number);
    let ops = sessions(fence.store(), &|_, owner| owner == its).await?;
    fence.commit(Durability::Strict, ops).await
}

type Begun = (TrainingClient, Control, Cursor, Option<Vec<u8>>);

async fn begin(
    shared: &Rc<Shared>,
    fence: &Fence,
    service: &Service,
    control: &Control,
    seam: Option<&Seam>,
) -> Result<Begun, Error> {
    let lora = &shared.spec.lora;
    let progress = Progress::default();
    let path = seam.and_then(|seam| seam.from.as_ref().map(|saved| &saved.path).or(seam.path.as_ref()));
    let making = match path {
        Some(path) => service.create_training_client_from_state(
            path.clone(),
            true,
            lora.user_metadata.clone(),
            &progress,
        ),
        None => service.create_training_client(lora.clone(), &progress),
    };
    let Made { client, .. } = making.await?;
    let from = seam.and_then(|seam| seam.from.as_ref());
    let step = from.map_or(0, |saved| saved.step);
    let cursor = Cursor { step: step + 1, position: position(shared, from).await? };
    let journal = service.session().journal().await?;
    let mut next = Control {
        incarnation: control.incarnation + 1,
        model: client.model().as_str().to_owned(),
        session: journal.session().as_str().to_owned(),
        ..control.clone()
    };
    if next.state == State::Running {
        (next.cause, next.message) = Default::default();
    }
    let mut ops = vec![put(control_key(&shared.id), &next), put(cursor_key(&shared.id), &cursor)];
    let mut row = None;
    if let Some(seam) = seam {
        let when = When { at: shared.now(), step, incarnation: next.incarnation };
        let event =
            event::incarnation(when, seam.reached, path.map(String::as_str), &seam.reason, &next.model);
        ops.push(put(row_key(&shared.id, next.incarnation, step, "incarnation", 0), &Row(event.clone())));
        row = Some(event);
    }
    ops.extend(remains(shared, Some(&next.session)).await?);
    fence.commit(Durability::Strict, ops).await?;
    Ok((client, next, cursor, row))
}

/// Where the data of a checkpoint go on; from the beginning where nothing says it.
async fn position(shared: &Shared, from: Option<&Saved>) -> Result<Position, Error> {
    let Some(saved) = from else { return Ok(Position::default()) };
    let key = place_key(&shared.id, saved.incarnation, saved.step);
    let found = one(&shared.service.store, &key).await?;
    let Some(bytes) = found else { return Ok(Position::default()) };
    let place = Place::from_bytes(&key, &bytes).map_err(|why| Error::unreadable_record(&key, why))?;
    Ok(place.0)
}

/// The ops that delete what is left of a run's models and of the steps of its functions, but for one session's.
pub async fn remains(shared: &Shared, but: Option<&str>) -> Result<Vec<Op>, Error> {
    let store = &shared.service.store;
    let owners = owners(shared);
    let is_over = |id: &str, owner: &str| but != Some(id) && owner.starts_with(&owners);
    let mut ops = sessions(store, &is_over).await?;
    let entries = store.load(&entries_prefix(&shared.id)).await?;
    ops.extend(entries.into_iter().map(|(key, _)| Op::Delete(key)));
    Ok(ops)
}

/// The ops that delete sessions, chosen by their id and their owner, and all of their models.
async fn sessions(store: &Rc<dyn Store>, is_chosen: &dyn Fn(&str, &str) -> bool) -> Result<Vec<Op>, Error> {
    let (mut ops, mut chosen) = (Vec::new(), Vec::new());
    for (key, bytes) in store.load(SESSIONS).await? {
        let Some(id) = key.strip_prefix(SESSIONS).and_then(unescaped) else { continue };
        if Session::from_bytes(&key, &bytes).is_ok_and(|session| is_chosen(&id, &session.owner)) {
            chosen.push(id);
            ops.push(Op::Delete(key));
        }
    }
    for (key, bytes) in store.load(MODELS).await? {
        let Some(id) = key.strip_prefix(MODELS).and_then(unescaped) else { continue };
        if Model::from_bytes(&key, &bytes).is_ok_and(|model| chosen.contains(&model.session)) {
            for place in [Requests::Request, Requests::Body, Requests::Answer] {
                ops.extend(store.load(&place.prefix(&id)).await?.into_iter().map(|(key, _)| Op::Delete(key)));
            }
            ops.push(Op::Delete(key));
        }
    }
    Ok(ops)
}

/// Whether there are calls of a run's model whose end nobody has seen.
pub async fn has_calls(shared: &Shared, control: &Control) -> Result<bool, Error> {
    Ok(!shared.service.store.load(&Requests::Request.prefix(&control.model)).await?.is_empty())
}

/// With this begin the names under which a run's incarnations have their sessions.
fn owners(shared: &Shared) -> String {
    [OF_A_RUN, &shared.id, "/"].concat()
}

/// The name under which an incarnation has its session.
fn owner(shared: &Shared, number: u32) -> String {
    format!("{}{number}", owners(shared))
}

async fn start(
    shared: &Rc<Shared>,
    fence: &Fence,
    number: u32,
    resume: Resume,
) -> Result<(Service, Pid), Error> {
    let owner = owner(shared, number);
    let name = format!("incarnation {number}");
    let (service, tree) =
        Service::tree(shared.service.clone(), &name, Choice { owner, resume }, Some(fence.clone()), None);
    let started = shared.incarnations.start_child(tree.child().restart(Restart::Temporary)).await;
    match started.map(|started| started.pid) {
        Ok(Some(pid)) => Ok((service, pid)),
        _ => Err(Error::closed("this run", Outcome::NotSent)),
    }
}

/// What is recorded of the calls of a step, in their order.
pub async fn entries(shared: &Shared, store: &Rc<dyn Store>, step: u32) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    for (key, bytes) in store.load(&entries_prefix(&shared.id)).await? {
        if entry_of(&shared.id, &key) == Some((step, entries.len() as u32)) {
            entries.push(Entry::from_bytes(&key, &bytes).map_err(|why| Error::unreadable_record(&key, why))?);
        }
    }
    Ok(entries)
}

/// The record under this very key.
pub async fn one(store: &Rc<dyn Store>, key: &str) -> Result<Option<Vec<u8>>, Error> {
    let found = store.load(key).await?;
    Ok(found.into_iter().find(|(found, _)| found == key).map(|(_, bytes)| bytes))
}
