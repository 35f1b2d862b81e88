//! The lane by hand, rule by rule. In files of their own: what comes back after a crash, and the lane at random.

mod random;
mod resumed;

use super::*;

type Error = &'static str;

fn id(name: &str) -> String {
    name.to_owned()
}

const REFUSAL: Error = "422";
const CRASH: Error = "boom";

fn step(lane: &mut Lane<Error>, event: Event<Error>) -> Vec<Effect<Error>> {
    lane.step(event);
    go_on(lane)
}

/// All that is to be done by now.
fn go_on(lane: &mut Lane<Error>) -> Vec<Effect<Error>> {
    std::iter::from_fn(|| lane.next_effect()).collect()
}

/// A lane, and what it asks for as short words.
struct Script {
    lane: Lane<Error>,
    tickets: Vec<Ticket>,
}

impl Script {
    fn new() -> Script {
        Script { lane: Lane::new(1, false), tickets: Vec::new() }
    }

    fn words(&self, effects: Vec<Effect<Error>>) -> Vec<String> {
        let name = |ticket: &Ticket| (b'a' + ticket.0 as u8) as char;
        effects
            .iter()
            .map(|effect| match effect {
                Effect::Write { ticket, first, again: false } => format!("write {} as {first}", name(ticket)),
                Effect::Write { ticket, first, again: true } => {
                    format!("write {} as {first} again", name(ticket))
                }
                Effect::Send { ticket, part } => format!("send {}{}", name(ticket), part + 1),
                Effect::GiveUp { ticket, part, error: REFUSAL } => {
                    format!("give up {}{}", name(ticket), part + 1)
                }
                Effect::GiveUp { error, .. } => panic!("given up for {error}"),
                Effect::Fill { ticket, part } => format!("fill {}{}", name(ticket), part + 1),
                Effect::Poll { ticket, part, .. } => format!("poll {}{}", name(ticket), part + 1),
                Effect::Settle { ticket, result: Ok(()) } => format!("settle {}", name(ticket)),
                Effect::Settle { ticket, result: Err(Failure::As(error)) } => {
                    format!("fail {} {error}", name(ticket))
                }
                Effect::Settle { ticket, result: Err(Failure::With(_, outcome)) } => {
                    format!("fail {} {}", name(ticket), outcome.as_str())
                }
                Effect::Settle { ticket, result: Err(Failure::InPart(error)) } => {
                    format!("fail {} in part {error}", name(ticket))
                }
                Effect::Settle { ticket, result: Err(Failure::Behind(_, outcome)) } => {
                    format!("fail {} behind {}", name(ticket), outcome.as_str())
                }
                Effect::Forget { ticket, records } => {
                    let how = match records {
                        Records::None => "drop",
                        Records::Unused => "erase",
                        Records::Done => "forget",
                        Records::Left => "leave",
                    };
                    format!("{how} {}", name(ticket))
                }
            })
            .collect()
    }

    fn call(&mut self, parts: usize) -> Vec<String> {
        self.call_with(parts, false)
    }

    fn call_with(&mut self, parts: usize, ends_apart: bool) -> Vec<String> {
        let ticket = Ticket(self.tickets.len() as u64);
        self.lane.call(ticket, Shape { parts, ends_apart, revocable: false });
        self.tickets.push(ticket);
        let effects = go_on(&mut self.lane);
        self.words(effects)
    }

    fn written(&mut self, call: usize) -> Vec<String> {
        let effects = step(&mut self.lane, Event::Written(self.tickets[call]));
        self.words(effects)
    }

    fn answered(&mut self, call: usize, part: usize) -> Vec<String> {
        let effects = step(&mut self.lane, Event::Answered(self.tickets[call], part - 1, id("r")));
        self.words(effects)
    }

    fn finished(&mut self, call: usize, part: usize) -> Vec<String> {
        let effects = step(&mut self.lane, Event::Finished(self.tickets[call], part - 1));
        self.words(effects)
    }

    fn refused(&mut self, call: usize, part: usize) -> Vec<String> {
        let effects =
            step(&mut self.lane, Event::Refused(self.tickets[call], part - 1, Refusal::Final(REFUSAL)));
        self.words(effects)
    }

    fn given_up(&mut self, call: usize) -> Vec<String> {
        let effects = step(&mut self.lane, Event::GivenUp(self.tickets[call]));
        self.words(effects)
    }

    fn crashed(&mut self, call: usize, part: usize) -> Vec<String> {
        let effects = step(&mut self.lane, Event::Crashed(self.tickets[call], part - 1, CRASH));
        self.words(effects)
    }

    fn let_go(&mut self, call: usize) -> Vec<String> {
        let effects = step(&mut self.lane, Event::LetGo(self.tickets[call]));
        self.words(effects)
    }
}

#[test]
fn a_call_is_written_then_sent_then_polled_then_settled() {
    let mut script = Script::new();
    assert_eq!(script.call(1), ["write a as 1"]);
    assert_eq!(script.written(0), ["send a1"]);
    assert_eq!(script.answered(0, 1), ["poll a1"]);
    assert_eq!(script.finished(0, 1), ["settle a", "forget a"]);
}

#[test]
fn the_next_call_is_written_when_the_one_before_is_with_the_server_not_when_it_is_done() {
    let mut script = Script::new();
    script.call(1);
    assert_eq!(script.call(1), [""; 0]);
    script.written(0);
    assert_eq!(script.answered(0, 1), ["write b as 2", "poll a1"]);
    script.written(1);
    assert_eq!(script.answered(1, 1), [""; 0], "one poll at a time");
    assert_eq!(script.finished(0, 1), ["settle a", "forget a", "poll b1"]);
}

const SINGLE: Shape = Shape { parts: 1, ends_apart: false, revocable: false };

/// Calls of one request each that wait together.
fn together(calls: u64) -> (Script, Vec<String>) {
    let tickets: Vec<Ticket> = (0..calls).map(Ticket).collect();
    let mut lane = Lane::new(1, false);
    tickets.iter().for_each(|ticket| lane.call(*ticket, SINGLE));
    let effects = go_on(&mut lane);
    let script = Script { lane, tickets };
    let words = script.words(effects);
    (script, words)
}

#[test]
fn calls_that_wait_together_are_written_together_and_sent_one_by_one() {
    let (mut script, words) = together(2);
    assert_eq!(words, ["write a as 1", "write b as 2"]);
    assert_eq!(script.call(1), [""; 0]);
    assert_eq!(script.written(0), ["send a1"]);
    assert_eq!(script.written(1), [""; 0]);
    assert_eq!(script.answered(0, 1), ["send b1", "poll a1"]);
    assert_eq!(script.answered(1, 1), ["write c as 3"]);
}

#[test]
fn so_many_are_written_together_as_memory_allows_and_a_call_is_never_cut() {
    let (_, words) = together(20);
    assert_eq!(words.len(), MOST_TOGETHER);
    let mut lane = Lane::<Error>::new(1, false);
    for (ticket, parts) in [(0, MOST_TOGETHER + 5), (1, 1)] {
        lane.call(Ticket(ticket), Shape { parts, ..SINGLE });
    }
    assert_eq!(go_on(&mut lane), [Effect::Write { ticket: Ticket(0), first: 1, again: false }]);
}

#[test]
fn a_call_that_may_be_given_up_has_no_number_before_it_is_its_turn() {
    let mut lane = Lane::new(1, false);
    for ticket in 0..3 {
        lane.call(Ticket(ticket), Shape { revocable: ticket == 1, ..SINGLE });
    }
    let mut script = Script { tickets: (0..3).map(Ticket).collect(), lane };
    let effects = go_on(&mut script.lane);
    assert_eq!(script.words(effects), ["write a as 1"]);
    script.written(0);
    assert_eq!(script.let_go(1), ["drop b"]);
    assert_eq!(script.answered(0, 1), ["write c as 2", "poll a1"]);
}

#[test]
fn what_is_refused_before_calls_with_higher_numbers_is_given_up_and_its_number_filled() {
    let (mut script, _) = together(2);
    script.written(0);
    script.written(1);
    assert_eq!(script.refused(0, 1), ["give up a1"]);
    assert_eq!(script.given_up(0), ["fill a1"]);
    assert_eq!(script.answered(0, 1), ["fail a 422", "forget a", "send b1"]);
}

#[test]
fn where_calls_could_not_be_written_together_the_first_hears_so_and_the_others_are_tried_without_it() {
    let (mut script, _) = together(3);
    let effects = step(&mut script.lane, Event::NotWritten(Ticket(0), "full"));
    let words = ["fail a not_sent", "drop a", "write b as 1", "write c as 2"];
    assert_eq!(script.words(effects), words);
}

#[test]
fn what_comes_before_a_call_that_could_not_be_written_is_written_all_the_same() {
    let (mut script, _) = together(3);
    let effects = step(&mut script.lane, Event::NotWritten(Ticket(1), "no bytes"));
    assert_eq!(script.words(effects), ["fail b not_sent", "drop b"]);
    assert_eq!(script.written(0), ["send a1"]);
    assert_eq!(script.answered(0, 1), ["write c as 2", "poll a1"]);
}

#[test]
fn a_part_whose_number_somebody_else_used_gives_its_call_up() {
    let mut script = Script::new();
    script.call(2);
    script.written(0);
    let effects = step(&mut script.lane, Event::Refused(Ticket(0), 1, Refusal::NumberUsed(REFUSAL)));
    assert_eq!(script.words(effects), ["give up a2"]);
}

#[test]
fn a_number_that_was_refused_is_tried_by_one_call_alone() {
    let mut script = Script::new();
    (0..3).for_each(|_| drop(script.call(1)));
    script.written(0);
    assert_eq!(script.refused(0, 1), ["fail a 422", "erase a", "write b as 1 again"]);
}

#[test]
fn what_is_written_behind_a_call_that_is_not_let_in_stays_for_whoever_resumes() {
    let (mut script, _) = together(2);
    script.call(1);
    script.written(0);
    script.written(1);
    let effects = step(&mut script.lane, Event::Barred(Ticket(0), 0, "401"));
    let words =
        ["fail a journaled", "fail b behind journaled", "leave b", "fail c behind not_sent", "drop c"];
    assert_eq!(script.words(effects), words);
}

#[test]
fn what_is_being_written_while_a_poll_is_not_let_in_stays_for_whoever_resumes_too() {
    let mut script = Script::new();
    script.call(1);
    script.written(0);
    script.answered(0, 1);
    assert_eq!(script.call(1), ["write b as 2"]);
    step(&mut script.lane, Event::Barred(Ticket(0), 0, "401"));
    assert_eq!(script.written(1), ["fail b behind journaled", "leave b"]);
}

#[test]
fn a_call_in_parts_that_was_begun_is_sent_whole_though_a_poll_before_it_is_not_let_in() {
    let mut script = Script::new();
    script.call(1);
    script.written(0);
    script.answered(0, 1);
    script.call_with(2, true);
    assert_eq!(script.written(1), ["send b1"]);
    step(&mut script.lane, Event::Barred(Ticket(0), 0, "401"));
    assert_eq!(script.answered(1, 1), ["send b2", "poll b1"]);
}

#[test]
fn what_is_written_behind_a_call_that_can_not_be_sent_is_not_sent_in_its_place() {
    let (mut script, _) = together(2);
    script.written(0);
    script.written(1);
    (0..3).for_each(|_| drop(script.crashed(0, 1)));
    assert_eq!(script.crashed(0, 1), ["leave a", "fail b behind journaled", "leave b"]);
}

#[test]
fn of_a_call_in_parts_the_first_is_sent_last() {
    let mut script = Script::new();
    assert_eq!(script.call(3), ["write a as 1"]);
    assert_eq!(script.written(0), ["send a3", "send a2"]);
    assert_eq!(script.answered(0, 2), ["poll a2"]);
    assert_eq!(script.answered(0, 3), ["send a1"]);
    assert_eq!(script.call(1), [""; 0]);
    assert_eq!(script.answered(0, 1), ["write b as 4"]);
}

#[test]
fn the_end_of_a_call_that_ends_apart_is_sent_when_the_rest_is_with_the_server() {
    let mut script = Script::new();
    assert_eq!(script.call_with(3, true), ["write a as 1"]);
    assert_eq!(script.written(0), ["send a2"]);
    assert_eq!(script.answered(0, 2), ["send a1", "poll a2"]);
    assert_eq!(script.answered(0, 1), ["send a3"]);
    script.finished(0, 2);
    assert_eq!(script.finished(0, 1), [""; 0]);
    assert_eq!(script.answered(0, 3), ["poll a3"]);
    assert_eq!(script.finished(0, 3), ["settle a", "forget a"]);
}

#[test]
fn a_call_that_ends_apart_is_refused_as_a_whole_where_its_first_part_is() {
    let mut script = Script::new();
    script.call_with(2, true);
    assert_eq!(script.written(0), ["send a1"]);
    assert_eq!(script.refused(0, 1), ["give up a1"]);
    assert_eq!(script.given_up(0), ["fill a1"]);
    assert_eq!(script.answered(0, 1), ["fill a2"]);
    assert_eq!(script.answered(0, 2), ["fail a 422", "forget a"]);
}

#[test]
fn a_refused_call_gives_its_number_to_the_next() {
    let mut script = Script::new();
    script.call(1);
    script.call(1);
    script.written(0);
    assert_eq!(script.refused(0, 1), ["fail a 422", "erase a", "write b as 1 again"]);
}

#[test]
fn a_number_that_the_server_kept_after_all_is_passed_over() {
    let mut script = Script::new();
    script.call(1);
    script.call(1);
    script.written(0);
    script.refused(0, 1);
    script.written(1);
    let used = Event::Refused(script.tickets[1], 0, Refusal::NumberUsed(REFUSAL));
    let effects = step(&mut script.lane, used);
    assert_eq!(script.words(effects), ["write b as 2"]);
}

#[test]
fn a_number_that_somebody_else_used_fails_the_call_without_sending_it_again() {
    let mut script = Script::new();
    script.call(1);
    script.written(0);
    let used = Event::Refused(script.tickets[0], 0, Refusal::NumberUsed(REFUSAL));
    let effects = step(&mut script.lane, used);
    assert_eq!(script.words(effects), ["fail a 422", "forget a"]);
    assert_eq!(script.call(1), ["write b as 2"]);
}

#[test]
fn a_refused_part_leaves_no_hole_and_the_rest_is_not_sent() {
    let mut script = Script::new();
    script.call(3);
    script.written(0);
    assert_eq!(script.refused(0, 2), ["give up a2"]);
    assert_eq!(script.answered(0, 3), [""; 0], "nobody polls for it");
    assert_eq!(script.given_up(0), ["fill a2"], "once it is written down");
    assert_eq!(script.answered(0, 2), ["fill a1"], "part 1 only holds its number");
    script.call(1);
    assert_eq!(script.answered(0, 1), ["fail a in part 422", "forget a", "write b as 4"]);
}

#[test]
fn a_call_of_which_the_server_has_nothing_is_refused_as_a_whole() {
    let mut script = Script::new();
    script.call(3);
    script.written(0);
    assert_eq!(script.refused(0, 3), ["give up a3"]);
    assert_eq!(script.refused(0, 2), [""; 0], "one reason is enough");
    assert_eq!(script.given_up(0), ["fill a3", "fill a2"]);
    script.answered(0, 2);
    assert_eq!(script.answered(0, 3), ["fill a1"]);
    assert_eq!(script.answered(0, 1), ["fail a 422", "forget a"]);
}

#[test]
fn nothing_is_filled_while_giving_up_can_not_be_written() {
    let mut script = Script::new();
    script.call(2);
    script.call(1);
    script.written(0);
    script.refused(0, 2);
    let mut full = || {
        let effects = step(&mut script.lane, Event::NotGivenUp(Ticket(0), "full"));
        script.words(effects)
    };
    for _ in 0..3 {
        assert_eq!(full(), ["give up a2"]);
    }
    assert_eq!(full(), ["fail a journaled", "leave a", "fail b behind not_sent", "drop b"]);
    assert_eq!(full(), [""; 0]);
}

#[test]
fn giving_up_before_the_number_leaves_nothing_behind() {
    let mut script = Script::new();
    script.call(1);
    script.call(1);
    script.call(1);
    assert_eq!(script.let_go(1), ["drop b"]);
    script.written(0);
    assert_eq!(script.answered(0, 1), ["write c as 2", "poll a1"]);
}

#[test]
fn giving_up_after_the_number_lets_only_the_caller_go() {
    let mut script = Script::new();
    script.call(1);
    script.call(1);
    assert_eq!(script.let_go(0), [""; 0]);
    assert_eq!(script.written(0), ["send a1"]);
    assert_eq!(script.answered(0, 1), ["write b as 2", "poll a1"]);
    assert_eq!(script.finished(0, 1), ["forget a"]);
}

#[test]
fn a_crash_while_sending_rejects_the_caller_and_sends_the_same_again() {
    let mut script = Script::new();
    script.call(1);
    script.written(0);
    assert_eq!(script.crashed(0, 1), ["fail a journaled", "send a1"]);
    assert_eq!(script.answered(0, 1), ["poll a1"]);
}

#[test]
fn a_request_that_can_not_be_sent_without_a_crash_ends_its_lane_with_the_cause() {
    let mut script = Script::new();
    script.call(1);
    script.call(1);
    script.written(0);
    for _ in 0..3 {
        script.crashed(0, 1);
    }
    assert_eq!(script.crashed(0, 1), ["leave a", "fail b behind not_sent", "drop b"]);
    assert_eq!(script.call(1), ["fail c behind not_sent", "drop c"]);
}

#[test]
fn a_crash_while_polling_rejects_the_caller_and_polls_again() {
    let mut script = Script::new();
    script.call(1);
    script.written(0);
    script.answered(0, 1);
    assert_eq!(script.crashed(0, 1), ["fail a journaled", "poll a1"]);
    assert_eq!(script.finished(0, 1), ["forget a"]);
}

#[test]
fn a_result_that_can_not_be_had_without_a_crash_is_left_and_the_next_calls_go_on() {
    let mut script = Script::new();
    script.call(1);
    script.written(0);
    script.answered(0, 1);
    script.call(1);
    script.written(1);
    script.answered(1, 1);
    for _ in 0..3 {
        script.crashed(0, 1);
    }
    assert_eq!(script.crashed(0, 1), ["leave a", "poll b1"]);
    assert_eq!(script.call(1), ["write c as 3"]);
}

#[test]
fn a_client_that_is_not_let_in_leaves_what_has_a_number_and_fails_the_rest_unsent() {
    let mut script = Script::new();
    script.call(1);
    script.call(1);
    script.written(0);
    let barred = Event::Barred(script.tickets[0], 0, "401");
    let effects = step(&mut script.lane, barred);
    assert_eq!(script.words(effects), ["fail a journaled", "fail b behind not_sent", "drop b"]);
    assert_eq!(script.call(1), ["fail c behind not_sent", "drop c"]);
    assert_eq!(script.lane.lengths(), (0, 1), "a stays for whoever resumes");
}

#[test]
fn a_poll_that_is_not_let_in_keeps_its_request_for_whoever_resumes() {
    let mut script = Script::new();
    script.call(1);
    script.written(0);
    script.answered(0, 1);
    let effects = step(&mut script.lane, Event::Barred(script.tickets[0], 0, "401"));
    assert_eq!(script.words(effects), ["fail a journaled"]);
    assert_eq!(script.finished(0, 1), ["forget a"], "a poll that got through after all counts");
}

#[test]
fn a_call_that_is_let_go_while_it_is_renumbered_is_dropped() {
    let mut script = Script::new();
    script.call(2);
    script.call(1);
    assert_eq!(script.lane.lengths(), (2, 0));
    assert_eq!(script.let_go(1), ["drop b"]);
    assert_eq!(script.lane.lengths(), (1, 0));
}

#[test]
fn what_can_not_be_written_was_not_sent_and_its_number_is_the_next_ones() {
    let mut script = Script::new();
    script.call(2);
    script.call(1);
    let effects = step(&mut script.lane, Event::NotWritten(script.tickets[0], "full"));
    assert_eq!(script.words(effects), ["fail a not_sent", "drop a", "write b as 1"]);
    assert_eq!(script.lane.next_number(), 1);
    script.written(1);
    assert_eq!(script.lane.next_number(), 2);
}

#[test]
fn a_call_that_waited_long_enough_hears_so_and_its_request_goes_on() {
    let mut script = Script::new();
    script.call(1);
    script.written(0);
    let effects = step(&mut script.lane, Event::OutOfPatience(script.tickets[0], "slow"));
    assert_eq!(script.words(effects), ["fail a journaled"]);
    assert_eq!(script.answered(0, 1), ["poll a1"]);
    assert_eq!(script.finished(0, 1), ["forget a"]);
}

#[test]
fn of_a_call_that_is_spoiled_a_result_under_way_is_waited_for_no_more() {
    let mut script = Script::new();
    script.call(2);
    script.written(0);
    assert_eq!(script.answered(0, 2), ["send a1", "poll a2"]);
    assert_eq!(script.refused(0, 1), ["give up a1"]);
    assert_eq!(script.given_up(0), ["fill a1"]);
    assert_eq!(
        script.answered(0, 1),
        ["fail a in part 422", "forget a"],
        "nobody waits for what part 2 gives"
    );
}

#[test]
fn a_result_that_comes_late_says_nothing_of_a_call_that_is_given_up() {
    let mut script = Script::new();
    script.call(2);
    script.written(0);
    script.answered(0, 2);
    script.refused(0, 1);
    let late = step(&mut script.lane, Event::Failed(script.tickets[0], 1, "late"));
    assert_eq!(script.words(late), [""; 0]);
    script.given_up(0);
    assert_eq!(script.answered(0, 1), ["fail a in part 422", "forget a"]);
}

#[test]
fn a_bar_that_comes_late_takes_nothing_from_a_part_that_is_done() {
    let mut script = Script::new();
    script.call(2);
    script.written(0);
    script.answered(0, 2);
    script.answered(0, 1);
    script.finished(0, 2);
    step(&mut script.lane, Event::Barred(script.tickets[0], 1, "401"));
    assert_eq!(script.finished(0, 1), ["forget a"]);
}

#[test]
fn late_news_of_a_call_that_is_no_more_is_ignored() {
    let mut script = Script::new();
    script.call(1);
    script.written(0);
    script.answered(0, 1);
    script.finished(0, 1);
    assert_eq!(script.finished(0, 1), [""; 0]);
    assert_eq!(script.answered(0, 1), [""; 0]);
    assert_eq!(script.let_go(0), [""; 0]);
}
