//! The `type` that a body carries: always written, checked where it is read, and nothing in memory.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Unexpected, Visitor};
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
        deserializer.deserialize_option(Expected(T::NAME))?;
        Ok(Tag::default())
    }
}

/// Checks the text while it is read, so that the error has its place. Null counts as left out.
struct Expected(&'static str);

impl<'de> Visitor<'de> for Expected {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<(), E> {
        if name == self.0 { Ok(()) } else { Err(E::invalid_value(Unexpected::Str(name), &self)) }
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
