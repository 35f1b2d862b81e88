//! Protobuf as the client reads and writes it: fields by number, the rest by hand where the values are made.
//!
//! prost's derived readers make a struct of each message first, and are compiled whole for each. Here a field's bytes
//! are a piece of the message, copied once, to where they stay.

use crate::Error;

/// What a field holds, by its type on the wire.
#[derive(Clone, Copy)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

/// The fields of a message, in the order in which they came.
pub(crate) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The next field's number and value; none at the end.
    pub fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Error> {
        if self.0.is_empty() {
            return Ok(None);
        }
        self.field().map(Some).ok_or_else(malformed)
    }

    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Value::Fixed32
            }
            // Groups, which proto3 has none of.
            _ => return None,
        };
        let number = key >> 3;
        (1..1 << 29).contains(&number).then_some((number, value))
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            // The tenth byte has one bit left.
            if shift == 63 && byte > 1 {
                return None;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }
}

impl<'a> Value<'a> {
    pub fn bytes(self) -> Result<&'a [u8], Error> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(malformed()),
        }
    }

    pub fn text(self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.bytes()?).map_err(|_| malformed())
    }

    /// Of every integer's type, which the caller narrows.
    pub fn integer(self) -> Result<u64, Error> {
        match self {
            Value::Varint(number) => Ok(number),
            _ => Err(malformed()),
        }
    }

    pub fn double(self) -> Result<f64, Error> {
        match self {
            Value::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(malformed()),
        }
    }

    /// Of a repeated integer, one by one or packed.
    pub fn integers(self, list: &mut Vec<i64>) -> Result<(), Error> {
        if let Value::Bytes(bytes) = self {
            let mut packed = Fields(bytes);
            while !packed.0.is_empty() {
                list.push(packed.varint().ok_or_else(malformed)? as i64);
            }
        } else {
            list.push(self.integer()? as i64);
        }
        Ok(())
    }
}

/// An entry of a map: its name, and its value if it has one. Refuses a second value, which nobody writes.
pub(crate) fn entry(message: &[u8]) -> Result<(&str, Option<Value<'_>>), Error> {
    let mut entry = ("", None);
    let mut fields = Fields(message);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => entry.0 = value.text()?,
            2 if entry.1.is_none() => entry.1 = Some(value),
            2 => return Err(malformed()),
            _ => {}
        }
    }
    Ok(entry)
}

#[cold]
#[inline(never)]
fn malformed() -> Error {
    Error::field("", "is not the protobuf message that belongs here")
}

/// Writes a message, field after field.
#[derive(Default)]
pub(crate) struct Writer(pub Vec<u8>);

impl Writer {
    pub fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    pub fn bytes(&mut self, field: u8, bytes: &[u8]) {
        self.0.push(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub fn integer(&mut self, field: u8, number: u64) {
        self.0.push(field << 3);
        self.varint(number);
    }

    pub fn double(&mut self, field: u8, number: f64) {
        self.0.push(field << 3 | 1);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// As [`bytes`](Writer::bytes), left out where it is the default.
    pub fn some_bytes(&mut self, field: u8, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.bytes(field, bytes);
        }
    }

    /// As [`integer`](Writer::integer), left out where it is the default.
    pub fn some_integer(&mut self, field: u8, number: u64) {
        if number != 0 {
            self.integer(field, number);
        }
    }

    /// Begins a message in a field: what is written until [`close`](Writer::close) takes the place that this gives.
    pub fn open(&mut self, field: u8) -> usize {
        self.0.push(field << 3 | 2);
        self.0.len()
    }

    /// Puts the length in front of what was written since, which moves that by a few bytes.
    pub fn close(&mut self, start: usize) {
        let end = self.0.len();
        self.varint((end - start) as u64);
        let length = self.0[end..].to_vec();
        self.0.copy_within(start..end, start + length.len());
        self.0[start..start + length.len()].copy_from_slice(&length);
    }
}
