//! The life of each request, as its surroundings see it: what its client says to the disk and the network.
//!
//! A request is known by its bytes, which are its own: they have its number in them.

use std::cell::RefCell;
use std::rc::Rc;

use tinkex::platform::{HttpRequest, HttpResponse};
use tinkex::store::Op;
use tinkex::training::method::nothing;
use tinkex::transport::Body;
use tinkex_journal::record::{Answer, Head, Record, unescaped};
use tinkex_protocol::{ModelId, SeqId};

use crate::tally::Tally;

pub struct Trace {
    tally: Rc<Tally>,
    requests: RefCell<Vec<Request>>,
}

struct Request {
    /// The end of its keys: model and number.
    key: String,
    /// Its call, as the page calls it.
    label: String,
    body: Rc<[u8]>,
    /// As the server calls it.
    id: Option<String>,
    state: &'static str,
    /// The epoch of whoever sent something in its place.
    filled: Option<u64>,
}

impl Trace {
    pub fn new(tally: Rc<Tally>) -> Trace {
        Trace { tally, requests: RefCell::default() }
    }

    /// A batch is on the disk.
    pub fn committed(&self, ops: &[Op]) {
        let mut requests = self.requests.borrow_mut();
        for op in ops {
            match op {
                Op::Put(key, head) if key.starts_with("request/") => {
                    let Ok(Head { label, .. }) = Head::from_bytes(key, head) else { continue };
                    self.tally.transition(key, "called", "written");
                    let key = key["request/".len()..].to_owned();
                    requests.retain(|known| known.key != key);
                    requests.push(Request {
                        key,
                        label,
                        body: Rc::default(),
                        id: None,
                        state: "written",
                        filled: None,
                    });
                }
                Op::Put(key, body) if key.starts_with("body/") => {
                    if let Some(request) = find(&mut requests, key) {
                        request.body = body.clone();
                    }
                }
                Op::Put(key, answer) if key.starts_with("answer/") => {
                    let Some(request) = find(&mut requests, key) else { continue };
                    match Answer::from_bytes(key, answer) {
                        Ok(Answer::Taken(id)) => request.id = Some(id),
                        Ok(Answer::Refused(_)) => self.step(request, "given up"),
                        Ok(_) if request.state == "polled" => self.step(request, "finished"),
                        _ => {}
                    }
                }
                Op::Delete(key) if key.starts_with("request/") => {
                    if find(&mut requests, key).is_some_and(|request| request.state == "settled") {
                        self.tally.transition(key, "settled", "forgotten");
                    }
                    let key = key["request/".len()..].to_owned();
                    requests.retain(|known| known.key != key);
                }
                _ => {}
            }
        }
    }

    /// Which request it is, where it is one of a model, for the story.
    pub fn name(&self, request: &HttpRequest) -> String {
        let requests = self.requests.borrow();
        let known = requests.iter().find(|known| Some(&known.body) == request.body.as_ref());
        known.map_or_else(String::new, |known| format!(" {} of {}", known.key, known.label))
    }

    /// Whether it asks for the result of a request of a model.
    pub fn is_polled_by(&self, request: &HttpRequest) -> bool {
        self.requests.borrow().iter().any(|known| known.is_polled_by(request))
    }

    /// Whether a request of a model was sent, and the server has not said that it has it.
    pub fn has_unanswered(&self) -> bool {
        self.requests.borrow().iter().any(|request| request.state == "sent")
    }

    /// Whether it asks for the result of a run's pass over its data.
    pub fn is_pass_of_a_run(&self, request: &HttpRequest) -> bool {
        let requests = self.requests.borrow();
        requests.iter().any(|known| known.label.contains("\"step\"") && known.is_polled_by(request))
    }

    pub fn sent(&self, request: &HttpRequest, epoch: u64) {
        let mut requests = self.requests.borrow_mut();
        if request.url.ends_with("/retrieve_future") {
            match requests.iter_mut().find(|known| known.is_polled_by(request)) {
                Some(known) if known.state == "answered" => self.step(known, "polled"),
                Some(known) if known.state == "polled" => {
                    self.tally.transition(&known.key, "polled", "polled again");
                }
                _ => {}
            }
            return;
        }
        let Some(known) = requests.iter_mut().find(|known| Some(&known.body) == request.body.as_ref()) else {
            if let Some(known) = requests.iter_mut().find(|known| known.is_filled_by(request)) {
                known.filled = Some(epoch);
            }
            return;
        };
        // Whoever held the session before may not know.
        let filled = known.filled.is_some_and(|filled| filled < epoch);
        assert!(!filled, "{} is sent as it was, and was filled in an earlier life", known.key);
        match known.state {
            "written" => self.step(known, "sent"),
            "sent" => self.tally.transition(&known.key, "sent", "sent again"),
            _ => {}
        }
    }

    pub fn answered(&self, request: &HttpRequest, response: &HttpResponse) {
        let mut requests = self.requests.borrow_mut();
        let taken = response.is_success().then(|| response.text());
        let known = requests.iter_mut().find(|known| Some(&known.body) == request.body.as_ref());
        if let (Some(known), Some(text)) = (known, taken)
            && known.state == "sent"
        {
            self.step(known, "answered");
            let id = text.split("\"request_id\":\"").nth(1).and_then(|rest| rest.split('"').next());
            known.id = known.id.take().or(id.map(str::to_owned));
        }
    }

    /// The page has the result of a call.
    pub fn settled(&self, label: &str) {
        for request in self.requests.borrow_mut().iter_mut().filter(|request| request.label == label) {
            if request.state == "polled" {
                // Its record is still on its way.
                self.step(request, "finished");
            }
            if request.state == "finished" {
                self.step(request, "settled");
            }
        }
    }

    /// What the requests of a call were found in when it came back; `first`: its first number, `finished`: it has a result.
    pub fn come_back(&self, first: u64, finished: bool) {
        let requests = &mut *self.requests.borrow_mut();
        let is_first = |request: &Request| request.number() == Some(first);
        let Some(label) = requests.iter().find(|request| is_first(request)).map(|first| first.label.clone())
        else {
            return;
        };
        for request in requests.iter_mut().filter(|request| request.label == label) {
            if request.state == "given up" {
                self.tally.transition(&request.key, "given up", "come back");
            } else if is_first(request) {
                let state = match request.state {
                    _ if finished => "finished",
                    "polled" => "answered",
                    "settled" => "finished",
                    state => state,
                };
                self.tally.transition(&request.key, state, "come back");
                // It is sent or asked for once more.
                if state == "answered" {
                    request.state = "answered";
                }
            }
        }
    }

    fn step(&self, request: &mut Request, to: &'static str) {
        self.tally.transition(&request.key, request.state, to);
        request.state = to;
    }
}

impl Request {
    fn number(&self) -> Option<u64> {
        self.key.rsplit('/').next().and_then(|digits| digits.parse().ok())
    }

    fn is_polled_by(&self, request: &HttpRequest) -> bool {
        let Some(id) = &self.id else { return false };
        let body = String::from_utf8_lossy(request.body.as_deref().unwrap_or_default());
        request.url.ends_with("/retrieve_future") && body.contains(&format!("\"{id}\""))
    }

    /// Whether it is sent in the place of this one.
    fn is_filled_by(&self, request: &HttpRequest) -> bool {
        let model = self.key.split_once('/').and_then(|(model, _)| unescaped(model));
        let (Some(model), Some(number)) = (model, self.number()) else { return false };
        let filler = nothing(&ModelId::new(model), SeqId::new(number));
        matches!((filler, &request.body), (Ok(Body::Protobuf(bytes)), Some(body)) if bytes == *body)
    }
}

fn find<'a>(requests: &'a mut [Request], key: &str) -> Option<&'a mut Request> {
    let key = key.split_once('/').map(|(_, key)| key)?;
    requests.iter_mut().find(|request| request.key == key)
}
