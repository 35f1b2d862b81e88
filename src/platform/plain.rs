//! Plain values as they cross between JavaScript and Rust: bytes, read and written field by field.
//!
//! | value | kind | content |
//! |---|---|---|
//! | flag | `f` | one byte, 0 or 1 |
//! | number | `n` | a double, little-endian |
//! | text | `t` | UTF-8 |
//! | bytes | `b` | as they are |
//! | list | `l` | its values |
//! | object | `o` | each field: its name, as a text, and its value |
//!
//! Each value is its kind, the length of its content (a `u32`, little-endian), and its content. `js/plain.ts` is the other
//! side. One value crosses in one call: objects read across the boundary field by field cost a call and a handle each,
//! and derived readers are compiled once for each type. A page downloads all of it.

use std::cell::RefCell;

use tinkex_protocol::Map;

use crate::error::Error;

/// Whole numbers up to here are exact in JavaScript.
const EXACT: f64 = 9_007_199_254_740_991.0;

/// Kind and length.
const HEAD: usize = 5;

/// Any value.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    kind: u8,
    content: &'a [u8],
}

impl<'a> Value<'a> {
    /// The first value of these bytes, and what comes after it; `None` where they don't hold a whole one.
    fn split(bytes: &'a [u8]) -> Option<(Value<'a>, &'a [u8])> {
        let (head, rest) = bytes.split_at_checked(HEAD)?;
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let (content, rest) = rest.split_at_checked(length)?;
        Some((Value { kind: head[0], content }, rest))
    }

    pub fn as_number(self) -> Option<f64> {
        let bytes = self.content.try_into().ok()?;
        (self.kind == b'n').then_some(f64::from_le_bytes(bytes))
    }

    pub fn as_text(self) -> Option<&'a str> {
        if self.kind != b't' {
            return None;
        }
        std::str::from_utf8(self.content).ok()
    }

    fn as_flag(self) -> Option<bool> {
        (self.kind == b'f').then_some(self.content == [1])
    }

    pub fn as_bytes(self) -> Option<&'a [u8]> {
        (self.kind == b'b').then_some(self.content)
    }

    /// As a plain value of its own.
    pub fn encoded(self) -> Vec<u8> {
        let mut plain = Plain::default();
        plain.value(self.kind, self.content);
        plain.0
    }

    /// The values of a list.
    pub fn as_list(self) -> Option<Values<'a>> {
        (self.kind == b'l').then_some(Values(self.content))
    }

    fn as_object(self) -> Option<Values<'a>> {
        (self.kind == b'o').then_some(Values(self.content))
    }
}

/// Values that stand one after another.
pub struct Values<'a>(&'a [u8]);

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let (value, rest) = Value::split(self.0)?;
        self.0 = rest;
        Some(value)
    }
}

/// What is wrong with what was given: the first field that can't be taken.
///
/// Readers note it here and go on with nothing in its place, so that reading a dozen fields has one way out, at its end:
/// see [`Wrong::check`].
#[derive(Default)]
pub struct Wrong(RefCell<Option<Error>>);

impl Wrong {
    /// The error of the first field that couldn't be taken. What was read is worth nothing before this.
    pub fn check(&self) -> Result<(), Error> {
        match self.0.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    #[cold]
    #[inline(never)]
    pub fn note(&self, error: Error) {
        self.0.borrow_mut().get_or_insert(error);
    }

    #[cold]
    #[inline(never)]
    pub fn must_be(&self, name: &str, what: &str) {
        self.note(Error::invalid(name, [name, " must be ", what].concat()));
    }
}

/// An object to read from.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    object: Value<'a>,
    wrong: &'a Wrong,
}

impl<'a> Given<'a> {
    /// The object that these bytes hold.
    pub fn new(bytes: &'a [u8], wrong: &'a Wrong) -> Given<'a> {
        let object = Value::split(bytes).map(|(value, _)| value);
        Given::of(object.unwrap_or(NOTHING), wrong)
    }

    pub fn of(object: Value<'a>, wrong: &'a Wrong) -> Given<'a> {
        Given { object, wrong }
    }

    pub fn wrong(&self) -> &'a Wrong {
        self.wrong
    }

    pub fn get(self, name: &str) -> Option<Value<'a>> {
        let mut fields = self.object.as_object()?;
        loop {
            let field = fields.next()?;
            let value = fields.next()?;
            if field.content == name.as_bytes() {
                return Some(value);
            }
        }
    }

    /// The field of this name as `read` reads it, which must be `what` if it is there.
    #[inline(always)]
    fn optional<T>(self, name: &str, what: &str, read: impl Fn(Value<'a>) -> Option<T>) -> Option<T> {
        let value = self.get(name)?;
        let read = read(value);
        if read.is_none() {
            self.wrong.must_be(name, what);
        }
        read
    }

    #[inline(always)]
    fn required<T>(self, name: &str, field: Option<T>) -> Option<T> {
        if field.is_none() {
            self.wrong.must_be(name, "there");
        }
        field
    }

    pub fn optional_text(self, name: &str) -> Option<String> {
        self.optional(name, "a string", Value::as_text).map(str::to_owned)
    }

    /// A text as it stands there; an empty one where there is none.
    pub fn word(self, name: &str) -> &'a str {
        self.get(name).and_then(Value::as_text).unwrap_or_default()
    }

    pub fn text(self, name: &str) -> String {
        self.required(name, self.optional_text(name)).unwrap_or_default()
    }

    pub fn optional_number(self, name: &str) -> Option<f64> {
        self.optional(name, "a number", Value::as_number)
    }

    pub fn number(self, name: &str) -> f64 {
        self.required(name, self.optional_number(name)).unwrap_or_default()
    }

    pub fn optional_whole(self, name: &str) -> Option<i64> {
        let number = self.optional_number(name)?;
        if number.trunc() != number || number.abs() > EXACT {
            self.wrong.must_be(name, "a whole number");
        }
        Some(number as i64)
    }

    pub fn optional_count(self, name: &str) -> Option<u32> {
        let number = self.optional_whole(name)?;
        let count = u32::try_from(number).ok();
        if count.is_none() {
            self.wrong.must_be(name, "a count");
        }
        count
    }

    pub fn count(self, name: &str) -> u32 {
        self.required(name, self.optional_count(name)).unwrap_or_default()
    }

    pub fn optional_flag(self, name: &str) -> Option<bool> {
        self.optional(name, "a boolean", Value::as_flag)
    }

    pub fn flag(self, name: &str) -> bool {
        self.required(name, self.optional_flag(name)).unwrap_or_default()
    }

    pub fn bytes(self, name: &str) -> Vec<u8> {
        let bytes = self.optional(name, "bytes", Value::as_bytes);
        self.required(name, bytes).unwrap_or_default().to_vec()
    }

    /// As a plain value of its own.
    pub fn encoded(self) -> Vec<u8> {
        self.object.encoded()
    }

    pub fn list(self, name: &str) -> Values<'a> {
        let list = self.optional(name, "an array", Value::as_list);
        self.required(name, list).unwrap_or(Values(&[]))
    }

    pub fn object(self, name: &str) -> Given<'a> {
        let object = self.required(name, self.get(name));
        Given::of(object.unwrap_or(NOTHING), self.wrong)
    }

    /// The fields of an object in its order, each as its name and its value; none where there is no such object.
    pub fn entries(self, name: &str) -> Entries<'a> {
        Entries(self.get(name).and_then(Value::as_object).unwrap_or(Values(&[])))
    }

    /// Texts by name.
    pub fn texts(self, name: &str) -> Map<String> {
        let mut texts = Vec::new();
        for (key, value) in self.entries(name) {
            match value.as_text() {
                Some(text) => texts.push((key.to_owned(), text.to_owned())),
                None => self.wrong.must_be(name, "an object of strings"),
            }
        }
        Map::from_entries(texts)
    }

    pub fn optional_texts(self, name: &str) -> Option<Map<String>> {
        self.get(name).map(|_| self.texts(name))
    }
}

/// An object without fields.
const NOTHING: Value<'static> = Value { kind: b'o', content: &[] };

/// Names and values.
pub struct Entries<'a>(Values<'a>);

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a str, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let name = self.0.next()?.as_text()?;
        Some((name, self.0.next()?))
    }
}

/// Writes one value.
#[derive(Default)]
pub struct Plain(Vec<u8>);

/// An object or a list that is being written.
#[must_use = "what is opened must be closed"]
pub struct Opened(usize);

impl Plain {
    /// An object, whose fields `write` writes.
    pub fn object(write: impl FnOnce(&mut Plain)) -> Vec<u8> {
        let mut plain = Plain::default();
        let object = plain.open(b'o');
        write(&mut plain);
        plain.close(object);
        plain.0
    }

    /// An object without fields.
    pub fn nothing() -> Vec<u8> {
        vec![b'o', 0, 0, 0, 0]
    }

    fn value(&mut self, kind: u8, content: &[u8]) {
        self.0.push(kind);
        self.0.extend_from_slice(&(content.len() as u32).to_le_bytes());
        self.0.extend_from_slice(content);
    }

    fn open(&mut self, kind: u8) -> Opened {
        self.value(kind, &[]);
        Opened(self.0.len())
    }

    pub fn close(&mut self, Opened(start): Opened) {
        let length = (self.0.len() - start) as u32;
        self.0[start - HEAD + 1..start].copy_from_slice(&length.to_le_bytes());
    }

    /// A field that is a list: its values follow, by [`Plain::item`] and [`Plain::item_number`].
    pub fn list(&mut self, name: &str) -> Opened {
        self.value(b't', name.as_bytes());
        self.open(b'l')
    }

    /// A field that is an object: its fields follow.
    pub fn inner(&mut self, name: &str) -> Opened {
        self.value(b't', name.as_bytes());
        self.open(b'o')
    }

    /// A value of a list that is an object.
    pub fn item(&mut self) -> Opened {
        self.open(b'o')
    }

    /// A value of a list that was written before.
    pub fn item_raw(&mut self, value: &[u8]) {
        self.0.extend_from_slice(value);
    }

    /// A field whose value was written before.
    pub fn raw(&mut self, name: &str, value: &[u8]) {
        self.item_text(name);
        self.item_raw(value);
    }

    pub fn item_number(&mut self, number: f64) {
        self.value(b'n', &number.to_le_bytes());
    }

    pub fn item_text(&mut self, text: &str) {
        self.value(b't', text.as_bytes());
    }

    pub fn text(&mut self, name: &str, text: &str) {
        self.item_text(name);
        self.item_text(text);
    }

    pub fn number(&mut self, name: &str, number: f64) {
        self.item_text(name);
        self.item_number(number);
    }

    pub fn flag(&mut self, name: &str, flag: bool) {
        self.item_text(name);
        self.value(b'f', &[flag.into()]);
    }

    pub fn bytes(&mut self, name: &str, bytes: &[u8]) {
        self.item_text(name);
        self.value(b'b', bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that `js/plain.ts` makes of `{ text: "é", list: [1, true] }`; its test has them too.
    const FROM_JAVASCRIPT: &[u8] = b"o\x31\0\0\0t\x04\0\0\0textt\x02\0\0\0\xc3\xa9t\x04\0\0\0list\
        l\x13\0\0\0n\x08\0\0\0\0\0\0\0\0\0\xf0\x3ff\x01\0\0\0\x01";

    #[test]
    fn the_bytes_are_those_that_javascript_writes_and_reads() {
        let wrong = Wrong::default();
        let given = Given::new(FROM_JAVASCRIPT, &wrong);
        assert_eq!(given.text("text"), "é");
        let list: Vec<_> = given.list("list").collect();
        assert_eq!((list[0].as_number(), list[1].as_flag(), list.len()), (Some(1.0), Some(true), 2));
        assert!(wrong.check().is_ok());

        let written = Plain::object(|plain| {
            plain.text("text", "é");
            let list = plain.list("list");
            plain.item_number(1.0);
            plain.value(b'f', &[1]);
            plain.close(list);
        });
        assert_eq!(written, FROM_JAVASCRIPT);
    }

    #[test]
    fn every_kind_of_field_comes_out_as_it_was_written() {
        let bytes = Plain::object(|plain| {
            plain.number("number", -2.5);
            plain.flag("flag", false);
            plain.bytes("bytes", &[0, 255]);
            let inner = plain.inner("inner");
            plain.text("deep", "er");
            plain.close(inner);
        });
        let wrong = Wrong::default();
        let given = Given::new(&bytes, &wrong);
        assert_eq!((given.number("number"), given.flag("flag")), (-2.5, false));
        assert_eq!((given.bytes("bytes"), given.object("inner").text("deep")), (vec![0, 255], "er".into()));
        assert_eq!(given.texts("inner"), [("deep".to_owned(), "er".to_owned())].into_iter().collect());
        assert_eq!((given.optional_text("none"), given.optional_texts("none")), (None, None));
        assert!(wrong.check().is_ok());
    }

    #[test]
    fn the_first_field_that_cant_be_taken_is_the_error_and_names_itself() {
        let bytes = Plain::object(|plain| {
            plain.text("name", "seven");
            plain.number("half", 0.5);
            plain.number("minus", -1.0);
            plain.number("huge", 1e16);
            plain.number("number", 7.0);
        });
        let error = |read: fn(Given)| {
            let wrong = Wrong::default();
            read(Given::new(&bytes, &wrong));
            wrong.check().expect_err("it can't be taken").message().to_owned()
        };
        assert_eq!(error(|given| drop(given.text("absent"))), "absent must be there");
        assert_eq!(error(|given| drop(given.text("number"))), "number must be a string");
        assert_eq!(error(|given| _ = given.number("name")), "name must be a number");
        assert_eq!(error(|given| _ = given.count("half")), "half must be a whole number");
        assert_eq!(error(|given| _ = given.optional_whole("huge")), "huge must be a whole number");
        assert_eq!(error(|given| _ = given.count("minus")), "minus must be a count");
        assert_eq!(error(|given| _ = given.flag("number")), "number must be a boolean");
        assert_eq!(error(|given| drop(given.bytes("name"))), "name must be bytes");
        assert_eq!(error(|given| _ = given.list("name").next()), "name must be an array");
        assert_eq!(error(|given| drop(given.object("absent").text("deep"))), "absent must be there");
        let of_two = |given: Given| drop((given.flag("name"), given.text("absent")));
        assert_eq!(error(of_two), "name must be a boolean");
    }

    #[test]
    fn bytes_that_end_too_early_hold_nothing_and_break_nothing() {
        for length in 0..FROM_JAVASCRIPT.len() {
            let wrong = Wrong::default();
            let given = Given::new(&FROM_JAVASCRIPT[..length], &wrong);
            assert_eq!((given.optional_text("text"), given.list("list").count()), (None, 0));
        }
    }
}
