//! JSON as the client reads it: the text is checked once, and a value is a piece of it, read when somebody asks.
//!
//! A derived reader is compiled whole for each type, some kilobytes each, and a page downloads them all. This one is
//! compiled once. It takes what `serde_json` takes. Numbers stay text: whoever needs one knows which kind it is.

use crate::Error;

/// How deep lists and objects may stand in each other, so that no text exhausts the stack.
const DEPTH: u8 = 128;

/// A value: a piece of sound JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<'a>(&'a str);

impl<'a> Json<'a> {
    /// The value that is all of `text`.
    pub fn read(text: &'a [u8]) -> Result<Json<'a>, Error> {
        let text = std::str::from_utf8(text).map_err(|error| not_json(error.valid_up_to()))?;
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(DEPTH);
        reader.space();
        value.filter(|_| reader.at == text.len()).map(Json).ok_or_else(|| not_json(reader.at))
    }

    /// The text that it came in.
    pub fn raw(self) -> &'a str {
        self.0
    }

    pub fn is_null(self) -> bool {
        self.0 == "null"
    }

    /// Of a string.
    pub fn text(self) -> Option<String> {
        Reader { text: self.0, at: 0 }.string()
    }

    /// Of a number, as it is written.
    pub fn number(self) -> Option<&'a str> {
        matches!(self.0.as_bytes().first(), Some(b'-' | b'0'..=b'9')).then_some(self.0)
    }

    /// Of a whole number of at least 0.
    #[inline(never)]
    pub fn count(self) -> Option<u64> {
        self.0.parse().ok()
    }

    pub fn flag(self) -> Option<bool> {
        match self.0 {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// Of a list.
    pub fn elements(self) -> Option<Parts<'a>> {
        self.parts(b'[')
    }

    /// Of an object, by name. A name may come twice.
    pub fn members(self) -> Option<Parts<'a>> {
        self.parts(b'{')
    }

    fn parts(self, open: u8) -> Option<Parts<'a>> {
        let fits = self.0.as_bytes().first() == Some(&open);
        fits.then(|| Parts { reader: Reader { text: self.0, at: 1 }, close: closing(open), first: true })
    }

    /// A member of an object. Of a name that comes twice the last one counts.
    pub fn get(self, name: &str) -> Option<Json<'a>> {
        self.members()?.filter(|(member, _)| member == name).last().map(|(_, value)| value)
    }
}

/// What stands in a list or an object, in order; elements of a list have an empty name.
pub struct Parts<'a> {
    reader: Reader<'a>,
    close: u8,
    first: bool,
}

impl<'a> Iterator for Parts<'a> {
    type Item = (String, Json<'a>);

    fn next(&mut self) -> Option<(String, Json<'a>)> {
        // The text was checked: what isn't there is its end.
        let part = self.reader.part(self.close, self.first, DEPTH)?;
        self.first = false;
        part.map(|(name, value)| (name, Json(value)))
    }
}

#[cold]
#[inline(never)]
fn not_json(at: usize) -> Error {
    Error::field("", format!("is not JSON: byte {at} can't stand there"))
}

fn closing(open: u8) -> u8 {
    if open == b'{' { b'}' } else { b']' }
}

/// A place in a text. What it reads is the text's, or none where the text isn't that; it then stands where it found out.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Goes past the next byte, if it is one of these.
    fn skip(&mut self, any: &[u8]) -> bool {
        let skips = self.peek().is_some_and(|byte| any.contains(&byte));
        self.at += usize::from(skips);
        skips
    }

    fn expect(&mut self, any: &[u8]) -> Option<()> {
        self.skip(any).then_some(())
    }

    fn space(&mut self) {
        while self.skip(b" \n\r\t") {}
    }

    /// A value, with the space before it left out.
    fn value(&mut self, depth: u8) -> Option<&'a str> {
        self.space();
        let start = self.at;
        match self.peek()? {
            b'"' => drop(self.string()?),
            open @ (b'{' | b'[') => {
                let depth = depth.checked_sub(2)? + 1;
                self.at += 1;
                let mut first = true;
                while self.part(closing(open), first, depth)?.is_some() {
                    first = false;
                }
            }
            b't' => self.word("true")?,
            b'f' => self.word("false")?,
            b'n' => self.word("null")?,
            _ => self.number()?,
        }
        self.text.get(start..self.at)
    }

    /// The next part of a list or an object; `Some(None)` is its end.
    #[expect(clippy::option_option, reason = "its end, and what isn't JSON")]
    fn part(&mut self, close: u8, first: bool, depth: u8) -> Option<Option<(String, &'a str)>> {
        self.space();
        if self.skip(&[close]) {
            return Some(None);
        }
        if !first {
            self.expect(b",")?;
            self.space();
        }
        let mut name = String::new();
        if close == b'}' {
            name = self.string()?;
            self.space();
            self.expect(b":")?;
        }
        Some(Some((name, self.value(depth)?)))
    }

    fn word(&mut self, word: &str) -> Option<()> {
        let end = self.at + word.len();
        (self.text.as_bytes().get(self.at..end)? == word.as_bytes()).then(|| self.at = end)
    }

    fn number(&mut self) -> Option<()> {
        self.skip(b"-");
        if !self.skip(b"0") {
            self.digits()?;
        }
        if self.skip(b".") {
            self.digits()?;
        }
        if self.skip(b"eE") {
            self.skip(b"+-");
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        self.expect(b"0123456789")?;
        while self.skip(b"0123456789") {}
        Some(())
    }

    fn string(&mut self) -> Option<String> {
        self.expect(b"\"")?;
        let mut text = String::new();
        loop {
            let start = self.at;
            while !matches!(self.peek()?, b'"' | b'\\' | ..b' ') {
                self.at += 1;
            }
            text.push_str(self.text.get(start..self.at)?);
            if self.skip(b"\"") {
                return Some(text);
            }
            self.expect(b"\\")?;
            text.push(self.escaped()?);
        }
    }

    fn escaped(&mut self) -> Option<char> {
        let kind = self.peek()?;
        self.at += 1;
        Some(match kind {
            b'"' | b'\\' | b'/' => kind as char,
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.unit()?;
                if !(0xd800..0xdc00).contains(&high) {
                    return char::from_u32(high);
                }
                self.word("\\u")?;
                let low = self.unit()?.checked_sub(0xdc00).filter(|&low| low < 0x400)?;
                return char::from_u32(0x10000 + ((high - 0xd800) << 10) + low);
            }
            _ => return None,
        })
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Option<u32> {
        let mut unit = 0;
        for _ in 0..4 {
            unit = unit << 4 | char::from(self.peek()?).to_digit(16)?;
            self.at += 1;
        }
        Some(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Json<'_> {
        Json::read(text.as_bytes()).expect(text)
    }

    #[test]
    fn a_value_is_read_as_what_it_is() {
        let json =
            read(r#" {"a" : [1, -2.5e3 ,"x"], "b":null,"\u0063":true,"a":{"d":"\ud83d\ude00\n\/"} } "#);
        assert_eq!(json.get("a").and_then(|a| a.get("d")?.text()), Some("😀\n/".to_owned()));
        assert!(json.get("b").is_some_and(Json::is_null));
        assert_eq!(json.get("c").and_then(Json::flag), Some(true));
        assert_eq!((json.get("d"), json.text(), json.number()), (None, None, None));
        let (_, list) = json.members().and_then(|mut members| members.next()).expect("a list comes first");
        let raw: Vec<&str> = list.elements().expect("a list").map(|(_, value)| value.raw()).collect();
        assert_eq!(raw, ["1", "-2.5e3", "\"x\""]);
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        for (text, at) in
            [("", 0), ("{\"a\":1,}", 7), ("[1 2]", 3), ("01", 1), ("[1,x]", 3), ("\"\\ud800\"", 7)]
        {
            let error = Json::read(text.as_bytes()).expect_err(text).to_string();
            assert_eq!(error, format!("is not JSON: byte {at} can't stand there"), "{text}");
        }
        assert!(Json::read(b"\"\xff\"").is_err());
    }
}
