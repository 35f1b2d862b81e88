//! What can be wrong with what a caller gives: every error names the place and what would be right.

use std::fmt;

/// Why the model refused. Nothing was changed when one of these is returned.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A token id that the model has no embedding for. `sequence` and `index` say where.
    TokenOutOfVocabulary { sequence: usize, index: usize, token: u32, vocabulary: usize },
    /// A target id outside the vocabulary; `index` counts in `Sequence::targets`.
    TargetOutOfVocabulary { sequence: usize, index: usize, token: u32, vocabulary: usize },
    /// More tokens than the model's context holds (for sampling: prompt and new tokens together).
    SequenceTooLong { sequence: usize, length: usize, context: usize },
    /// A sequence or a prompt without a token.
    EmptySequence { sequence: usize },
    /// `targets.len()` is not `tokens.len() * targets_per_token`.
    TargetsLength { sequence: usize, tokens: usize, targets: usize, targets_per_token: usize },
    /// The loss gave another number of gradients than there are log-probabilities.
    GradientsLength { sequence: usize, expected: usize, given: usize },
    /// A number outside what it may be.
    InvalidParameter { name: &'static str, value: f64, allowed: &'static str },
    /// The accumulated gradient holds an infinity or NaN. The weights are as they were, the gradient is dropped.
    NonFiniteGradient,
    /// Bytes that are not a model or a state of this version, or were damaged.
    Malformed { what: &'static str, reason: String },
    /// A state that belongs to another base model.
    OtherBaseModel { expected: u64, found: u64 },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::TokenOutOfVocabulary { sequence, index, token, vocabulary } => {
                write!(
                    f,
                    "sequence {sequence}: token {token} at position {index} is outside the vocabulary (0 to {})",
                    vocabulary - 1
                )
            }
            Error::TargetOutOfVocabulary { sequence, index, token, vocabulary } => {
                write!(
                    f,
                    "sequence {sequence}: target {token} at position {index} is outside the vocabulary (0 to {})",
                    vocabulary - 1
                )
            }
            Error::SequenceTooLong { sequence, length, context } => {
                write!(
                    f,
                    "sequence {sequence}: {length} tokens are more than the context of {context}; shorten it"
                )
            }
            Error::EmptySequence { sequence } => {
                write!(f, "sequence {sequence} is empty; give at least one token")
            }
            Error::TargetsLength { sequence, tokens, targets, targets_per_token } => write!(
                f,
                "sequence {sequence}: {targets} targets for {tokens} tokens; {} are needed ({targets_per_token} per token)",
                tokens.saturating_mul(*targets_per_token)
            ),
            Error::GradientsLength { sequence, expected, given } => {
                write!(
                    f,
                    "sequence {sequence}: the loss gave {given} gradients for {expected} log-probabilities"
                )
            }
            Error::InvalidParameter { name, value, allowed } => {
                write!(f, "{name} is {value}; it must be {allowed}")
            }
            Error::NonFiniteGradient => {
                write!(
                    f,
                    "the gradient is not finite, so no step was taken; lower the learning rate or check the weights of the loss"
                )
            }
            Error::Malformed { what, reason } => write!(f, "this is not a readable {what}: {reason}"),
            Error::OtherBaseModel { expected, found } => {
                write!(
                    f,
                    "the state belongs to another base model ({found:016x}, this one is {expected:016x})"
                )
            }
        }
    }
}

impl std::error::Error for Error {}
