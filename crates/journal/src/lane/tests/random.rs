//! The lane at random, against a server that may refuse, crash and forget.

use super::*;

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
    /// One commit.
    Write(Vec<Ticket>),
    GiveUp(Ticket),
    Send(Ticket, usize, bool),
    Poll(Ticket, usize),
}

#[test]
fn whatever_comes_numbers_have_no_holes_and_every_call_settles_once() {
    for seed in 0..2_000 {
        let mut dice = Dice(seed);
        let mut lane = Lane::new(1, false);
        let mut server = Server::default();
        let mut firsts = std::collections::HashMap::new();
        let mut settled = std::collections::HashSet::<Ticket>::new();
        let mut gone = std::collections::HashSet::<Ticket>::new();
        let mut given_up = std::collections::HashSet::<Ticket>::new();
        let mut doing: Vec<Doing> = Vec::new();
        let mut calls = Vec::new();
        let mut left = 1 + dice.below(12);
        while left > 0 || !doing.is_empty() {
            let effects = if left > 0 && (doing.is_empty() || dice.below(3) == 0) {
                left -= 1;
                let parts = if dice.below(4) == 0 { 2 + dice.below(3) } else { 1 };
                let ticket = Ticket(calls.len() as u64);
                calls.push(ticket);
                lane.call(
                    ticket,
                    Shape { parts, ends_apart: dice.below(2) == 0, revocable: dice.below(4) == 0 },
                );
                // Others may come with it.
                if left > 0 && dice.below(3) == 0 {
                    continue;
                }
                go_on(&mut lane)
            } else if dice.below(12) == 0 {
                let ticket = calls[dice.below(calls.len())];
                gone.insert(ticket);
                step(&mut lane, Event::LetGo(ticket))
            } else {
                let events = match doing.swap_remove(dice.below(doing.len())) {
                    Doing::Write(tickets) if dice.below(10) == 0 => {
                        vec![Event::NotWritten(tickets[0], "full")]
                    }
                    Doing::Write(tickets) => tickets.into_iter().map(Event::Written).collect(),
                    Doing::GiveUp(ticket) if dice.below(10) == 0 => vec![Event::NotGivenUp(ticket, "full")],
                    Doing::GiveUp(ticket) => {
                        given_up.insert(ticket);
                        vec![Event::GivenUp(ticket)]
                    }
                    Doing::Poll(ticket, part) => vec![match dice.below(8) {
                        0 => Event::Failed(ticket, part, "bad"),
                        1 => Event::Crashed(ticket, part, CRASH),
                        _ => Event::Finished(ticket, part),
                    }],
                    Doing::Send(ticket, part, filler) => {
                        let number = firsts[&ticket] + part as u64;
                        vec![match dice.below(10) {
                            0 => Event::Crashed(ticket, part, CRASH),
                            // The server took it, and the answer was lost with the task.
                            1 => {
                                server.taken.entry(number).or_insert((ticket, part, filler));
                                Event::Crashed(ticket, part, CRASH)
                            }
                            2 if !filler && !server.taken.contains_key(&number) => {
                                Event::Refused(ticket, part, Refusal::Final(REFUSAL))
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
                        }]
                    }
                };
                events.into_iter().for_each(|event| lane.step(event));
                go_on(&mut lane)
            };
            let mut together = Vec::new();
            for effect in effects {
                match effect {
                    Effect::Write { ticket, first, .. } => {
                        firsts.insert(ticket, first);
                        together.push(ticket);
                    }
                    Effect::Send { ticket, part } => {
                        assert!(!given_up.contains(&ticket), "seed {seed}: {ticket:?} is sent as it was");
                        doing.push(Doing::Send(ticket, part, false));
                    }
                    Effect::GiveUp { ticket, .. } => doing.push(Doing::GiveUp(ticket)),
                    Effect::Fill { ticket, part } => {
                        assert!(given_up.contains(&ticket), "seed {seed}: {ticket:?} is filled too early");
                        doing.push(Doing::Send(ticket, part, true));
                    }
                    Effect::Poll { ticket, part, .. } => {
                        let polls = doing.iter().filter(|doing| matches!(doing, Doing::Poll(..))).count();
                        // A poll whose call was settled otherwise may still be under way in the shell.
                        assert!(polls <= calls.len(), "seed {seed}");
                        doing.push(Doing::Poll(ticket, part));
                    }
                    Effect::Settle { ticket, result } => {
                        let trained = server.taken.values().any(|(of, _, filler)| *of == ticket && !filler);
                        match result {
                            Err(Failure::As(REFUSAL)) => assert!(!trained, "seed {seed}: {ticket:?}"),
                            Err(Failure::InPart(_)) => assert!(trained, "seed {seed}: {ticket:?}"),
                            _ => {}
                        }
                        assert!(settled.insert(ticket), "seed {seed}: {ticket:?} settled twice");
                        assert!(!gone.contains(&ticket), "seed {seed}: {ticket:?} settled with nobody there");
                    }
                    Effect::Forget { .. } => {}
                }
            }
            if !together.is_empty() {
                doing.push(Doing::Write(together));
            }
        }
        let settled = calls.iter().filter(|call| settled.contains(call) || gone.contains(call)).count();
        assert_eq!(settled, calls.len(), "seed {seed}: every call settles");
        let order = server.taken.values().map(|(ticket, ..)| ticket);
        assert!(order.is_sorted(), "seed {seed}: numbers are given in the order of the calls");
        if lane.broken.is_none() {
            let numbers: Vec<u64> = server.taken.keys().copied().collect();
            let whole: Vec<u64> = (1..=numbers.len() as u64).collect();
            assert_eq!(numbers, whole, "seed {seed}: the numbers have no holes");
        }
    }
}
