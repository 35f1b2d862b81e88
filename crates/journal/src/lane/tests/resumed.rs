//! The lane after a crash.

use super::*;

fn resumed(ticket: u64, parts: &[ResumedPart]) -> Resumed {
    Resumed { ticket: Ticket(ticket), parts: parts.to_vec(), ends_apart: false, spoiled: false }
}

fn answer() -> ResumedPart {
    ResumedPart::Answered("r".into())
}

/// A lane after a crash; tickets `a`, `b`, … are its calls'.
fn after_a_crash(next: Number, again: bool, calls: Vec<(Number, Resumed)>) -> (Script, Vec<String>) {
    let tickets = calls.iter().map(|(_, call)| call.ticket).collect();
    let mut script = Script { lane: Lane::new(next, again), tickets };
    for (first, resumed) in calls {
        script.lane.resume(first, resumed);
    }
    let effects = go_on(&mut script.lane);
    let words = script.words(effects);
    (script, words)
}

#[test]
fn after_a_crash_what_has_a_number_is_sent_again_and_what_has_an_id_is_polled() {
    let a = resumed(0, &[answer()]);
    let b = resumed(1, &[ResumedPart::ToSend]);
    let (mut script, words) = after_a_crash(6, false, vec![(4, a), (5, b)]);
    assert_eq!(words, ["send b1", "poll a1"]);
    assert_eq!(script.call(1), [""; 0]);
    assert_eq!(script.answered(1, 1), ["write c as 6"]);
}

#[test]
fn after_a_crash_a_call_in_parts_still_sends_its_first_part_last() {
    let parts = [ResumedPart::ToSend, answer(), ResumedPart::ToSend];
    let (mut script, words) = after_a_crash(4, false, vec![(1, resumed(0, &parts))]);
    assert_eq!(words, ["send a3", "poll a2"]);
    assert_eq!(script.answered(0, 3), ["send a1"]);
    script.finished(0, 2);
    script.answered(0, 1);
    script.finished(0, 1);
    assert_eq!(script.finished(0, 3), ["settle a", "forget a"]);
}

#[test]
fn after_a_crash_a_refusal_of_an_older_request_gives_no_number_back() {
    let calls = vec![(1, resumed(0, &[ResumedPart::ToSend])), (2, resumed(1, &[ResumedPart::ToSend]))];
    let (mut script, words) = after_a_crash(3, false, calls);
    assert_eq!(words, ["send a1"]);
    assert_eq!(script.refused(0, 1), ["give up a1"]);
    assert_eq!(script.given_up(0), ["fill a1"]);
    assert_eq!(script.answered(0, 1), ["fail a unknown", "forget a", "send b1"]);
    script.answered(1, 1);
    assert_eq!(script.call(1), ["write c as 3"]);
}

#[test]
fn after_a_crash_the_last_request_may_still_be_refused_and_its_number_used_anew() {
    let (mut script, _) = after_a_crash(2, false, vec![(1, resumed(0, &[ResumedPart::ToSend]))]);
    assert_eq!(script.refused(0, 1), ["fail a 422", "erase a"]);
    assert_eq!(script.call(1), ["write b as 1 again"]);
}

#[test]
fn after_a_crash_a_number_that_was_taken_anew_may_still_be_passed_over() {
    let (mut script, _) = after_a_crash(2, true, vec![(1, resumed(0, &[ResumedPart::ToSend]))]);
    let effects = step(&mut script.lane, Event::Refused(Ticket(0), 0, Refusal::NumberUsed(REFUSAL)));
    assert_eq!(script.words(effects), ["write a as 2"]);
}

#[test]
fn after_a_crash_a_call_with_a_part_that_was_lost_fills_what_the_server_does_not_have() {
    let parts = vec![ResumedPart::ToSend, answer(), ResumedPart::ToSend];
    let spoiled = Resumed { ticket: Ticket(0), parts, ends_apart: false, spoiled: true };
    let (mut script, words) = after_a_crash(4, false, vec![(1, spoiled)]);
    assert_eq!(words, ["fill a3"]);
    assert_eq!(script.answered(0, 3), ["fill a1"]);
    assert_eq!(script.answered(0, 1), ["settle a", "forget a"], "its shell knows what was lost");
}

#[test]
fn a_call_that_ends_apart_does_so_after_a_crash() {
    let parts = [ResumedPart::ToSend, ResumedPart::ToSend, ResumedPart::ToSend];
    let call = Resumed { ends_apart: true, ..resumed(0, &parts) };
    let (mut script, words) = after_a_crash(4, false, vec![(1, call)]);
    assert_eq!(words, ["send a2"]);
    assert_eq!(script.answered(0, 2)[0], "send a1");
    assert!(script.answered(0, 1).contains(&"send a3".to_owned()));
}

#[test]
fn a_part_that_came_back_may_be_with_the_server() {
    let two = [ResumedPart::ToSend, ResumedPart::ToSend];
    let (mut script, words) = after_a_crash(3, false, vec![(1, resumed(0, &two))]);
    assert_eq!(words, ["send a2"]);
    assert_eq!(script.refused(0, 2), ["give up a2"]);
    assert_eq!(script.given_up(0), ["fill a2"]);
    assert_eq!(script.answered(0, 2), ["fill a1"]);
    assert_eq!(script.answered(0, 1), ["fail a in part 422", "forget a"]);
}
