//! What is asked more rarely of a model in training, and a client whose model was there before: the calls that come back with it.
//! All of this is in the second file of the package.

use tinkex_journal::lane::Ticket;
use tinkex_journal::record::{Answer, Encoding};
use tinkex_journal::recovery::{self, Recovered};
use tinkex_protocol::json::training::LoadWeights;

use super::dispatcher::Message;
use super::held::{Begun, Held, Part};
use super::method::{Ask, Method};
use super::{Asked, Pending, TrainingClient};
use crate::error::{Error, Outcome};
use crate::request::retrieve::Payload;
use crate::request::{Progress, caller};
use crate::transport::Body;

impl TrainingClient {
    /// What comes of a call that came back, by its first number. `key`: of the promise that waits for it from now on.
    pub fn result(&self, first: u64, key: u32, progress: &Progress) -> Result<Asked, Error> {
        let known = self.0.pending.iter().find(|pending| pending.first == first);
        let method = known.and_then(|pending| pending.method).ok_or_else(|| {
            Error::invalid("seqId", format!("{} has no pending call {first}", self.0.model))
        })?;
        progress.set(Outcome::Journaled);
        let (caller, reply) = caller(progress.clone(), Box::new(|| ()));
        let message = Message::Await { first, key, caller };
        if let Err(Message::Await { caller, .. }) = self.0.dispatcher.send(message) {
            caller.settle(Err(self.ended(Outcome::Journaled)));
        }
        Ok(Asked { method, resumed: true, reply })
    }
}

/// What asks for the weights of a checkpoint, and with `optimizer` for its optimizer, in the place of the model's own.
pub fn load_state(path: String, optimizer: bool) -> Ask {
    Ask::LoadState(Box::new(move |model, number| {
        Body::json(&LoadWeights {
            session_id: None,
            model_seq_id: None,
            model_id: Some(model),
            seq_id: Some(number),
            base_model: None,
            user_metadata: None,
            path: path.clone(),
            optimizer,
            optimizer_config: None,
            weights_access_token: None,
            tag: Default::default(),
        })
    }))
}

/// What came back, as it is shown and as it is held. `caller`: the name of this service in records.
pub fn resume(recovered: Recovered, caller: &str) -> Begun {
    let lane = recovered.lane();
    let mut pending = Vec::with_capacity(recovered.calls.len());
    let mut held = Vec::with_capacity(recovered.calls.len());
    for (at, call) in recovered.calls.into_iter().enumerate() {
        let head = call.head();
        let shown = Pending {
            first: call.first,
            method: head.and_then(|head| Method::of_name(&head.method)),
            label: head.map(|head| head.label.clone()).unwrap_or_default(),
            key: head.filter(|head| head.caller == caller).map_or(0, |head| head.key),
            finished: call.is_finished(),
        };
        held.push(self::held(at, call, &shown));
        pending.push(shown);
    }
    Begun { lane, pending, held }
}

/// A call from the journal, as it is shown; `at`: its place among those, which is its ticket.
fn held(at: usize, call: recovery::Call, shown: &Pending) -> Held {
    let (spoiled, done) = (call.is_lost(), shown.finished);
    let lost = match call.refused() {
        Some(refusal) => Some(Error::given_up(refusal.clone())),
        None => spoiled.then(Error::lost_record),
    };
    let mut ended = done.then_some(Ok(()));
    let mut parts = Vec::with_capacity(call.parts.len());
    for recovery::Part { head, body, answer } in call.parts {
        let mut part = Part::default();
        if let Some(head) = head {
            part.body = body.map(|bytes| match head.encoding {
                Encoding::Json => Body::Json(bytes.into()),
                Encoding::Protobuf => Body::Protobuf(bytes.into()),
            });
            part.path = head.path.into();
            part.idempotency_key = head.idempotency_key;
            part.sent = true;
            part.data = head.data;
        }
        match answer {
            Some(Answer::Result(Encoding::Json, bytes)) => part.result = Some(Payload::Json(bytes)),
            Some(Answer::Result(Encoding::Protobuf, bytes)) => {
                part.result = Some(Payload::Protobuf(bytes));
            }
            Some(Answer::Failed(failed)) => ended = Some(Err(Error::from(failed))),
            Some(Answer::Taken(_) | Answer::Refused(_)) | None => {}
        }
        parts.push(part);
    }
    Held {
        ticket: Ticket(at as u64),
        // What is not known is only kept, and never read.
        method: shown.method.unwrap_or(Method::LoadState),
        ask: None,
        // Its records are not written again.
        label: String::new(),
        key: shown.key,
        with: Vec::new(),
        written: None,
        first: call.first,
        parts,
        caller: None,
        ended,
        seen: false,
        at_end: Vec::new(),
        done,
        lost,
        spoiled,
        resumed: true,
    }
}
