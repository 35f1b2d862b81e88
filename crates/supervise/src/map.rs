//! A map from keys that mostly ascend, as ids and times do: a sorted row, searched by halves.
//!
//! The standard library's B-tree is faster where keys come in any order, and is kilobytes of WebAssembly for each type
//! of value; this is small. Inserting behind the last key moves nothing. Removing leaves
//! a gap, and when half of the row is gaps it is drawn together, so that too moves next to nothing, wherever it is.

use std::borrow::Borrow;

/// Rows this short are drawn together only when they are empty.
const SHORT: usize = 16;

#[derive(Clone, Debug)]
pub(crate) struct Map<K, V> {
    /// By key; `None` is a gap.
    rows: Vec<(K, Option<V>)>,
    /// All rows before this one are gaps.
    first: usize,
    gaps: usize,
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self { rows: Vec::new(), first: 0, gaps: 0 }
    }
}

impl<K: Ord, V> Map<K, V> {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len() - self.gaps
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives back what stood under this key.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.place(&key) {
            Ok(at) => {
                let former = self.rows[at].1.replace(value);
                if former.is_none() {
                    self.gaps -= 1;
                    self.first = self.first.min(at);
                }
                former
            }
            Err(at) => {
                self.rows.insert(at, (key, Some(value)));
                self.first = self.first.min(at);
                None
            }
        }
    }

    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let at = self.place(key).ok()?;
        let value = self.rows[at].1.take()?;
        self.gaps += 1;
        if self.gaps == self.rows.len() || (self.rows.len() > SHORT && self.gaps * 2 > self.rows.len()) {
            self.draw_together();
        }
        while self.rows.get(self.first).is_some_and(|(_, value)| value.is_none()) {
            self.first += 1;
        }
        Some(value)
    }

    fn draw_together(&mut self) {
        let mut kept = 0;
        for at in 0..self.rows.len() {
            if self.rows[at].1.is_some() {
                self.rows.swap(kept, at);
                kept += 1;
            }
        }
        self.rows.truncate(kept);
        // What held a hundred thousand need not keep their room.
        self.rows.shrink_to(kept * 2);
        (self.first, self.gaps) = (0, 0);
    }

    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.rows[self.place(key).ok()?].1.as_ref()
    }

    pub(crate) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let at = self.place(key).ok()?;
        self.rows[at].1.as_mut()
    }

    pub(crate) fn first_key_value(&self) -> Option<(&K, &V)> {
        self.iter().next()
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows[self.first..].iter().filter_map(|(key, value)| Some((key, value.as_ref()?)))
    }

    /// The keys that are not before this one.
    pub(crate) fn keys_from(&self, key: &K) -> impl DoubleEndedIterator<Item = &K> {
        let (Ok(at) | Err(at)) = self.place(key);
        self.rows[at..].iter().filter(|(_, value)| value.is_some()).map(|(key, _)| key)
    }

    pub(crate) fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    pub(crate) fn into_values(self) -> impl DoubleEndedIterator<Item = V> {
        self.rows.into_iter().filter_map(|(_, value)| value)
    }

    /// Where a key is, or where it would be.
    fn place<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        match self.rows.last() {
            Some((last, _)) if last.borrow() >= key => {
                self.rows.binary_search_by(|(known, _)| known.borrow().cmp(key))
            }
            _ => Err(self.rows.len()),
        }
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
            assert_eq!(map.get(&key), tree.get(&key));
            assert_eq!(map.first_key_value(), tree.first_key_value());
            assert!(map.rows.len() <= SHORT.max(2 * map.len()), "more gaps than entries");
            if round % 100 == 0 {
                assert!(map.keys_from(&key).eq(tree.range(key..).map(|(key, _)| key)));
                assert!(map.iter().eq(tree.iter()));
            }
        }
        assert!(map.values().rev().eq(tree.values().rev()));
        assert!(map.into_values().eq(tree.into_values()));
    }

    #[test]
    fn it_gives_its_room_back() {
        let mut map = Map::new();
        for key in 0..10_000 {
            map.insert(key, key);
        }
        for key in 0..9_999 {
            map.remove(&key);
        }
        assert!(map.rows.capacity() < 100);
    }

    #[test]
    fn it_is_drawn_together_when_more_than_half_of_it_is_gaps() {
        let mut map = Map::new();
        for key in 0..20 {
            map.insert(key, key);
        }
        for key in 0..10 {
            map.remove(&key);
            assert_eq!(map.rows.len(), 20);
        }
        map.remove(&10);
        assert_eq!(map.rows.len(), 9);
    }

    #[test]
    fn a_short_one_is_left_alone_until_it_is_empty() {
        let mut map = Map::new();
        for key in 0..SHORT {
            map.insert(key, ());
        }
        for key in 1..SHORT {
            map.remove(&key);
        }
        assert_eq!(map.rows.len(), SHORT);
        map.remove(&0);
        assert_eq!(map.rows.len(), 0);
    }
}
