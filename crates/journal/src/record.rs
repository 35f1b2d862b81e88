//! What is written down, and under which keys.
//!
//! A record is a version, a checksum over its key and its fields, and the fields. Bodies alone are stored as the bare
//! bytes that are sent, five megabytes of them at times; their checksum stands in the head of their request.
//!
//! | key | record | written |
//! |---|---|---|
//! | `session/{session}` | [`Session`] | strict, before the session is used |
//! | `model/{model}` | [`Model`] | with each call |
//! | `request/{model}/{number}` | [`Head`] | strict, before the request is sent |
//! | `body/{model}/{number}` | bare bytes | with the head; deleted with the result |
//! | `answer/{model}/{number}` | [`Answer`] | relaxed: the request id, then the result |
//! | `telemetry/{owner}` | [`Telemetry`] | relaxed: what did not get out |
//! | `damaged/{key}` | what stood under the key | when it could not be read |

use xxhash_rust::xxh32::xxh32;

use crate::lane::Number;

/// Of the records that this version writes and reads. Bodies have the version of their head.
pub const VERSION: u8 = 1;

/// Digits of a number in a key, so that keys are in the order of their numbers; they go up to 2³¹ − 1.
const DIGITS: usize = 10;

const HEADER: usize = 5; // bytes: version and checksum

/// Why a record can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is not what was written.
    Damaged,
    /// A later version of this package wrote it; it is left as it is.
    TooNew(u8),
}

/// A session of this server and account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Who used it last: a service of a page or process.
    pub owner: String,
    /// Milliseconds since 1970.
    pub created: u64,
    /// No model was ever asked for under this number or a higher one.
    pub next_model: u64,
    /// No sampler was ever asked for under this number or a higher one.
    pub next_sampler: u64,
    /// Whether the server answers the same number and body with the same request, once that is known.
    pub exactly_once: Option<bool>,
}

/// A model in training.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    pub session: String,
    /// What its next request is numbered.
    pub next: Number,
}

/// A request that has its number. It is sent as it was, so its head has all that a body lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The method as its caller knows it.
    pub method: String,
    /// Behind `/api/v1/`.
    pub path: String,
    /// JSON text that the caller gave to know the call by; empty for none.
    pub label: String,
    /// Who made the call: a page's service, and the key of the call in it.
    pub caller: String,
    pub key: u32,
    /// Which part of its call this is, from 0, and of how many.
    pub part: u32,
    pub parts: u32,
    /// How many data the part has, which its result doesn't say.
    pub data: u32,
    /// The server refused the number before, and may have kept it.
    pub again: bool,
    pub encoding: Encoding,
    pub idempotency_key: String,
    pub body_length: u32,
    pub body_check: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    #[default]
    Json,
    Protobuf,
}

/// What the server said of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It works on it, under this id.
    Taken(String),
    Result(Encoding, Vec<u8>),
    Failed(Failed),
    /// It won't have it, and its call was given up: no part of that is sent as it was any more.
    Refused(Failed),
}

/// A failure, in the words of the client's errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub kind: String,
    pub status: u32,
    /// The kind's own: a category, a body.
    pub detail: String,
    pub message: String,
    pub outcome: String,
    pub retryable: bool,
}

/// What a service has told nobody yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Telemetry {
    /// In their order.
    pub events: Vec<Untold>,
}

/// One event, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untold {
    pub session: String,
    pub process: String,
    /// JSON.
    pub event: Vec<u8>,
}

/// Where the records of one kind stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Request,
    Body,
    Answer,
}

impl Place {
    /// What the keys of a model's records begin with.
    pub fn prefix(self, model: &str) -> String {
        let kind = match self {
            Place::Request => REQUESTS,
            Place::Body => "body/",
            Place::Answer => ANSWERS,
        };
        kind.to_owned() + &escaped(model) + "/"
    }

    pub fn key(self, model: &str, number: Number) -> String {
        let mut digits = [b'0'; DIGITS];
        let mut left = number;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
        }
        let mut key = self.prefix(model);
        key.extend(digits.map(char::from));
        key
    }

    /// The number of a key of this model; none where it is another's.
    pub fn number(self, model: &str, key: &str) -> Option<Number> {
        let digits = key.strip_prefix(&self.prefix(model))?;
        let digit =
            |number: Number, byte: u8| byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0'));
        if digits.len() != DIGITS {
            return None;
        }
        digits.bytes().try_fold(0, digit)
    }
}

pub const SESSIONS: &str = "session/";
pub const REQUESTS: &str = "request/";
pub const ANSWERS: &str = "answer/";
pub const DAMAGED: &str = "damaged/";

/// Also the name of the fence under which everything of the session is written.
pub fn session_key(session: &str) -> String {
    SESSIONS.to_owned() + &escaped(session)
}

pub const MODELS: &str = "model/";

pub fn model_key(model: &str) -> String {
    MODELS.to_owned() + &escaped(model)
}

pub const TELEMETRY: &str = "telemetry/";

/// Also the name of the fence under which it is written.
pub fn telemetry_key(owner: &str) -> String {
    TELEMETRY.to_owned() + &escaped(owner)
}

/// Keys are printable ASCII; a server's ids may be anything, and `/` is ours.
pub fn escaped(id: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut key = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_graphic() && byte != b'/' && byte != b'%' {
            key.push(byte as char);
        } else {
            key.push('%');
            key.push(HEX[usize::from(byte >> 4)] as char);
            key.push(HEX[usize::from(byte & 15)] as char);
        }
    }
    key
}

/// The id in a key of a session or a model.
pub fn unescaped(key: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(key.len());
    let mut left = key.bytes();
    while let Some(byte) = left.next() {
        if byte == b'%' {
            let mut hex = || (left.next()? as char).to_digit(16);
            bytes.push((hex()? * 16 + hex()?) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Whether bytes are those that were written: an xxHash32 of them, under their key.
pub fn check(key: &str, bytes: &[u8]) -> u32 {
    xxh32(bytes, xxh32(key.as_bytes(), 0))
}

/// A kind of record.
pub trait Record: Sized {
    fn put(&self, fields: &mut Writer);
    fn take(fields: &mut Reader) -> Option<Self>;

    /// The record's bytes, which can be read under this key alone.
    fn to_bytes(&self, key: &str) -> Vec<u8> {
        let mut fields = Writer(vec![VERSION, 0, 0, 0, 0]);
        self.put(&mut fields);
        fields.sealed(key)
    }

    fn from_bytes(key: &str, bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut fields = open(key, bytes)?;
        let record = Self::take(&mut fields).ok_or(Unreadable::Damaged)?;
        if fields.0.is_empty() { Ok(record) } else { Err(Unreadable::Damaged) }
    }
}

/// Fields, one behind the other: numbers little-endian, texts and bytes behind their length.
pub struct Writer(Vec<u8>);

impl Writer {
    pub fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub fn count(&mut self, count: u32) {
        self.0.extend_from_slice(&count.to_le_bytes());
    }

    pub fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len() as u32);
        self.0.extend_from_slice(bytes);
    }

    pub fn texts(&mut self, texts: &[&str]) {
        for text in texts {
            self.bytes(text.as_bytes());
        }
    }

    fn sealed(mut self, key: &str) -> Vec<u8> {
        let check = check(key, &self.0[HEADER..]);
        self.0[1..HEADER].copy_from_slice(&check.to_le_bytes());
        self.0
    }
}

pub struct Reader<'a>(&'a [u8]);

fn open<'a>(key: &str, bytes: &'a [u8]) -> Result<Reader<'a>, Unreadable> {
    let (header, fields) = bytes.split_at_checked(HEADER).ok_or(Unreadable::Damaged)?;
    // The checksum is where it is in every version: a damaged record does not pass for a newer one.
    if header[1..] != check(key, fields).to_le_bytes() || header[0] == 0 {
        return Err(Unreadable::Damaged);
    }
    if header[0] > VERSION { Err(Unreadable::TooNew(header[0])) } else { Ok(Reader(fields)) }
}

impl<'a> Reader<'a> {
    fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let (slice, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(slice)
    }

    pub fn number(&mut self) -> Option<u64> {
        self.slice(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    pub fn count(&mut self) -> Option<u32> {
        self.slice(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    pub fn byte(&mut self) -> Option<u8> {
        self.slice(1).map(|slice| slice[0])
    }

    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.count()?;
        self.slice(length as usize)
    }

    pub fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    pub fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn encoding(&mut self) -> Option<Encoding> {
        Some(if self.flag()? { Encoding::Protobuf } else { Encoding::Json })
    }

    fn failed(&mut self) -> Option<Failed> {
        Some(Failed {
            kind: self.text()?,
            detail: self.text()?,
            message: self.text()?,
            outcome: self.text()?,
            status: self.count()?,
            retryable: self.flag()?,
        })
    }
}

impl Record for Session {
    fn put(&self, fields: &mut Writer) {
        fields.texts(&[&self.owner]);
        fields.number(self.created);
        fields.number(self.next_model);
        fields.number(self.next_sampler);
        fields.byte(self.exactly_once.map_or(2, u8::from));
    }

    fn take(fields: &mut Reader) -> Option<Session> {
        Some(Session {
            owner: fields.text()?,
            created: fields.number()?,
            next_model: fields.number()?,
            next_sampler: fields.number()?,
            exactly_once: match fields.byte()? {
                0 => Some(false),
                1 => Some(true),
                2 => None,
                _ => return None,
            },
        })
    }
}

impl Record for Model {
    fn put(&self, fields: &mut Writer) {
        fields.texts(&[&self.session]);
        fields.number(self.next);
    }

    fn take(fields: &mut Reader) -> Option<Model> {
        Some(Model { session: fields.text()?, next: fields.number()? })
    }
}

impl Record for Head {
    fn put(&self, fields: &mut Writer) {
        fields.texts(&[&self.method, &self.path, &self.label, &self.caller, &self.idempotency_key]);
        for count in [self.key, self.part, self.parts, self.data, self.body_length, self.body_check] {
            fields.count(count);
        }
        fields.byte(self.again.into());
        fields.byte((self.encoding == Encoding::Protobuf).into());
    }

    fn take(fields: &mut Reader) -> Option<Head> {
        let head = Head {
            method: fields.text()?,
            path: fields.text()?,
            label: fields.text()?,
            caller: fields.text()?,
            idempotency_key: fields.text()?,
            key: fields.count()?,
            part: fields.count()?,
            parts: fields.count()?,
            data: fields.count()?,
            body_length: fields.count()?,
            body_check: fields.count()?,
            again: fields.flag()?,
            encoding: fields.encoding()?,
        };
        (head.part < head.parts).then_some(head)
    }
}

impl Record for Answer {
    fn put(&self, fields: &mut Writer) {
        match self {
            Answer::Taken(request) => {
                fields.byte(0);
                fields.texts(&[request]);
            }
            Answer::Result(encoding, bytes) => {
                fields.byte(1);
                fields.byte((*encoding == Encoding::Protobuf).into());
                fields.bytes(bytes);
            }
            Answer::Failed(failed) | Answer::Refused(failed) => {
                fields.byte(if matches!(self, Answer::Failed(_)) { 2 } else { 3 });
                fields.texts(&[&failed.kind, &failed.detail, &failed.message, &failed.outcome]);
                fields.count(failed.status);
                fields.byte(failed.retryable.into());
            }
        }
    }

    fn take(fields: &mut Reader) -> Option<Answer> {
        Some(match fields.byte()? {
            0 => Answer::Taken(fields.text()?),
            1 => Answer::Result(fields.encoding()?, fields.bytes()?.to_vec()),
            2 => Answer::Failed(fields.failed()?),
            3 => Answer::Refused(fields.failed()?),
            _ => return None,
        })
    }
}

impl Record for Telemetry {
    fn put(&self, fields: &mut Writer) {
        for event in &self.events {
            fields.texts(&[&event.session, &event.process]);
            fields.bytes(&event.event);
        }
    }

    fn take(fields: &mut Reader) -> Option<Telemetry> {
        let mut events = Vec::new();
        while !fields.0.is_empty() {
            let (session, process) = (fields.text()?, fields.text()?);
            events.push(Untold { session, process, event: fields.bytes()?.to_vec() });
        }
        Some(Telemetry { events })
    }
}

#[cfg(test)]
mod tests;
