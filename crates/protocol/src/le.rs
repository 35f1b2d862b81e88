//! Arrays of numbers as the little-endian bytes that they travel in, so that nothing is converted until someone asks.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Error;

/// Token ids: int32 on the wire of prompts, samples and model inputs.
pub type Tokens = LeVec<i32>;

/// A number of the wire: `i32`, `i64` or `f32`.
pub trait Number: Copy + fmt::Debug + Serialize + for<'de> Deserialize<'de> + 'static {
    /// Bytes of one.
    const SIZE: usize;
    /// What stands for a JSON `null`: NaN for a float, nothing for an integer.
    const NULL: Option<Self>;
    /// `bytes` are exactly `SIZE`.
    fn read(bytes: &[u8]) -> Self;
    /// `bytes` are exactly `SIZE`.
    fn write(self, bytes: &mut [u8]);
}

macro_rules! number {
    ($type:ty, $null:expr) => {
        impl Number for $type {
            const SIZE: usize = size_of::<$type>();
            const NULL: Option<$type> = $null;
            fn read(bytes: &[u8]) -> $type {
                <$type>::from_le_bytes(bytes.try_into().expect("SIZE bytes"))
            }
            fn write(self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_le_bytes());
            }
        }
    };
}
number!(i32, None);
number!(i64, None);
number!(f32, Some(f32::NAN));

/// Numbers of type `T` in little-endian bytes; a whole number of them. In JSON a list, where `null` is NaN.
#[derive(Clone)]
pub struct LeVec<T> {
    bytes: Vec<u8>,
    number: PhantomData<T>,
}

impl<T: Number> LeVec<T> {
    /// Refuses bytes that end in the middle of a number.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<LeVec<T>, Error> {
        match bytes.len().is_multiple_of(T::SIZE) {
            true => Ok(LeVec { bytes, number: PhantomData }),
            false => Err(cut(bytes.len(), T::SIZE)),
        }
    }

    /// How many numbers.
    pub fn len(&self) -> usize {
        self.bytes.len() / T::SIZE
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The number at `index`, or none beyond the end.
    pub fn get(&self, index: usize) -> Option<T> {
        let start = index.checked_mul(T::SIZE)?;
        self.bytes.get(start..start.checked_add(T::SIZE)?).map(T::read)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = T> + DoubleEndedIterator + '_ {
        self.bytes.chunks_exact(T::SIZE).map(T::read)
    }

    pub fn to_vec(&self) -> Vec<T> {
        self.iter().collect()
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub fn push(&mut self, number: T) {
        let end = self.bytes.len();
        self.bytes.resize(end + T::SIZE, 0);
        number.write(&mut self.bytes[end..]);
    }
}

#[cold]
#[inline(never)]
fn cut(bytes: usize, size: usize) -> Error {
    Error::field("", format!("{bytes} bytes are not a whole number of {size}-byte numbers"))
}

impl<T: Number> From<&[T]> for LeVec<T> {
    fn from(numbers: &[T]) -> LeVec<T> {
        let mut bytes = vec![0; numbers.len() * T::SIZE];
        for (place, number) in bytes.chunks_exact_mut(T::SIZE).zip(numbers) {
            number.write(place);
        }
        LeVec { bytes, number: PhantomData }
    }
}

impl<T: Number> From<Vec<T>> for LeVec<T> {
    fn from(numbers: Vec<T>) -> LeVec<T> {
        numbers.as_slice().into()
    }
}

impl<T: Number> FromIterator<T> for LeVec<T> {
    fn from_iter<I: IntoIterator<Item = T>>(numbers: I) -> LeVec<T> {
        let mut all = LeVec::default();
        numbers.into_iter().for_each(|number| all.push(number));
        all
    }
}

impl<T> Default for LeVec<T> {
    fn default() -> LeVec<T> {
        LeVec { bytes: Vec::new(), number: PhantomData }
    }
}

/// Equal bytes: a NaN equals the same NaN, and 0.0 is not −0.0.
impl<T> PartialEq for LeVec<T> {
    fn eq(&self, other: &LeVec<T>) -> bool {
        self.bytes == other.bytes
    }
}

impl<T> Eq for LeVec<T> {}

impl<T: Number> fmt::Debug for LeVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: Number> Serialize for LeVec<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de, T: Number> Deserialize<'de> for LeVec<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LeVec<T>, D::Error> {
        struct List<T>(PhantomData<T>);

        impl<'de, T: Number> Visitor<'de> for List<T> {
            type Value = LeVec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of numbers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<LeVec<T>, A::Error> {
                let mut numbers = LeVec::default();
                // A list's claimed length is never believed: it grows as its numbers are read.
                while let Some(number) = list.next_element::<Option<T>>()? {
                    numbers.push(
                        number
                            .or(T::NULL)
                            .ok_or_else(|| serde::de::Error::custom("null in a list of integers"))?,
                    );
                }
                Ok(numbers)
            }
        }

        deserializer.deserialize_seq(List(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_the_bytes_that_they_came_in() {
        let bytes = vec![1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        let tokens = Tokens::from_bytes(bytes.clone()).expect("two numbers");
        assert_eq!((tokens.to_vec(), tokens.get(1), tokens.get(2)), (vec![1, -1], Some(-1), None));
        assert_eq!(tokens.get(usize::MAX), None);
        assert_eq!(Tokens::from(&[1, -1][..]).into_bytes(), bytes);
        assert_eq!([1, -1].into_iter().collect::<Tokens>(), tokens);
    }

    #[test]
    fn half_a_number_is_refused() {
        let error = Tokens::from_bytes(vec![0; 6]).expect_err("six bytes");
        assert_eq!(error.to_string(), "6 bytes are not a whole number of 4-byte numbers");
    }

    #[test]
    fn null_in_json_is_nan_for_floats_and_refused_for_tokens() {
        let logprobs: LeVec<f32> = crate::json::decode(b"[null,-0.5,-1]").expect("floats");
        assert!(logprobs.get(0).is_some_and(f32::is_nan));
        assert_eq!((logprobs.get(1), logprobs.get(2)), (Some(-0.5), Some(-1.0)));
        assert_eq!(crate::json::encode(&logprobs), b"[null,-0.5,-1.0]");
        assert!(crate::json::decode::<Tokens>(b"[1,null]").is_err());
        assert!(crate::json::decode::<Tokens>(b"[1,3000000000]").is_err());
    }
}
