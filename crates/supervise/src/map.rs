//! A map from numbers that ascend, as ids do: a row of them, searched by halves.
//!
//! The standard library's B-tree is faster where keys come in any order, and is kilobytes of WebAssembly for each type
//! of value; this is small, and what is done to the keys is there once for all types. What comes is behind the last, and
//! moves nothing. Removing leaves a gap, and when half of the row is gaps it is drawn together, so that too moves next to
//! nothing, wherever it is.

/// Rows this short are drawn together only when they are empty; the first room is for so many.
const SHORT: usize = 16;

/// Set in a key that was removed.
const GAP: u64 = 1 << 63;

#[derive(Debug)]
pub(crate) struct Map<V> {
    keys: Keys,
    /// Beside its key, each; `None` beside a gap.
    values: Vec<Option<V>>,
}

#[derive(Debug, Default)]
struct Keys {
    row: Vec<u64>,
    /// All places before this one are gaps.
    first: usize,
    gaps: usize,
}

impl<V> Default for Map<V> {
    fn default() -> Self {
        Self { keys: Keys::default(), values: Vec::new() }
    }
}

impl<V> Map<V> {
    pub(crate) fn len(&self) -> usize {
        self.keys.row.len() - self.keys.gaps
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a value under a key that is larger than all before.
    pub(crate) fn push(&mut self, key: u64, value: V) {
        if self.values.capacity() == 0 {
            self.keys.row.reserve(SHORT);
            self.values.reserve(SHORT);
        }
        self.keys.push(key);
        self.values.push(Some(value));
    }

    pub(crate) fn remove(&mut self, key: u64) -> Option<V> {
        let at = self.keys.find(key)?;
        let value = self.values[at].take();
        if self.keys.leave(at) {
            self.values.retain(Option::is_some);
            // What held a hundred thousand need not keep their room.
            self.values.shrink_to(self.values.len() * 2);
        }
        value
    }

    pub(crate) fn get(&self, key: u64) -> Option<&V> {
        self.values[self.keys.find(key)?].as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut V> {
        self.values[self.keys.find(key)?].as_mut()
    }

    /// Removes the one with the smallest key.
    pub(crate) fn pop_first(&mut self) -> Option<V> {
        let first = *self.keys.row.get(self.keys.first)?;
        self.remove(first)
    }

    /// The keys that are not before this one.
    pub(crate) fn keys_from(&self, key: u64) -> Vec<u64> {
        self.keys.from(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        let rows = self.keys.row[self.keys.first..].iter().zip(&self.values[self.keys.first..]);
        rows.filter_map(|(key, value)| Some((*key, value.as_ref()?)))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.values[self.keys.first..].iter().flatten()
    }
}

impl Keys {
    fn push(&mut self, key: u64) {
        debug_assert!(self.row.last().is_none_or(|last| last & !GAP < key), "keys ascend");
        self.row.push(key);
    }

    /// The first place whose key is not before this one.
    fn place(&self, key: u64) -> usize {
        self.row.partition_point(|known| known & !GAP < key)
    }

    fn find(&self, key: u64) -> Option<usize> {
        let at = self.place(key);
        (self.row.get(at) == Some(&key)).then_some(at)
    }

    fn from(&self, key: u64) -> Vec<u64> {
        let mut keys = Vec::new();
        for known in &self.row[self.place(key)..] {
            if known & GAP == 0 {
                keys.push(*known);
            }
        }
        keys
    }

    /// Makes this place a gap. Whether the row was drawn together then, and what stands beside it is to be as well.
    fn leave(&mut self, at: usize) -> bool {
        self.row[at] |= GAP;
        self.gaps += 1;
        let length = self.row.len();
        if self.gaps == length || (length > SHORT && self.gaps * 2 > length) {
            self.row.retain(|key| key & GAP == 0);
            self.row.shrink_to(self.row.len() * 2);
            (self.first, self.gaps) = (0, 0);
            return true;
        }
        while self.row[self.first] & GAP != 0 {
            self.first += 1;
        }
        false
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
        let mut map = Map::default();
        let mut tree = BTreeMap::new();
        let mut last = 0u64;
        for round in 0..20_000 {
            let key = last.saturating_sub(dice(300));
            match dice(5) {
                4 => assert_eq!(map.pop_first(), tree.pop_first().map(|(_, value)| value)),
                0 | 1 => assert_eq!(map.remove(key), tree.remove(&key)),
                2 => assert_eq!(map.get_mut(key), tree.get_mut(&key)),
                _ => {
                    for _ in 0..1 + dice(3) {
                        last += 1 + dice(2);
                        map.push(last, round);
                        tree.insert(last, round);
                    }
                }
            }
            assert_eq!(map.len(), tree.len());
            assert_eq!(map.is_empty(), tree.is_empty());
            assert_eq!(map.get(key), tree.get(&key));
            assert!(map.values.len() <= SHORT.max(2 * map.len()), "more gaps than entries");
            if round % 100 == 0 {
                assert!(map.keys_from(key).iter().eq(tree.range(key..).map(|(key, _)| key)));
                assert!(map.iter().eq(tree.iter().map(|(key, value)| (*key, value))));
            }
        }
        assert!(map.values().eq(tree.values()));
    }

    #[test]
    fn it_gives_its_room_back() {
        let mut map = Map::default();
        for key in 0..10_000 {
            map.push(key, key);
        }
        for key in 0..9_999 {
            map.remove(key);
        }
        assert!(map.keys.row.capacity() < 100 && map.values.capacity() < 100);
    }

    #[test]
    fn it_is_drawn_together_when_more_than_half_of_it_is_gaps() {
        let mut map = Map::default();
        for key in 0..20 {
            map.push(key, key);
        }
        for key in 0..10 {
            map.remove(key);
            assert_eq!(map.values.len(), 20);
        }
        map.remove(10);
        assert_eq!(map.values.len(), 9);
    }

    #[test]
    fn a_short_one_is_left_alone_until_it_is_empty() {
        let mut map = Map::default();
        for key in 0..SHORT as u64 {
            map.push(key, ());
        }
        for key in 1..SHORT as u64 {
            map.remove(key);
        }
        assert_eq!(map.values.len(), SHORT);
        map.remove(0);
        assert_eq!(map.values.len(), 0);
    }
}
