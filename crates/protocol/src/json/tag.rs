//! The `type` that a body carries: always written, checked where it is read, and nothing in memory.

use std::fmt;
use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A request that is named by its `type`.
pub trait Named {
    const NAME: &'static str;
}

/// The `type` of request `T`, in the request or in the response that echoes it.
pub struct Tag<T>(PhantomData<fn() -> T>);

impl<T: Named> Serialize for Tag<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(T::NAME)
    }
}

impl<'de, T: Named> Deserialize<'de> for Tag<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tag<T>, D::Error> {
        // Null counts as left out.
        match Option::<String>::deserialize(deserializer)? {
            Some(name) if name != T::NAME => {
                Err(serde::de::Error::custom(format!("must be \"{}\", and is \"{name}\"", T::NAME)))
            }
            _ => Ok(Tag::default()),
        }
    }
}

impl<T> Default for Tag<T> {
    fn default() -> Tag<T> {
        Tag(PhantomData)
    }
}

impl<T> Clone for Tag<T> {
    fn clone(&self) -> Tag<T> {
        *self
    }
}

impl<T> Copy for Tag<T> {}

impl<T> PartialEq for Tag<T> {
    fn eq(&self, _: &Tag<T>) -> bool {
        true
    }
}

impl<T> Eq for Tag<T> {}

impl<T: Named> fmt::Debug for Tag<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::NAME)
    }
}

macro_rules! named {
    ($($body:ty = $name:literal),* $(,)?) => {
        $(impl $crate::json::tag::Named for $body {
            const NAME: &'static str = $name;
        })*
    };
}
pub(crate) use named;
