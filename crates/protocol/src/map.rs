//! Values by name, in the order of the names: fields, metrics, metadata.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Index;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A small map from names: a sorted row, searched by halves.
///
/// Maps are most of what the protocol's types are made of, and a general one is compiled again for each type of value,
/// which a page pays for: the standard library's with its balancing, others with their sorting. This one sorts names
/// alone, once for all types. A name that comes twice has the value that came last, as in JSON and protobuf.
#[derive(Clone, PartialEq, Eq)]
pub struct Map<T>(Vec<(String, T)>);

impl<T> Map<T> {
    pub const fn new() -> Map<T> {
        Map(Vec::new())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, name: &str) -> Option<&T> {
        self.place(name).ok().map(|place| &self.0[place].1)
    }

    pub fn contains_key(&self, name: &str) -> bool {
        self.place(name).is_ok()
    }

    /// Gives back what stood under this name. Moves all that comes after it: many are better collected.
    pub fn insert(&mut self, name: String, value: T) -> Option<T> {
        match self.place(&name) {
            Ok(place) => Some(std::mem::replace(&mut self.0[place].1, value)),
            Err(place) => {
                self.0.insert(place, (name, value));
                None
            }
        }
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&String, &T)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    pub fn keys(&self) -> impl ExactSizeIterator<Item = &String> {
        self.0.iter().map(|(name, _)| name)
    }

    pub fn values(&self) -> impl ExactSizeIterator<Item = &T> {
        self.0.iter().map(|(_, value)| value)
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(held, _)| held.as_str().cmp(name))
    }

    /// Entries in any order. Only their moving is compiled for each type.
    #[inline(never)]
    pub fn from_entries(mut entries: Vec<(String, T)>) -> Map<T> {
        let order = sorting(entries.len(), &|at| &entries[at].0);
        for (place, &from) in order.iter().enumerate() {
            entries.swap(place, from);
        }
        entries.truncate(order.len());
        Map(entries)
    }
}

/// For each place, in order, the one that it is to be swapped with, so that the names ascend; of a name that comes twice only
/// the last has a place. In n log n, whatever order somebody thinks of.
fn sorting<'a>(count: usize, name: &dyn Fn(usize) -> &'a str) -> Vec<usize> {
    let names: Vec<&str> = (0..count).map(name).collect();
    let mut order: Vec<usize> = (0..count).collect();
    if !names.is_sorted_by(|one, next| one < next) {
        // Of equal ones the later comes first, and is kept.
        order.sort_unstable_by(|&one, &other| names[one].cmp(names[other]).then(other.cmp(&one)));
        order.dedup_by(|later, kept| names[*later] == names[*kept]);
    }
    for place in 0..order.len() {
        let mut from = order[place];
        // What stood at an earlier place went where that one's entry came from.
        while from < place {
            from = order[from];
        }
        order[place] = from;
    }
    order
}

impl<T> Default for Map<T> {
    fn default() -> Map<T> {
        Map::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for Map<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Panics when nothing has this name.
impl<T, N: AsRef<str> + ?Sized> Index<&N> for Map<T> {
    type Output = T;

    fn index(&self, name: &N) -> &T {
        self.get(name.as_ref()).expect("whoever indexes knows that something has this name")
    }
}

impl<T> FromIterator<(String, T)> for Map<T> {
    fn from_iter<I: IntoIterator<Item = (String, T)>>(entries: I) -> Map<T> {
        Map::from_entries(entries.into_iter().collect())
    }
}

impl<T, const COUNT: usize> From<[(String, T); COUNT]> for Map<T> {
    fn from(entries: [(String, T); COUNT]) -> Map<T> {
        entries.into_iter().collect()
    }
}

impl<T> IntoIterator for Map<T> {
    type Item = (String, T);
    type IntoIter = std::vec::IntoIter<(String, T)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Map<T> {
    type Item = &'a (String, T);
    type IntoIter = std::slice::Iter<'a, (String, T)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<T: Serialize> Serialize for Map<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Map<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Map<T>, D::Error> {
        struct Entries<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Map<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Map<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = object.next_entry()? {
                    entries.push(entry);
                }
                Ok(Map::from_entries(entries))
            }
        }

        deserializer.deserialize_map(Entries(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Map;
    use crate::json::{decode, encode};

    fn map(entries: &[(&str, i32)]) -> Map<i32> {
        entries.iter().map(|&(name, value)| (name.to_owned(), value)).collect()
    }

    #[test]
    fn names_are_in_order_whatever_order_they_came_in() {
        let named = map(&[("c", 3), ("a", 1), ("b", 2)]);
        assert_eq!(named.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!((named.get("b"), named.get("d"), named["c"]), (Some(&2), None, 3));
        assert_eq!(encode(&named), br#"{"a":1,"b":2,"c":3}"#);
    }

    #[test]
    fn each_value_stays_with_its_name_in_every_order() {
        let names = ["a", "b", "c", "d", "e"];
        for order in 0..5 * 5 * 5 * 5 * 5 {
            let picks = (0..5).map(|digit| order / 5_usize.pow(digit) % 5);
            let entries: Vec<(&str, i32)> = picks.zip(0..).map(|(pick, at)| (names[pick], at)).collect();
            let sorted: BTreeMap<&str, i32> = entries.iter().copied().collect();
            let named = map(&entries);
            assert!(named.iter().map(|(name, value)| (&**name, *value)).eq(sorted), "{entries:?}");
        }
    }

    #[test]
    fn a_name_that_comes_twice_has_its_last_value() {
        assert_eq!(map(&[("a", 1), ("b", 2), ("a", 3)]), map(&[("a", 3), ("b", 2)]));
        assert_eq!(map(&[("a", 1), ("a", 2), ("a", 3)]), map(&[("a", 3)]));
        assert_eq!(decode(br#"{"b":1,"a":2,"b":3}"#), Ok(map(&[("a", 2), ("b", 3)])));
        let mut named = map(&[("a", 1)]);
        assert_eq!((named.insert("a".into(), 2), named.insert("0".into(), 3)), (Some(1), None));
        assert_eq!(named, map(&[("0", 3), ("a", 2)]));
    }
}
