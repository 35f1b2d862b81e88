//! Newtypes for ids and sequence numbers, so that one can't be taken for another.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! text_ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            pub fn new(text: impl Into<String>) -> Self {
                $name(text.into())
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
            pub fn into_string(self) -> String {
                self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl From<String> for $name {
            fn from(text: String) -> Self {
                $name(text)
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                $name(text.to_owned())
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    )*};
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident from $first:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Where counting begins.
            pub const FIRST: $name = $name($first);

            pub const fn new(number: u64) -> Self {
                $name(number)
            }
            pub const fn get(self) -> u64 {
                self.0
            }
            /// The number after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                $name(self.0 + 1)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl From<u64> for $name {
            fn from(number: u64) -> Self {
                $name(number)
            }
        }
    )*};
}

text_ids! {
    /// One client's stay at the server; ended by the server when its heartbeats stop.
    SessionId;
    /// A model in training: a training run's live weights. Also the id of the training run, in lists and paths.
    ModelId;
    /// A sampler: the weights that samples are drawn from, and the space that their numbers count in.
    SamplingSessionId;
    /// Work that the server took; `retrieve_future` gives its result.
    RequestId;
    /// One sampled sequence, for provenance.
    SampleSequenceId;
    /// A custom loss registered at the server.
    LossId;
}

numbers! {
    /// Place of a request in its model's order. On the wire of `forward_backward` a 32-bit integer, so at most 2³¹ − 1.
    SeqId from 1;
    /// Place of a model in its session; `create_model` and the `load_weights` that makes a model share the counter.
    ModelSeqId from 0;
    /// Place of a sampler in its session; `create_sampling_session` and ephemeral saves share the counter.
    SamplingSessionSeqId from 0;
    /// Number of a sample in its sampling session: no order, only identity. Clone *c* counts from *c*·10⁹, so it goes
    /// far beyond 2⁵³ and must stay an integer all the way.
    SampleSeqId from 0;
    /// Place of a custom loss in its session.
    CustomLossSeqId from 0;
}

impl SampleSeqId {
    /// Numbers that each clone of a sampling session has to itself.
    pub const PER_CLONE: u64 = 1_000_000_000;

    /// The first number of a clone; none when the clone's counter is too large for a 64-bit number.
    pub fn first_of_clone(clone: u64) -> Option<SampleSeqId> {
        clone.checked_mul(Self::PER_CLONE).map(SampleSeqId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_number_past_two_to_the_53_keeps_every_digit() {
        let number = SampleSeqId::first_of_clone(999_999_999).expect("fits").next();
        let text = crate::json::encode(&number);
        assert_eq!(text, b"999999999000000001");
        assert_eq!(crate::json::decode::<SampleSeqId>(&text), Ok(number));
        assert_eq!(SampleSeqId::first_of_clone(u64::MAX), None);
    }
}
