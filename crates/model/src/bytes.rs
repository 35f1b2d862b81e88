//! Files of the model: little-endian numbers behind a magic word and a version, ended by a checksum.

use crate::Error;

/// FNV-1a, 64 bits. It meets accidents and compares weights; it doesn't keep out an adversary.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Hash of the numbers' bits.
pub(crate) fn hash_f32(values: &[f32]) -> u64 {
    let mut writer = Writer { bytes: Vec::with_capacity(values.len() * 4) };
    writer.f32s(values);
    hash(&writer.bytes)
}

pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn new(magic: &[u8; 4], version: u32) -> Writer {
        let mut writer = Writer { bytes: magic.to_vec() };
        writer.u32(version);
        writer
    }

    pub fn u32(&mut self, value: u32) {
        self.bytes.extend(value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.bytes.extend(value.to_le_bytes());
    }

    pub fn f32s(&mut self, values: &[f32]) {
        self.bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    /// As 16-bit floats, rounded to the nearest.
    pub fn f16s(&mut self, values: &[f32]) {
        self.bytes.extend(values.iter().flat_map(|&value| half_from(value).to_le_bytes()));
    }

    pub fn finish(mut self) -> Vec<u8> {
        let checksum = hash(&self.bytes);
        self.u64(checksum);
        self.bytes
    }
}

pub(crate) struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Checks magic, version and checksum; `what` names the file in errors.
    pub fn new(
        what: &'static str,
        magic: &[u8; 4],
        version: u32,
        bytes: &'a [u8],
    ) -> Result<Reader<'a>, Error> {
        let reader = Reader { what, rest: bytes };
        if bytes.len() < 16 || &bytes[..4] != magic {
            return Err(reader.error("it doesn't begin as one"));
        }
        let (content, checksum) = bytes.split_at(bytes.len() - 8);
        let mut reader = Reader { what, rest: &content[4..] };
        let found = reader.u32()?;
        if found != version {
            return Err(reader.error(&format!("its version is {found}, this crate reads {version}")));
        }
        if hash(content).to_le_bytes() != checksum {
            return Err(reader.error("it was cut short or damaged (its checksum doesn't match)"));
        }
        Ok(reader)
    }

    pub fn error(&self, reason: &str) -> Error {
        Error::Malformed { what: self.what, reason: reason.to_string() }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.error("it ends too early"));
        };
        self.rest = rest;
        Ok(taken)
    }

    pub fn u32(&mut self) -> Result<u32, Error> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes(bytes.try_into().expect("four bytes were taken")))
    }

    pub fn u64(&mut self) -> Result<u64, Error> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(bytes.try_into().expect("eight bytes were taken")))
    }

    pub fn size(&mut self) -> Result<usize, Error> {
        Ok(self.u32()? as usize)
    }

    pub fn flag(&mut self) -> Result<bool, Error> {
        match self.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.error("a flag is neither 0 nor 1")),
        }
    }

    pub fn f32s(&mut self, count: usize) -> Result<Vec<f32>, Error> {
        let bytes = self.take(count.saturating_mul(4))?;
        let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("chunks of four"));
        Ok(bytes.chunks_exact(4).map(number).collect())
    }

    pub fn f16s(&mut self, count: usize) -> Result<Vec<f32>, Error> {
        let bytes = self.take(count.saturating_mul(2))?;
        let number = |bytes: &[u8]| half_to(u16::from_le_bytes(bytes.try_into().expect("chunks of two")));
        Ok(bytes.chunks_exact(2).map(number).collect())
    }

    pub fn end(self) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.error("it goes on after its end")) }
    }
}

/// The nearest 16-bit float (to even when two are as near); too large becomes infinity.
fn half_from(value: f32) -> u16 {
    let sign = if value.is_sign_negative() { 0x8000 } else { 0 };
    let magnitude = f64::from(value).abs();
    if value.is_nan() {
        return 0x7e00;
    }
    // Below 2^-14 the steps are those of 2^-14: subnormal numbers.
    let exponent = if magnitude < f64::from(f32::MIN_POSITIVE) {
        -14
    } else {
        ((value.to_bits() >> 23 & 0xff) as i32 - 127).max(-14)
    };
    if exponent > 15 {
        return sign | 0x7c00;
    }
    let step = libm::exp2(f64::from(exponent - 10));
    let steps = libm::rint(magnitude / step) as u16;
    // 1,024 steps are the implicit leading bit; a carry moves on to the next exponent by itself.
    let base = ((exponent + 14) as u16) << 10;
    sign | (base + steps)
}

fn half_to(half: u16) -> f32 {
    let (exponent, fraction) = (i32::from(half >> 10 & 0x1f), f64::from(half & 0x3ff));
    let magnitude = match exponent {
        0 => fraction * libm::exp2(-24.0),
        31 => {
            return if fraction > 0.0 {
                f32::NAN
            } else if half & 0x8000 > 0 {
                f32::NEG_INFINITY
            } else {
                f32::INFINITY
            };
        }
        _ => (1.0 + fraction / 1024.0) * libm::exp2(f64::from(exponent - 15)),
    };
    (if half & 0x8000 > 0 { -magnitude } else { magnitude }) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_comes_back_and_numbers_between_go_to_the_nearest() {
        for half in 0..=u16::MAX {
            let value = half_to(half);
            if !value.is_nan() {
                assert_eq!(half_from(value), half, "{value}");
            }
        }
        assert_eq!(half_to(half_from(1.0 + 0.4 / 1024.0)), 1.0);
        assert_eq!(half_to(half_from(1.0 + 0.6 / 1024.0)), 1.0 + 1.0 / 1024.0);
        assert_eq!(half_to(half_from(1e6)), f32::INFINITY);
        assert_eq!(half_to(half_from(65_519.0)), 65_504.0);
        assert_eq!(half_to(half_from(1e-9)), 0.0);
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let mut writer = Writer::new(b"TEST", 1);
        writer.f32s(&[1.0, -2.5]);
        let bytes = writer.finish();
        let open = |bytes: &[u8]| {
            let mut reader = Reader::new("test file", b"TEST", 1, bytes)?;
            let values = reader.f32s(2)?;
            reader.end().map(|()| values)
        };
        assert_eq!(open(&bytes), Ok(vec![1.0, -2.5]));
        for length in 0..bytes.len() {
            assert!(open(&bytes[..length]).is_err(), "cut to {length} bytes");
        }
        for index in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 4;
            assert!(open(&damaged).is_err(), "a bit of byte {index} turned");
        }
    }
}
