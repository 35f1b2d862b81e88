//! What a decoder found wrong, and where.

use std::fmt;

/// A message that can't be taken. `Display` names the place in the words of the wire (`data[2].loss_fn_inputs.weights`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The text isn't JSON, or isn't the JSON of this body.
    Json {
        /// From the body's root; empty for the root itself.
        path: String,
        problem: String,
    },
    /// The bytes aren't a protobuf message of this schema.
    Protobuf { message: &'static str, problem: String },
    /// It could be read, and contradicts itself: a tensor whose shape doesn't fit its data, an unknown enum value.
    Field { path: String, problem: String },
}

impl Error {
    pub fn field(path: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::Field { path: path.into(), problem: problem.into() }
    }

    /// Where it is, as a path of fields; empty when it is about the whole.
    pub fn path(&self) -> &str {
        match self {
            Error::Json { path, .. } | Error::Field { path, .. } => path,
            Error::Protobuf { .. } => "",
        }
    }

    /// The same error, seen from the message that holds the erring one in its field `outer`.
    pub fn within(self, outer: &str) -> Error {
        match self {
            Error::Field { path, problem } => Error::Field { path: join(outer, &path), problem },
            Error::Json { path, problem } => Error::Json { path: join(outer, &path), problem },
            protobuf => protobuf,
        }
    }
}

fn join(outer: &str, inner: &str) -> String {
    match (outer.is_empty(), inner.is_empty()) {
        (true, _) => inner.to_owned(),
        (_, true) => outer.to_owned(),
        _ if inner.starts_with('[') => format!("{outer}{inner}"),
        _ => format!("{outer}.{inner}"),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Json { path, problem } | Error::Field { path, problem } if !path.is_empty() => {
                write!(f, "{path}: {problem}")
            }
            Error::Json { problem, .. } | Error::Field { problem, .. } => f.write_str(problem),
            Error::Protobuf { message, problem } => write!(f, "not a protobuf {message}: {problem}"),
        }
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
