//! Every record is read as it was written, under its own key alone, and nothing else passes for one.

use super::*;

fn head() -> Head {
    Head {
        method: "forwardBackward".into(),
        path: "forward_backward".into(),
        label: r#"{"step":12}"#.into(),
        caller: "page-1".into(),
        key: 7,
        part: 1,
        parts: 3,
        data: 40,
        again: true,
        encoding: Encoding::Protobuf,
        idempotency_key: "0b5c".into(),
        body_length: 5_000_000,
        body_check: 0xdead_beef,
    }
}

fn failed() -> Failed {
    Failed {
        kind: "request_failed".into(),
        status: 500,
        detail: "user".into(),
        message: "no".into(),
        outcome: "refused".into(),
        retryable: true,
    }
}

fn session(exactly_once: Option<bool>) -> Session {
    Session {
        owner: "page-1".into(),
        created: 1_790_000_000_000,
        next_model: 3,
        next_sampler: 64,
        exactly_once,
    }
}

fn comes_back<R: Record + PartialEq + std::fmt::Debug>(record: R) {
    let bytes = record.to_bytes("a");
    assert_eq!(R::from_bytes("a", &bytes).as_ref(), Ok(&record));
    assert_eq!(R::from_bytes("b", &bytes), Err(Unreadable::Damaged), "under another key");
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        let read = R::from_bytes("a", &changed);
        match at {
            0 => assert_eq!(read, Err(Unreadable::TooNew(VERSION ^ 0x10))),
            _ => assert_eq!(read, Err(Unreadable::Damaged), "byte {at}"),
        }
        assert_eq!(R::from_bytes("a", &bytes[..at]), Err(Unreadable::Damaged), "cut at {at}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(R::from_bytes("a", &longer), Err(Unreadable::Damaged));
}

#[test]
fn every_record_comes_back_as_it_was_written_and_no_damage_passes() {
    comes_back(head());
    comes_back(Head { again: false, encoding: Encoding::Json, part: 0, ..head() });
    for exactly_once in [None, Some(false), Some(true)] {
        comes_back(session(exactly_once));
    }
    comes_back(Model { session: "s".into(), next: 1 << 40 });
    let event = br#"{"event":"SESSION_START"}"#.to_vec();
    let untold = Untold { session: "s".into(), process: "p".into(), event };
    comes_back(Telemetry { events: vec![] });
    comes_back(Telemetry { events: vec![untold.clone(), untold] });
    comes_back(Answer::Taken("s:request:1".into()));
    comes_back(Answer::Result(Encoding::Json, b"{}".to_vec()));
    comes_back(Answer::Result(Encoding::Protobuf, vec![0; 300]));
    comes_back(Answer::Failed(failed()));
    comes_back(Answer::Refused(failed()));
    comes_back(Answer::Failed(Failed { retryable: false, ..failed() }));
}

/// A record with a right checksum and these fields.
fn sealed(fields: &[u8]) -> Vec<u8> {
    let mut writer = Writer(vec![VERSION, 0, 0, 0, 0]);
    writer.0.extend_from_slice(fields);
    writer.sealed("a")
}

#[test]
fn fields_that_no_version_wrote_are_damage_even_under_a_right_checksum() {
    assert_eq!(Answer::from_bytes("a", &sealed(&[3])), Err(Unreadable::Damaged));
    assert_eq!(Answer::from_bytes("a", &sealed(&[])), Err(Unreadable::Damaged));
    assert_eq!(
        Answer::from_bytes("a", &sealed(&[1, 2, 0, 0, 0, 0])),
        Err(Unreadable::Damaged),
        "an encoding"
    );
    assert_eq!(Answer::from_bytes("a", &sealed(&[0, 1, 0, 0, 0, 0xff])), Err(Unreadable::Damaged), "no text");
    assert_eq!(Answer::from_bytes("a", &sealed(&[0, 9, 0, 0, 0, 65])), Err(Unreadable::Damaged), "too short");
    assert_eq!(
        Answer::from_bytes("a", &sealed(&[0, 1, 0, 0, 0, 65, 65])),
        Err(Unreadable::Damaged),
        "too long"
    );
    let odd = Head { part: 3, parts: 3, ..head() }.to_bytes("a");
    assert_eq!(Head::from_bytes("a", &odd), Err(Unreadable::Damaged), "part 4 of 3");
    let mut odd = session(None).to_bytes("a");
    *odd.last_mut().unwrap() = 3;
    let odd = sealed(&odd[HEADER..]);
    assert_eq!(Session::from_bytes("a", &odd), Err(Unreadable::Damaged));
}

#[test]
fn a_record_without_a_version_is_damage() {
    let mut bytes = sealed(&[0, 1, 0, 0, 0, 65]);
    assert_eq!(Answer::from_bytes("a", &bytes), Ok(Answer::Taken("A".into())));
    bytes[0] = 0;
    assert_eq!(Answer::from_bytes("a", &bytes), Err(Unreadable::Damaged));
}

#[test]
fn keys_are_in_the_order_of_their_numbers_and_name_their_model_alone() {
    let keys: Vec<String> =
        [1, 9, 10, 99, 2_147_483_647].iter().map(|&number| Place::Body.key("m", number)).collect();
    assert!(keys.is_sorted());
    assert_eq!(keys[0], "body/m/0000000001");
    assert_eq!(Place::Request.key("s:train:0", 42), "request/s:train:0/0000000042");
    assert_eq!(Place::Answer.number("m", "answer/m/2147483647"), Some(2_147_483_647));
    assert_eq!(Place::Answer.number("m", "answer/m/0000000120"), Some(120));
    for other in ["answer/n/0000000001", "body/m/0000000001", "answer/m/1", "answer/m/00000x0001"] {
        assert_eq!(Place::Answer.number("m", other), None, "{other}");
    }
}

#[test]
fn ids_of_any_letters_make_keys_of_printable_ascii_that_do_not_meet() {
    assert_eq!(model_key("a/b"), "model/a%2Fb");
    assert_eq!(session_key("é %~"), "session/%C3%A9%20%25~");
    assert_eq!(unescaped("%C3%A9%20%25~").as_deref(), Some("é %~"));
    assert_eq!(unescaped("plain:1").as_deref(), Some("plain:1"));
    for odd in ["%", "%4", "%xx", "%FF"] {
        assert_eq!(unescaped(odd), None, "{odd}");
    }
}

#[test]
fn what_telemetry_keeps_is_kept_apart_for_each_owner() {
    assert_eq!(telemetry_key("page"), "telemetry/page");
    assert!(!telemetry_key("a/b")[TELEMETRY.len()..].contains('/'), "an owner is one part of the key");
}
