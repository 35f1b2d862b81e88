//! Records as a crash may leave them, and what goes on from each.

use super::*;
use crate::lane::{Effect, Event, Records, Refusal, Shape};
use crate::record::{Encoding, Failed};

const MODEL: &str = "s:train:0";

/// What is on a disk, by key.
#[derive(Default)]
struct Disk {
    model: Option<Vec<u8>>,
    found: [Found; 3],
}

fn head(number: Number, part: u32, parts: u32, body: &[u8]) -> Head {
    Head {
        method: "forwardBackward".into(),
        path: "forward_backward".into(),
        label: String::new(),
        caller: "page".into(),
        key: number as u32,
        part,
        parts,
        data: 1,
        again: false,
        encoding: Encoding::Protobuf,
        idempotency_key: "key".into(),
        body_length: body.len() as u32,
        body_check: check(&Place::Body.key(MODEL, number), body),
    }
}

impl Disk {
    fn next(mut self, next: Number) -> Disk {
        self.model = Some(Model { session: "s".into(), next }.to_bytes(&model_key(MODEL)));
        self
    }

    fn head(mut self, number: Number, head: Head) -> Disk {
        let key = Place::Request.key(MODEL, number);
        let bytes = head.to_bytes(&key);
        self.found[0].push((key, bytes));
        self
    }

    fn body(mut self, number: Number, body: &[u8]) -> Disk {
        self.found[1].push((Place::Body.key(MODEL, number), body.to_vec()));
        self
    }

    /// A request as the commit before its sending leaves it.
    fn written(self, number: Number, part: u32, parts: u32) -> Disk {
        let body = number.to_le_bytes();
        self.head(number, head(number, part, parts, &body)).body(number, &body)
    }

    fn answer(mut self, number: Number, answer: Answer) -> Disk {
        let key = Place::Answer.key(MODEL, number);
        let bytes = answer.to_bytes(&key);
        self.found[2].push((key, bytes));
        self
    }

    /// One bit of what stands under a key is another.
    fn damage(mut self, key: &str) -> Disk {
        let record = self.found.iter_mut().flatten().find(|(found, _)| found == key);
        *record.expect("it is there").1.last_mut().unwrap() ^= 1;
        self
    }

    fn recover(self) -> Recovered {
        recover(MODEL, self.model, self.found).expect("nothing is too new")
    }
}

fn taken() -> Answer {
    Answer::Taken("r".into())
}

fn result() -> Answer {
    Answer::Result(Encoding::Json, b"{}".to_vec())
}

fn step(lane: &mut Lane<&'static str>, event: Event<&'static str>) -> Vec<Effect<&'static str>> {
    lane.step(event);
    go_on(lane)
}

fn go_on<E: Clone>(lane: &mut Lane<E>) -> Vec<Effect<E>> {
    std::iter::from_fn(|| lane.next_effect()).collect()
}

/// What the recovered lane asks for.
fn effects(recovered: &Recovered) -> Vec<Effect<&'static str>> {
    go_on(&mut recovered.lane())
}

#[test]
fn an_empty_journal_begins_with_number_1() {
    let recovered = Disk::default().recover();
    assert_eq!((recovered.next, recovered.calls.len(), recovered.damaged.len()), (1, 0, 0));
    let mut lane = recovered.lane::<()>();
    lane.call(Ticket(0), Shape { parts: 1, ends_apart: false, revocable: false });
    assert_eq!(go_on(&mut lane), [Effect::Write { ticket: Ticket(0), first: 1, again: false }]);
}

#[test]
fn numbers_go_on_though_everything_was_seen_and_deleted() {
    assert_eq!(Disk::default().next(13).recover().next, 13);
    assert_eq!(
        Disk::default().next(2).written(4, 0, 1).recover().next,
        5,
        "whatever the model's record says"
    );
}

#[test]
fn what_has_no_answer_is_sent_as_it_was_and_what_has_an_id_is_polled() {
    let recovered = Disk::default().next(4).written(2, 0, 1).written(3, 0, 1).answer(2, taken()).recover();
    assert_eq!(recovered.calls.iter().map(|call| call.first).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(recovered.calls[1].parts[0].body.as_deref(), Some(&3u64.to_le_bytes()[..]));
    assert_eq!(recovered.calls[0].head().map(|head| head.key), Some(2));
    let expected = [
        Effect::Send { ticket: Ticket(1), part: 0 },
        Effect::Poll { ticket: Ticket(0), part: 0, request: "r".into() },
    ];
    assert_eq!(effects(&recovered), expected);
}

fn gone_wrong() -> Failed {
    Failed {
        kind: "request_failed".into(),
        status: 0,
        detail: "user".into(),
        message: "no".into(),
        outcome: "refused".into(),
        retryable: false,
    }
}

#[test]
fn what_has_a_result_is_kept_and_asked_for_no_more() {
    let gone_wrong = Answer::Failed(gone_wrong());
    let none = head(1, 0, 1, b"");
    let disk = Disk::default().next(3).head(1, none.clone()).head(2, none);
    let recovered = disk.answer(1, result()).answer(2, gone_wrong).recover();
    assert!(recovered.calls.iter().all(|call| call.is_finished() && !call.is_lost()));
    assert_eq!(effects(&recovered), []);
}

#[test]
fn parts_are_one_call_again_and_neighbours_are_not() {
    let disk = Disk::default().next(6).written(1, 0, 1).written(2, 0, 3).written(3, 1, 3).written(4, 2, 3);
    let recovered = disk.written(5, 0, 1).answer(1, taken()).answer(3, taken()).recover();
    let shape: Vec<_> = recovered.calls.iter().map(|call| (call.first, call.parts.len())).collect();
    assert_eq!(shape, [(1, 1), (2, 3), (5, 1)]);
    assert!(recovered.calls.iter().all(|call| !call.is_lost() && !call.is_finished()));
    assert_eq!(effects(&recovered)[0], Effect::Send { ticket: Ticket(1), part: 2 });
}

#[test]
fn a_step_behind_a_pass_is_sent_behind_it_after_a_crash_too() {
    let body = 2u64.to_le_bytes();
    let step = Head { path: "optim_step".into(), ..head(2, 1, 2, &body) };
    let disk = Disk::default().next(3).written(1, 0, 2).head(2, step).body(2, &body);
    let sent = Effect::Send { ticket: Ticket(0), part: 0 };
    assert_eq!(effects(&disk.recover()), [sent]);
}

#[test]
fn a_request_whose_bytes_are_damaged_only_holds_its_number() {
    for key in [Place::Request.key(MODEL, 2), Place::Body.key(MODEL, 2)] {
        let disk = Disk::default().next(4).written(1, 0, 1).written(2, 0, 1).written(3, 0, 1);
        let recovered = disk.damage(&key).recover();
        assert_eq!(recovered.damaged.iter().map(|(key, _)| key).collect::<Vec<_>>(), [&key]);
        let lost: Vec<bool> = recovered.calls.iter().map(Call::is_lost).collect();
        assert_eq!(lost, [false, true, false], "{key}");
        let mut lane = recovered.lane::<&str>();
        let mut sent = go_on(&mut lane);
        for call in 0..3 {
            let answered = step(&mut lane, Event::Answered(Ticket(call), 0, "r".into()));
            sent.extend(
                answered
                    .into_iter()
                    .filter(|effect| matches!(effect, Effect::Send { .. } | Effect::Fill { .. })),
            );
        }
        let expected = [
            Effect::Send { ticket: Ticket(0), part: 0 },
            Effect::Fill { ticket: Ticket(1), part: 0 },
            Effect::Send { ticket: Ticket(2), part: 0 },
        ];
        assert_eq!(sent, expected, "{key}");
    }
}

#[test]
fn a_request_with_an_id_needs_no_bytes() {
    let disk = Disk::default().next(2).written(1, 0, 1).answer(1, taken());
    let recovered = disk.damage(&Place::Body.key(MODEL, 1)).recover();
    assert!(!recovered.calls[0].is_lost());
    assert_eq!(effects(&recovered), [Effect::Poll { ticket: Ticket(0), part: 0, request: "r".into() }]);
    assert_eq!(recovered.damaged.len(), 1);
}

#[test]
fn a_damaged_answer_is_asked_for_again_by_sending_the_same() {
    let disk = Disk::default().next(2).written(1, 0, 1).answer(1, taken());
    let recovered = disk.damage(&Place::Answer.key(MODEL, 1)).recover();
    assert_eq!(effects(&recovered), [Effect::Send { ticket: Ticket(0), part: 0 }]);
    assert_eq!(recovered.damaged.len(), 1);
}

#[test]
fn a_damaged_result_whose_bytes_are_gone_is_lost_and_its_number_held() {
    let disk = Disk::default().next(2).head(1, head(1, 0, 1, b"x")).answer(1, result());
    let recovered = disk.damage(&Place::Answer.key(MODEL, 1)).recover();
    assert!(recovered.calls[0].is_lost());
    assert_eq!(effects(&recovered), [Effect::Fill { ticket: Ticket(0), part: 0 }]);
}

#[test]
fn a_call_with_a_lost_part_fills_what_the_server_does_not_have_and_ends() {
    let disk = Disk::default().next(4).written(1, 0, 3).written(2, 1, 3).written(3, 2, 3).answer(3, taken());
    let recovered = disk.damage(&Place::Request.key(MODEL, 2)).recover();
    assert_eq!((recovered.calls.len(), recovered.calls[0].parts.len()), (1, 3));
    let mut lane = recovered.lane::<&str>();
    assert_eq!(go_on(&mut lane), [Effect::Fill { ticket: Ticket(0), part: 1 }]);
    // The server has part 2 as it was: its number is as good as filled.
    let effects = step(&mut lane, Event::Refused(Ticket(0), 1, Refusal::NumberUsed("used")));
    assert_eq!(effects, [Effect::Fill { ticket: Ticket(0), part: 0 }]);
    let effects = step(&mut lane, Event::Answered(Ticket(0), 0, "r".into()));
    assert_eq!(effects.last(), Some(&Effect::Forget { ticket: Ticket(0), records: Records::Done }));
}

#[test]
fn a_call_that_was_given_up_only_holds_its_numbers_and_knows_why() {
    let refusal = Failed { kind: "api".into(), status: 422, ..gone_wrong() };
    let disk = Disk::default().next(4).written(1, 0, 3).written(2, 1, 3).written(3, 2, 3).answer(3, taken());
    let disk = disk.answer(2, Answer::Refused(refusal.clone()));
    // With its bytes or without: those go in the same commit.
    let recovered = disk.recover();
    assert_eq!(recovered.calls[0].refused(), Some(&refusal));
    assert!(recovered.calls[0].is_lost() && !recovered.calls[0].is_finished());
    assert_eq!(effects(&recovered), [Effect::Fill { ticket: Ticket(0), part: 1 }]);
}

#[test]
fn a_call_whose_first_part_is_damaged_is_still_one_call() {
    let disk = Disk::default().next(3).written(1, 0, 2).written(2, 1, 2);
    let recovered = disk.damage(&Place::Request.key(MODEL, 1)).recover();
    // The first can't say whose it is; the second says that it stands behind it.
    let parts: usize = recovered.calls.iter().map(|call| call.parts.len()).sum();
    assert_eq!((parts, recovered.next), (2, 3), "{recovered:?}");
    assert!(recovered.calls.iter().all(Call::is_lost));
}

#[test]
fn a_part_without_those_before_it_still_holds_their_numbers() {
    let body = 5u64.to_le_bytes();
    let disk = Disk::default().next(6).written(2, 0, 1).head(5, head(5, 2, 3, &body)).body(5, &body);
    let recovered = disk.recover();
    let shape: Vec<_> = recovered.calls.iter().map(|call| (call.first, call.parts.len())).collect();
    assert_eq!(shape, [(2, 1), (3, 3)]);
    // It says that more were before it than there are numbers.
    let recovered = Disk::default().next(3).head(2, head(2, 4, 5, b"x")).body(2, b"x").recover();
    assert_eq!((recovered.calls[0].first, recovered.calls[0].parts.len()), (1, 2));
}

#[test]
fn a_lost_call_that_the_server_has_whole_is_done() {
    let disk = Disk::default().next(2).written(1, 0, 1).answer(1, taken());
    let recovered = disk.damage(&Place::Request.key(MODEL, 1)).recover();
    assert!(recovered.calls[0].is_lost() && recovered.calls[0].is_finished());
    assert_eq!(effects(&recovered), []);
}

#[test]
fn a_number_that_was_taken_anew_may_be_passed_over_after_a_crash_too() {
    let body = b"x";
    let again = Head { again: true, ..head(3, 0, 1, body) };
    let recovered = Disk::default().next(4).head(3, again).body(3, body).recover();
    let mut lane = recovered.lane::<&str>();
    go_on(&mut lane);
    let effects = step(&mut lane, Event::Refused(Ticket(0), 0, Refusal::NumberUsed("used")));
    assert_eq!(effects, [Effect::Write { ticket: Ticket(0), first: 4, again: false }]);
}

#[test]
fn a_record_of_a_later_version_stops_everything_and_is_named() {
    for key in [Place::Request.key(MODEL, 1), Place::Answer.key(MODEL, 1)] {
        let mut disk = Disk::default().next(2).written(1, 0, 1).answer(1, taken());
        disk.found.iter_mut().flatten().find(|(found, _)| *found == key).unwrap().1[0] = 9;
        assert_eq!(recover(MODEL, disk.model, disk.found).err(), Some(9), "{key}");
    }
    let mut disk = Disk::default().next(2);
    disk.model.as_mut().unwrap()[0] = 2;
    assert_eq!(recover(MODEL, disk.model, disk.found).err(), Some(2));
}

#[test]
fn a_damaged_model_is_set_aside_and_its_requests_say_where_it_was() {
    let mut disk = Disk::default().next(9).written(5, 0, 1);
    disk.model.as_mut().unwrap()[6] ^= 1;
    let recovered = disk.recover();
    assert_eq!((recovered.next, recovered.damaged[0].0.as_str()), (6, "model/s:train:0"));
    assert_eq!(aside("model/s:train:0"), "damaged/model/s:train:0");
}

#[test]
fn answers_and_bodies_without_a_head_and_keys_of_others_are_left_alone() {
    let mut disk = Disk::default().next(3).answer(1, taken()).body(2, b"x").body(9, b"y");
    disk.found[0].push(("request/s:train:0/x".into(), vec![1]));
    let recovered = disk.recover();
    assert_eq!((recovered.calls.len(), recovered.damaged.len(), recovered.next), (0, 0, 3));
}
