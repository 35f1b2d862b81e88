//! What a decoder found wrong, and where.

use std::fmt;

/// A message that can't be taken: not of its format, not of its schema, or contradicting itself. `Display` names the place
/// in the words of the wire (`data[2].loss_fn_inputs.weights`).
///
/// One pointer, since nearly every function here may give one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    /// From the body's root; empty for the root itself.
    path: String,
    problem: String,
}

impl Error {
    #[cold]
    pub fn field(path: impl Into<String>, problem: impl Into<String>) -> Error {
        Error(Box::new(Inner { path: path.into(), problem: problem.into() }))
    }

    /// Where it is, as a path of fields; empty when it is about the whole.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// The same error, seen from the message that holds the erring one in its field `outer`.
    #[cold]
    #[inline(never)]
    pub fn within(mut self, outer: &str) -> Error {
        let inner = &self.0.path;
        let dot = if inner.is_empty() || outer.is_empty() || inner.starts_with('[') { "" } else { "." };
        self.0.path = [outer, dot, inner].concat();
        self
    }

    /// As [`within`](Error::within), for an element of a list.
    #[cold]
    #[inline(never)]
    pub fn within_element(self, list: &str, index: usize) -> Error {
        self.within(&format!("{list}[{index}]"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { path, problem } = &*self.0;
        if !path.is_empty() {
            f.write_str(path)?;
            f.write_str(": ")?;
        }
        f.write_str(problem)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::Error;

    #[test]
    fn an_error_names_the_place_from_the_outside_in() {
        let inner = Error::field("shape", "is negative").within("loss_fn_inputs.weights").within("data[2]");
        assert_eq!(inner.to_string(), "data[2].loss_fn_inputs.weights.shape: is negative");
        assert_eq!(Error::field("[1]", "is null").within("stop").path(), "stop[1]");
        assert_eq!(Error::field("", "is empty").within("data").to_string(), "data: is empty");
    }
}
