//! What the core asks to be written down, and its form on disk: enough to make the same state again, bit for bit.
//!
//! State is a fold over these records. A request that changed something is a record; so is each piece of work
//! when it is finished, which fixes the order in which models, samplers and checkpoints met; and so is the end of
//! a session, which a clock decided. Whatever else happened follows from them.
//!
//! Form: `length: u32 LE, CRC-32 of the payload: u32 LE, payload`, one after the other. A kill can only leave
//! a torn record at the end, and [`read`] says where the sound part ends.

use crate::message::Method;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// No record is longer: a body has a limit, and a result is of the order of its request.
const LONGEST: usize = 1 << 30;
const HEAD: usize = 8;

/// One fact, and when it happened (since the Unix epoch, by the driver's clock).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub at: Duration,
    pub fact: Fact,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    /// A request that changed the state.
    Request(Logged),
    /// A piece of work that was finished. `check` is the CRC-32 of its result: replaying must give the same.
    Finished { request: String, check: u32 },
    /// A sample that was finished. Its result is kept, since nothing else depends on making it again.
    Sampled { request: String, outcome: Vec<u8> },
    /// A session whose heartbeats stayed away.
    SessionEnded { session: String },
}

/// The part of a request that its effect depends on. No credential is in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Logged {
    pub method: Method,
    pub path: String,
    pub protobuf: bool,
    pub idempotency_key: Option<String>,
    pub body: Bytes,
}

/// Appends a record to `out` in its form on disk.
pub fn write(record: &Record, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend([0; HEAD]);
    *out =
        postcard::to_extend(record, std::mem::take(out)).expect("a record has no part that can't be written");
    let payload = &out[start + HEAD..];
    let length = u32::try_from(payload.len()).expect("a body is limited far below 4 GiB");
    let check = crc32fast::hash(payload);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + HEAD].copy_from_slice(&check.to_le_bytes());
}

/// What [`read`] found.
pub struct Read {
    pub records: Vec<Record>,
    /// Length in bytes of the part that holds whole, sound records. What follows it was torn by a kill.
    pub sound: usize,
}

/// Reads records until the end or the first that is not whole.
pub fn read(bytes: &[u8]) -> Read {
    let mut records = Vec::new();
    let mut sound = 0;
    while let Some((record, length)) = read_one(&bytes[sound..]) {
        records.push(record);
        sound += length;
    }
    Read { records, sound }
}

fn read_one(bytes: &[u8]) -> Option<(Record, usize)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (check, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > LONGEST {
        return None;
    }
    let payload = rest.get(..length)?;
    if crc32fast::hash(payload) != u32::from_le_bytes(*check) {
        return None;
    }
    Some((postcard::from_bytes(payload).ok()?, HEAD + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let logged = Logged {
            method: Method::Post,
            path: "/api/v1/optim_step".into(),
            protobuf: false,
            idempotency_key: None,
            body: Bytes::from_static(b"{}"),
        };
        vec![
            Record { at: Duration::from_millis(1), fact: Fact::Request(logged) },
            Record {
                at: Duration::from_millis(2),
                fact: Fact::Finished { request: "req-1".into(), check: 7 },
            },
            Record { at: Duration::from_millis(3), fact: Fact::SessionEnded { session: "session-1".into() } },
        ]
    }

    fn written() -> Vec<u8> {
        let mut bytes = Vec::new();
        records().iter().for_each(|record| write(record, &mut bytes));
        bytes
    }

    #[test]
    fn records_are_read_as_written() {
        let bytes = written();
        let read = read(&bytes);
        assert_eq!(read.records, records());
        assert_eq!(read.sound, bytes.len());
    }

    #[test]
    fn a_tail_torn_at_any_byte_is_cut_after_the_last_whole_record() {
        let bytes = written();
        for end in 0..bytes.len() {
            let read = read(&bytes[..end]);
            assert!(read.sound <= end);
            assert_eq!(read.records, records()[..read.records.len()]);
            assert!(read.records.len() < records().len());
        }
    }

    #[test]
    fn a_flipped_bit_ends_the_sound_part() {
        let mut bytes = written();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert_eq!(read(&bytes).records, records()[..2]);
    }
}
