//! A batch through the network: checked, forward to log-probabilities, and back from the caller's gradients at them.

use crate::Error;
use crate::config::ModelConfig;
use crate::engine::Real;
use crate::engine::backward::{Scratch, Sink, backward};
use crate::engine::forward::{Cache, Tape, forward, unembed};
use crate::engine::kernels;
use crate::engine::matrices::{Matrix, Network};
use crate::engine::slots::{SLOTS, for_each_slot};

/// One sequence of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// T ids.
    pub tokens: Vec<u32>,
    /// T × `targets_per_token` ids, token by token: what is asked for the log-probability of after each token.
    pub targets: Vec<u32>,
    /// Usually 1: the next token.
    pub targets_per_token: usize,
}

impl Sequence {
    /// With one target for each token.
    pub fn new(tokens: Vec<u32>, targets: Vec<u32>) -> Sequence {
        Sequence { tokens, targets, targets_per_token: 1 }
    }
}

/// Refuses what the network can't take, before any work is done. A context of 0 or no vocabulary limits nothing.
pub(crate) fn check(config: &ModelConfig, batch: &[Sequence]) -> Result<(), Error> {
    for (sequence, datum) in batch.iter().enumerate() {
        let length = datum.tokens.len();
        if length == 0 {
            return Err(Error::EmptySequence { sequence });
        }
        if length > config.context {
            return Err(Error::SequenceTooLong { sequence, length, context: config.context });
        }
        if datum.targets_per_token == 0
            || length.checked_mul(datum.targets_per_token) != Some(datum.targets.len())
        {
            return Err(Error::TargetsLength {
                sequence,
                tokens: length,
                targets: datum.targets.len(),
                targets_per_token: datum.targets_per_token,
            });
        }
        let vocabulary = config.vocabulary;
        let outside = |ids: &[u32]| ids.iter().position(|&id| id as usize >= vocabulary);
        if let Some(index) = outside(&datum.tokens) {
            let token = datum.tokens[index];
            return Err(Error::TokenOutOfVocabulary { sequence, index, token, vocabulary });
        }
        if let Some(index) = outside(&datum.targets) {
            let token = datum.targets[index];
            return Err(Error::TargetOutOfVocabulary { sequence, index, token, vocabulary });
        }
    }
    Ok(())
}

/// Room for one sequence's passes.
struct Room<T> {
    cache: Cache<T>,
    tape: Tape<T>,
    scratch: Scratch<T>,
    log_sums: Vec<T>,
    row: Vec<T>,
}

impl<T: Real> Room<T> {
    fn new(network: &Network<T>) -> Room<T> {
        Room {
            cache: Cache::new(network, 0),
            tape: Tape::default(),
            scratch: Scratch::default(),
            log_sums: Vec::new(),
            row: Vec::new(),
        }
    }

    /// Log-probabilities of the targets; the tape is left with the logits.
    fn read(&mut self, network: &Network<T>, datum: &Sequence) -> Vec<T> {
        self.cache.reset(network.config.d, datum.tokens.len());
        forward(network, &datum.tokens, &mut self.cache, &mut self.tape);
        unembed(network, &mut self.tape, 0);
        self.log_sums.clear();
        let mut logprobs = Vec::with_capacity(datum.targets.len());
        let rows = self.tape.logits.chunks_exact(network.config.vocabulary);
        for (logits, targets) in rows.zip(datum.targets.chunks_exact(datum.targets_per_token)) {
            let log_sum = kernels::log_sum_exp(logits, &mut self.row);
            self.log_sums.push(log_sum);
            logprobs.extend(targets.iter().map(|&target| logits[target as usize] - log_sum));
        }
        logprobs
    }

    /// Turns the logits on the tape into the gradient at them, from that at the log-probabilities.
    fn turn_logits(&mut self, vocabulary: usize, datum: &Sequence, gradient: &[T]) {
        let k = datum.targets_per_token;
        let rows = self.tape.logits.chunks_exact_mut(vocabulary).zip(&self.log_sums);
        let targets = datum.targets.chunks_exact(k).zip(gradient.chunks_exact(k));
        for ((logits, log_sum), (targets, gradient)) in rows.zip(targets) {
            let mut weight = T::ZERO;
            for part in gradient {
                weight += *part;
            }
            kernels::scaled_probabilities(logits, *log_sum, weight);
            for (&target, part) in targets.iter().zip(gradient) {
                logits[target as usize] += *part;
            }
        }
    }
}

struct Slot<T, S> {
    sink: S,
    results: Vec<Result<Vec<T>, Error>>,
}

/// Log-probabilities of the targets, per sequence. The batch was checked.
pub(crate) fn logprobs<T: Real>(network: &Network<T>, batch: &[Sequence], threads: usize) -> Vec<Vec<T>> {
    let slots = SLOTS.min(batch.len());
    let mut results: Vec<Vec<Vec<T>>> = vec![Vec::new(); slots];
    for_each_slot(&mut results, threads, |slot, results| {
        let mut room = Room::new(network);
        for datum in batch.iter().skip(slot).step_by(SLOTS) {
            results.push(room.read(network, datum));
        }
    });
    in_batch_order(results)
}

/// As `logprobs`, and back: `loss(i, logprobs)` gives the gradient at the log-probabilities of sequence i. Returns the sinks in
/// the order in which their gradients are to be added.
pub(crate) fn logprobs_and_gradients<T: Real, S: Sink<T> + Send>(
    network: &Network<T>,
    transposed: &[Matrix<T>],
    batch: &[Sequence],
    threads: usize,
    sink: impl Fn() -> S,
    loss: impl Fn(usize, &[T]) -> Vec<T> + Sync,
) -> Result<(Vec<Vec<T>>, Vec<S>), Error> {
    let mut slots: Vec<Slot<T, S>> =
        (0..SLOTS.min(batch.len())).map(|_| Slot { sink: sink(), results: Vec::new() }).collect();
    for_each_slot(&mut slots, threads, |slot, state| {
        let mut room = Room::new(network);
        for (sequence, datum) in batch.iter().enumerate().skip(slot).step_by(SLOTS) {
            let logprobs = room.read(network, datum);
            let gradient = loss(sequence, &logprobs);
            if gradient.len() != logprobs.len() {
                let (expected, given) = (logprobs.len(), gradient.len());
                state.results.push(Err(Error::GradientsLength { sequence, expected, given }));
                return;
            }
            room.turn_logits(network.config.vocabulary, datum, &gradient);
            let Room { tape, scratch, .. } = &mut room;
            backward(network, transposed, &datum.tokens, tape, scratch, &mut state.sink);
            state.results.push(Ok(logprobs));
        }
    });
    let mut sinks = Vec::with_capacity(slots.len());
    let mut results = Vec::with_capacity(slots.len());
    for slot in slots {
        sinks.push(slot.sink);
        results.push(slot.results.into_iter().collect::<Result<Vec<_>, _>>()?);
    }
    Ok((in_batch_order(results), sinks))
}

fn in_batch_order<R>(slots: Vec<Vec<R>>) -> Vec<R> {
    let mut slots: Vec<_> = slots.into_iter().map(Vec::into_iter).collect();
    let mut all = Vec::new();
    loop {
        let before = all.len();
        all.extend(slots.iter_mut().filter_map(Iterator::next));
        if all.len() == before {
            return all;
        }
    }
}
