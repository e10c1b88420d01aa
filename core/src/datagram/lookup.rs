//! [`Lookup`]: finds numbers by a hash of what they stand for.

/// An open-addressed table with linear probing. A lookup usually reads one place in memory, known from the
/// hash alone, so the reads of many lookups can overlap.
#[derive(Debug, Default)]
pub(super) struct Lookup {
    /// A power of two in number, or empty.
    entries: Vec<Entry>,
    len: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: u32,
    item: u32,
}

const FREE: Entry = Entry { hash: 0, item: u32::MAX };

impl Entry {
    #[inline]
    fn is_free(self) -> bool {
        self.item == FREE.item
    }
}

impl Lookup {
    /// The number of items.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Reads the place where the search for this hash begins.
    #[inline]
    pub(super) fn touched(&self, hash: u32) -> u32 {
        self.entries.get(self.place(hash)).map_or(0, |entry| entry.hash)
    }

    /// Finds the first item with this hash that satisfies `is`.
    #[inline]
    pub(super) fn find(&self, hash: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        self.search(hash, is).map(|place| self.entries[place].item)
    }

    /// Adds an item that is not in the table yet, and is not `u32::MAX`.
    pub(super) fn insert(&mut self, hash: u32, item: u32) {
        // At most four fifths full: a missing item is noticed after about a dozen entries, two cache lines.
        if self.entries.len() * 4 < (self.len + 1) * 5 {
            self.grow();
        }
        self.put(Entry { hash, item });
        self.len += 1;
    }

    /// Removes an item, if it is there.
    pub(super) fn remove(&mut self, hash: u32, item: u32) {
        let Some(mut hole) = self.search(hash, |other| other == item) else { return };
        self.len -= 1;
        // Entries after it move up, unless that would put them before the start of their search.
        let mut place = self.next(hole);
        while !self.entries[place].is_free() {
            let moved = self.distance(self.place(self.entries[place].hash), place);
            if moved >= self.distance(hole, place) {
                self.entries[hole] = self.entries[place];
                hole = place;
            }
            place = self.next(place);
        }
        self.entries[hole] = FREE;
    }

    #[inline]
    fn search(&self, hash: u32, is: impl Fn(u32) -> bool) -> Option<usize> {
        let mut place = self.place(hash);
        loop {
            let entry = *self.entries.get(place).filter(|entry| !entry.is_free())?;
            if entry.hash == hash && is(entry.item) {
                return Some(place);
            }
            place = self.next(place);
        }
    }

    /// Puts an entry into a free place, which exists.
    fn put(&mut self, entry: Entry) {
        let mut place = self.place(entry.hash);
        while !self.entries[place].is_free() {
            place = self.next(place);
        }
        self.entries[place] = entry;
    }

    #[cold]
    fn grow(&mut self) {
        let entries = vec![FREE; (2 * self.entries.len()).max(8)];
        let before = std::mem::replace(&mut self.entries, entries);
        before.into_iter().filter(|entry| !entry.is_free()).for_each(|entry| self.put(entry));
    }

    /// The place where the search for this hash begins.
    #[inline]
    fn place(&self, hash: u32) -> usize {
        hash as usize & self.entries.len().wrapping_sub(1)
    }

    #[inline]
    fn next(&self, place: usize) -> usize {
        (place + 1) & (self.entries.len() - 1)
    }

    /// The distance from one place to another, wrapping around the end.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.entries.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Compares with a map, using hashes with many collisions.
    #[test]
    fn what_was_put_in_is_found_until_it_is_taken_out() {
        for hashes in [1, 3, 40, 1 << 20] {
            let (mut lookup, mut model, mut seed) = (Lookup::default(), HashMap::new(), 7u64);
            assert_eq!(lookup.find(0, |_| true), None);
            lookup.remove(0, 0);
            for step in 0..20_000 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let item = (seed >> 33) as u32 % 300;
                let hash = (item.wrapping_mul(0x9e37_79b9) % hashes).wrapping_sub(2);
                let there = model.contains_key(&item);
                assert_eq!(lookup.find(hash, |other| other == item), there.then_some(item));
                // Grows, shrinks, grows again.
                if there && (step / 2000 % 2 == 1 || seed >> 62 == 0) {
                    model.remove(&item);
                    lookup.remove(hash, item);
                    lookup.remove(hash, item);
                } else if !there {
                    model.insert(item, hash);
                    lookup.insert(hash, item);
                }
                assert_eq!(lookup.len(), model.len());
            }
            assert!(model.iter().all(|(&item, &hash)| lookup.find(hash, |other| other == item).is_some()));
            assert!(lookup.entries.len() <= 512, "{}", lookup.entries.len());
        }
    }
}
