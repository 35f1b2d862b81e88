//! The lane by hand, rule by rule, and then at random against a server that may refuse, crash and forget.

use super::*;
use crate::error::Kind;

fn id(name: &str) -> RequestId {
    RequestId::from(name.to_owned())
}

fn refusal() -> Error {
    Error::api(422, "no".into())
}

/// A lane, and what it asks for as short words.
struct Script {
    lane: Lane,
    tickets: Vec<Ticket>,
}

impl Script {
    fn new() -> Script {
        Script { lane: Lane::new(SeqId::FIRST), tickets: Vec::new() }
    }

    fn words(&self, effects: Vec<Effect>) -> Vec<String> {
        let name = |ticket: &Ticket| (b'a' + ticket.0 as u8) as char;
        effects
            .iter()
            .map(|effect| match effect {
                Effect::Write { ticket, first } => format!("write {} as {}", name(ticket), first.get()),
                Effect::Send { ticket, part } => format!("send {}{}", name(ticket), part + 1),
                Effect::Fill { ticket, part } => format!("fill {}{}", name(ticket), part + 1),
                Effect::Poll { ticket, part, .. } => format!("poll {}{}", name(ticket), part + 1),
                Effect::Settle { ticket, result: Ok(()) } => format!("settle {}", name(ticket)),
                Effect::Settle { ticket, result: Err(error) } => {
                    format!("fail {} {}", name(ticket), error.0.outcome().as_str())
                }
                Effect::Forget { ticket } => format!("forget {}", name(ticket)),
            })
            .collect()
    }

    fn call(&mut self, parts: usize) -> Vec<String> {
        let ticket = Ticket(self.tickets.len() as u64);
        let effects = self.lane.call(ticket, parts);
        self.tickets.push(ticket);
        self.words(effects)
    }

    fn written(&mut self, call: usize) -> Vec<String> {
        let effects = self.lane.step(Event::Written(self.tickets[call]));
        self.words(effects)
    }

    fn answered(&mut self, call: usize, part: usize) -> Vec<String> {
        let effects = self.lane.step(Event::Answered(self.tickets[call], part - 1, id("r")));
        self.words(effects)
    }

    fn finished(&mut self, call: usize, part: usize) -> Vec<String> {
        let effects = self.lane.step(Event::Finished(self.tickets[call], part - 1));
        self.words(effects)
    }

    fn refused(&mut self, call: usize, part: usize) -> Vec<String> {
        let effects = self.lane.step(Event::Refused(self.tickets[call], part - 1, Refusal::Final(refusal())));
        self.words(effects)
    }

    fn crashed(&mut self, call: usize, part: usize) -> Vec<String> {
        let error = Error::crashed("boom", "here".into(), vec![], Outcome::Unknown);
        let effects = self.lane.step(Event::Crashed(self.tickets[call], part - 1, error));
        self.words(effects)
    }

    fn let_go(&mut self, call: usize) -> Vec<String> {
        let effects = self.lane.step(Event::LetGo(self.tickets[call]));
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
fn a_refused_call_gives_its_number_to_the_next() {
    let mut script = Script::new();
    script.call(1);
    script.call(1);
    script.written(0);
    assert_eq!(script.refused(0, 1), ["fail a refused", "forget a", "write b as 1"]);
}

#[test]
fn a_number_that_the_server_kept_after_all_is_passed_over() {
    let mut script = Script::new();
    script.call(1);
    script.call(1);
    script.written(0);
    script.refused(0, 1);
    script.written(1);
    let used = Event::Refused(script.tickets[1], 0, Refusal::NumberUsed(refusal()));
    let effects = script.lane.step(used);
    assert_eq!(script.words(effects), ["write b as 2"]);
}

#[test]
fn a_number_that_somebody_else_used_fails_the_call_without_sending_it_again() {
    let mut script = Script::new();
    script.call(1);
    script.written(0);
    let used = Event::Refused(script.tickets[0], 0, Refusal::NumberUsed(refusal()));
    let effects = script.lane.step(used);
    assert_eq!(script.words(effects), ["fail a refused", "forget a"]);
    assert_eq!(script.call(1), ["write b as 2"]);
}

#[test]
fn a_refused_part_leaves_no_hole_and_does_not_train_the_rest() {
    let mut script = Script::new();
    script.call(3);
    script.written(0);
    assert_eq!(script.refused(0, 2), ["fail a unknown", "fill a2"]);
    assert_eq!(script.answered(0, 3), [""; 0], "nobody polls for it");
    assert_eq!(script.answered(0, 2), ["fill a1"], "part 1 only holds its number");
    script.call(1);
    assert_eq!(script.answered(0, 1), ["forget a", "write b as 4"]);
}

#[test]
fn giving_up_before_the_number_leaves_nothing_behind() {
    let mut script = Script::new();
    script.call(1);
    script.call(1);
    script.call(1);
    assert_eq!(script.let_go(1), ["fail b not_sent", "forget b"]);
    script.written(0);
    assert_eq!(script.answered(0, 1), ["write c as 2", "poll a1"]);
}

#[test]
fn giving_up_after_the_number_lets_only_the_caller_go() {
    let mut script = Script::new();
    script.call(1);
    script.call(1);
    assert_eq!(script.let_go(0), ["fail a unknown"]);
    assert_eq!(script.written(0), ["send a1"]);
    assert_eq!(script.answered(0, 1), ["write b as 2", "poll a1"]);
    assert_eq!(script.finished(0, 1), ["forget a"]);
}

#[test]
fn a_crash_while_sending_rejects_the_caller_and_sends_the_same_again() {
    let mut script = Script::new();
    script.call(1);
    script.written(0);
    assert_eq!(script.crashed(0, 1), ["fail a unknown", "send a1"]);
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
    assert_eq!(script.crashed(0, 1), ["forget a", "fail b not_sent", "forget b"]);
    assert_eq!(script.call(1), ["fail c not_sent", "forget c"]);
}

#[test]
fn a_crash_while_polling_costs_only_that_result() {
    let mut script = Script::new();
    script.call(1);
    script.written(0);
    script.answered(0, 1);
    script.call(1);
    script.written(1);
    script.answered(1, 1);
    assert_eq!(script.crashed(0, 1), ["fail a unknown", "forget a", "poll b1"]);
}

#[test]
fn closing_settles_every_caller_and_says_what_was_sent() {
    let mut script = Script::new();
    script.call(1);
    script.call(1);
    script.written(0);
    let effects = script.lane.close(|outcome| Error::closed("the client", outcome));
    assert_eq!(script.words(effects), ["fail a unknown", "fail b not_sent"]);
    assert_eq!(script.call(1), ["fail c not_sent", "forget c"]);
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

/// A small generator: the sequence depends on the seed alone.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % n
    }
}

/// The model's requests as a server sees them: by number, each with what came with it.
#[derive(Default)]
struct Server {
    taken: std::collections::BTreeMap<u64, (Ticket, usize, bool)>,
}

/// What is under way outside of the lane.
enum Doing {
    Write(Ticket),
    Send(Ticket, usize, bool),
    Poll(Ticket, usize),
}

#[test]
fn whatever_comes_numbers_have_no_holes_and_every_call_settles_once() {
    for seed in 0..2_000 {
        let mut dice = Dice(seed);
        let mut lane = Lane::new(SeqId::FIRST);
        let mut server = Server::default();
        let mut firsts = std::collections::HashMap::new();
        let mut settled = std::collections::HashMap::<Ticket, Result<(), Kind>>::new();
        let mut doing: Vec<Doing> = Vec::new();
        let mut calls = Vec::new();
        let mut writes = Vec::new();
        let mut left = 1 + dice.below(12);
        while left > 0 || !doing.is_empty() {
            let effects = if left > 0 && (doing.is_empty() || dice.below(3) == 0) {
                left -= 1;
                let parts = if dice.below(4) == 0 { 2 + dice.below(3) } else { 1 };
                let ticket = Ticket(calls.len() as u64);
                calls.push(ticket);
                lane.call(ticket, parts)
            } else if dice.below(12) == 0 {
                lane.step(Event::LetGo(calls[dice.below(calls.len())]))
            } else {
                let crash = || Error::crashed("boom", String::new(), vec![], Outcome::Unknown);
                let event = match doing.swap_remove(dice.below(doing.len())) {
                    Doing::Write(ticket) if dice.below(10) == 0 => {
                        Event::NotWritten(ticket, Error::invalid("disk", "full"))
                    }
                    Doing::Write(ticket) => Event::Written(ticket),
                    Doing::Poll(ticket, part) => match dice.below(8) {
                        0 => Event::Failed(ticket, part, Error::request_failed("user", "bad")),
                        1 => Event::Crashed(ticket, part, crash()),
                        _ => Event::Finished(ticket, part),
                    },
                    Doing::Send(ticket, part, filler) => {
                        let number = firsts[&ticket] + part as u64;
                        match dice.below(10) {
                            0 => Event::Crashed(ticket, part, crash()),
                            // The server took it, and the answer was lost with the task.
                            1 => {
                                server.taken.entry(number).or_insert((ticket, part, filler));
                                Event::Crashed(ticket, part, crash())
                            }
                            2 if !filler && !server.taken.contains_key(&number) => {
                                Event::Refused(ticket, part, Refusal::Final(refusal()))
                            }
                            _ => {
                                let known = server.taken.entry(number).or_insert((ticket, part, filler));
                                assert_eq!(
                                    (known.0, known.1),
                                    (ticket, part),
                                    "seed {seed}: number {number} went to two"
                                );
                                Event::Answered(ticket, part, id("r"))
                            }
                        }
                    }
                };
                lane.step(event)
            };
            for effect in effects {
                match effect {
                    Effect::Write { ticket, first } => {
                        writes.push(ticket);
                        firsts.insert(ticket, first.get());
                        doing.push(Doing::Write(ticket));
                    }
                    Effect::Send { ticket, part } => doing.push(Doing::Send(ticket, part, false)),
                    Effect::Fill { ticket, part } => doing.push(Doing::Send(ticket, part, true)),
                    Effect::Poll { ticket, part, .. } => {
                        let polls = doing.iter().filter(|doing| matches!(doing, Doing::Poll(..))).count();
                        // A poll whose call was settled otherwise may still be under way in the shell.
                        assert!(polls <= calls.len(), "seed {seed}");
                        doing.push(Doing::Poll(ticket, part));
                    }
                    Effect::Settle { ticket, result } => {
                        let result = result.map_err(|error| error.0.kind().clone());
                        assert!(
                            settled.insert(ticket, result).is_none(),
                            "seed {seed}: {ticket:?} settled twice"
                        );
                    }
                    Effect::Forget { .. } => {}
                }
            }
        }
        assert_eq!(settled.len(), calls.len(), "seed {seed}: every call settles");
        assert!(writes.is_sorted(), "seed {seed}: numbers are given in the order of the calls");
        if lane.broken.is_none() {
            let numbers: Vec<u64> = server.taken.keys().copied().collect();
            let whole: Vec<u64> = (1..=numbers.len() as u64).collect();
            assert_eq!(numbers, whole, "seed {seed}: the numbers have no holes");
        }
    }
}
