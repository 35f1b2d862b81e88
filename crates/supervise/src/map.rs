//! A map from keys that mostly ascend, as ids and times do: a sorted row with a search by halves.
//!
//! The standard library's B-tree is faster where keys come in any order, and costs about eight kilobytes of
//! WebAssembly for each type of value; this costs a tenth. Inserting behind the last key and removing near either end,
//! which is what happens here, moves next to nothing.

use std::{borrow::Borrow, collections::VecDeque};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Map<K, V>(VecDeque<(K, V)>);

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<K: Ord, V> Map<K, V> {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Room for so many, and no more: for maps that rarely hold more.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(VecDeque::with_capacity(capacity))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives back what stood under this key.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.place(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let at = self.place(key).ok()?;
        let entry = self.0.remove(at);
        // What held a hundred thousand need not keep their room.
        if self.0.capacity() > 64 && self.0.len() * 4 < self.0.capacity() {
            self.0.shrink_to(self.0.len() * 2);
        }
        entry.map(|(_, value)| value)
    }

    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.place(key).ok().map(|at| &self.0[at].1)
    }

    pub(crate) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let at = self.place(key).ok()?;
        Some(&mut self.0[at].1)
    }

    pub(crate) fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.place(key).is_ok()
    }

    pub(crate) fn first_key_value(&self) -> Option<(&K, &V)> {
        self.0.front().map(|(key, value)| (key, value))
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.0.iter_mut().map(|(key, value)| (&*key, value))
    }

    pub(crate) fn keys(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    /// The keys that are not before this one.
    pub(crate) fn keys_from(&self, key: &K) -> impl DoubleEndedIterator<Item = &K> {
        let (Ok(at) | Err(at)) = self.place(key);
        self.0.range(at..).map(|(key, _)| key)
    }

    pub(crate) fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    pub(crate) fn into_values(self) -> impl DoubleEndedIterator<Item = V> {
        self.0.into_iter().map(|(_, value)| value)
    }

    /// Where a key is, or where it would be.
    fn place<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        match self.0.back() {
            Some((last, _)) if last.borrow() < key => Err(self.0.len()),
            None => Err(0),
            _ => self.0.binary_search_by(|(known, _)| known.borrow().cmp(key)),
        }
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Map<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

impl<K, V> IntoIterator for Map<K, V> {
    type Item = (K, V);
    type IntoIter = std::collections::vec_deque::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn it_is_the_map_that_a_b_tree_is() {
        let mut state = 1u64;
        let mut dice = move |n: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % n
        };
        let mut map = Map::new();
        let mut tree = BTreeMap::new();
        for round in 0..20_000 {
            let key = dice(300);
            match dice(4) {
                0 => assert_eq!(map.remove(&key), tree.remove(&key)),
                1 => assert_eq!(map.get_mut(&key), tree.get_mut(&key)),
                _ => assert_eq!(map.insert(key, round), tree.insert(key, round)),
            }
            assert_eq!(map.len(), tree.len());
            assert_eq!(map.is_empty(), tree.is_empty());
            assert_eq!(map.contains_key(&key), tree.contains_key(&key));
            assert_eq!(map.first_key_value(), tree.first_key_value());
            if round % 100 == 0 {
                assert!(map.keys_from(&key).eq(tree.range(key..).map(|(key, _)| key)));
                assert!(map.iter().eq(tree.iter()));
            }
        }
        assert!(map.keys().eq(tree.keys()) && map.values().rev().eq(tree.values().rev()));
        assert!(map.clone().into_values().eq(tree.into_values()));
        assert_eq!(map.clone().into_iter().collect::<Map<_, _>>(), map);
    }

    #[test]
    fn it_gives_its_room_back() {
        let mut map: Map<u64, u64> = (0..10_000).map(|key| (key, key)).collect();
        for key in 0..9_999 {
            map.remove(&key);
        }
        assert!(map.0.capacity() < 100);
    }
}
