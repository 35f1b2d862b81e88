//! What a run's call is for, as it stands in the call's label: after a crash it is all that is known of it.

use super::event::Reason;
use crate::platform::numbers;

#[derive(Clone, Debug, PartialEq)]
pub struct Tag {
    pub step: u32,
    pub kind: Kind,
    /// Of the data: the sum of their weights, and their tokens.
    pub weight: f64,
    pub tokens: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of a run over data: all of it.
    Step,
    /// The rest stands behind the step.
    Evaluate,
    Checkpoint(Reason),
    Sampler,
    /// The nth call of the step's function.
    Call(u32),
}

impl Tag {
    pub fn new(step: u32, kind: Kind) -> Tag {
        Tag { step, kind, weight: 0.0, tokens: 0 }
    }

    /// JSON text: a list.
    pub fn to_label(&self) -> String {
        let (name, nth) = match self.kind {
            Kind::Step => ("step", 0),
            Kind::Evaluate => ("evaluate", 0),
            Kind::Checkpoint(reason) => (reason.as_str(), 0),
            Kind::Sampler => ("sampler", 0),
            Kind::Call(nth) => ("call", nth),
        };
        // JSON has no other numbers; a loss over such weights is none either.
        let weight = if self.weight.is_finite() { self.weight } else { 0.0 };
        format!("[{},\"{name}\",{nth},{},{}]", self.step, numbers::write(weight), self.tokens)
    }

    pub fn of_label(label: &str) -> Option<Tag> {
        let mut fields = label.strip_prefix('[')?.strip_suffix(']')?.split(',');
        let step = fields.next()?.parse().ok()?;
        let name = fields.next()?.trim_matches('"');
        let nth = fields.next()?.parse().ok()?;
        let kind = match name {
            "step" => Kind::Step,
            "evaluate" => Kind::Evaluate,
            "sampler" => Kind::Sampler,
            "call" => Kind::Call(nth),
            reason => Kind::Checkpoint(Reason::ALL.into_iter().find(|known| known.as_str() == reason)?),
        };
        Some(Tag { step, kind, weight: numbers::read(fields.next()?)?, tokens: fields.next()?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_read_as_it_was_written() {
        let kinds = [Kind::Step, Kind::Evaluate, Kind::Sampler, Kind::Call(7)];
        for kind in kinds.into_iter().chain(Reason::ALL.map(Kind::Checkpoint)) {
            let tag = Tag { step: 12, kind, weight: 480.5, tokens: 512 };
            assert_eq!(Tag::of_label(&tag.to_label()), Some(tag));
        }
        assert_eq!(Tag::of_label("{\"step\":1}"), None);
        let odd = Tag { weight: f64::NAN, ..Tag::new(1, Kind::Step) };
        assert!(
            Tag::of_label(&odd.to_label()).is_some(),
            "whatever the weights are, the call is known again"
        );
    }
}
