//! Finds the field that a JSON error is about: serde says line and column, people want a path.

use serde_json::error::Category;

use crate::Error;

/// The error with its path, found by reading the text again up to its place. Costs nothing where there is no error.
pub(super) fn explain(bytes: &[u8], error: &serde_json::Error) -> Error {
    let text = error.to_string();
    let problem = text.rfind(" at line ").map_or(text.as_str(), |end| &text[..end]);
    let problem = match error.classify() {
        Category::Data => problem.to_owned(),
        _ => format!("is not JSON: {problem}, at line {} column {}", error.line(), error.column()),
    };
    Error::field(path_at(bytes, offset(bytes, error.line(), error.column())), problem)
}

/// serde_json counts lines from 1, and columns as the bytes read of the line.
fn offset(bytes: &[u8], line: usize, column: usize) -> usize {
    let lines = bytes.split_inclusive(|&byte| byte == b'\n');
    let before: usize = lines.take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    (before + column).min(bytes.len())
}

enum Level {
    /// In an object, after this key (empty before the first one).
    Key(String),
    /// In a list, at this element.
    Element(usize),
}

/// The path of the value that ends at, or goes on beyond, `end`. Any bytes will do.
fn path_at(bytes: &[u8], end: usize) -> String {
    let mut levels: Vec<Level> = Vec::new();
    let mut text: Option<(usize, usize)> = None;
    let mut at = 0;
    while at < end {
        match bytes[at] {
            b'"' => {
                let start = at + 1;
                at = start;
                while at < end && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                text = Some((start, at.min(end)));
            }
            b':' => {
                if let (Some(Level::Key(key)), Some((start, stop))) = (levels.last_mut(), text.take()) {
                    *key = String::from_utf8_lossy(&bytes[start..stop]).into_owned();
                }
            }
            // A comma may be the byte at which a number's end was seen: the number is what the error is about.
            b',' if at + 1 < end => {
                if let Some(Level::Element(index)) = levels.last_mut() {
                    *index += 1;
                }
            }
            b'{' => levels.push(Level::Key(String::new())),
            b'[' => levels.push(Level::Element(0)),
            b'}' => match levels.last_mut() {
                // What an object lacks is told at its end, and is about the object.
                Some(Level::Key(key)) if at + 1 == end => key.clear(),
                _ => drop(levels.pop()),
            },
            b']' if at + 1 < end => drop(levels.pop()),
            _ => {}
        }
        at += 1;
    }
    let mut path = String::new();
    for level in levels {
        match level {
            Level::Key(key) if key.is_empty() => {}
            Level::Key(key) if path.is_empty() => path = key,
            Level::Key(key) => {
                path.push('.');
                path.push_str(&key);
            }
            Level::Element(index) => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use crate::json::decode;
    use crate::json::sampling::Sample;

    fn path(body: &str) -> String {
        decode::<Sample>(body.as_bytes()).expect_err(body).path().to_owned()
    }

    #[test]
    fn an_error_names_the_field_that_is_wrong() {
        let begin = r#"{"sampling_session_id":"s", "seq_id": 1, "prompt": "#;
        assert_eq!(
            path(&format!(r#"{begin}{{"chunks":[{{"type":"encoded_text","tokens":[1,"x"]}}]}}}}"#)),
            "prompt.chunks[0].tokens[1]"
        );
        assert_eq!(
            path(&format!(r#"{begin}{{"chunks":[{{"type":"encoded_text","tokens":[1,2.5]}}]}}}}"#)),
            "prompt.chunks[0].tokens[1]"
        );
        assert_eq!(
            path(&format!(r#"{begin}{{"chunks":[{{"type":"encoded_text"}}]}}}}"#)),
            "prompt.chunks[0]"
        );
        assert_eq!(path(&format!(r#"{begin}{{"chunks":[]}}, "num_samples": "many"}}"#)), "num_samples");
        assert_eq!(path(&format!(r#"{begin}{{"chunks":[]}}, "num_samples": -1}}"#)), "num_samples");
        assert_eq!(path(r#"{"a\"b": {"c":[1,2,{}]}, "seq_id": [] }"#), "seq_id");
    }

    #[test]
    fn what_is_missing_is_told_of_the_body() {
        let error = decode::<Sample>(br#"{"seq_id": 1}"#).expect_err("no prompt");
        assert_eq!(error.path(), "");
        assert!(error.to_string().contains("missing field `"), "{error}");
    }

    #[test]
    fn text_that_is_not_json_says_where() {
        for body in ["", "{", "{\"a\":", "[1,", "\"\\", "}{", "\u{fffd}", "{\"prompt\":{\n\"x"] {
            assert!(decode::<Sample>(body.as_bytes()).is_err(), "{body}");
        }
        let error = decode::<Sample>(b"{\"seq_id\":\n 1x}").expect_err("x");
        assert!(error.to_string().contains("line 2 column 3"), "{error}");
    }
}
