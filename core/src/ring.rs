//! [`Rings`]: linked lists of numbers, without separate allocations.

/// Several lists in one allocation. A number is in at most one list. Joining and leaving take constant time.
#[derive(Debug)]
pub(crate) struct Rings {
    /// The links before and after, for the head of each list, then for each number. A number in no list links
    /// to itself.
    links: Vec<[u32; 2]>,
    heads: u32,
    /// The number of calls so far, each of which touches at most four links: tests count what a user costs.
    #[cfg(test)]
    pub(crate) calls: std::cell::Cell<usize>,
}

const BEFORE: usize = 0;
const AFTER: usize = 1;

impl Rings {
    /// Makes `heads` empty lists.
    pub(crate) fn new(heads: u32) -> Self {
        Rings {
            links: (0..heads).map(|head| [head, head]).collect(),
            heads,
            #[cfg(test)]
            calls: Default::default(),
        }
    }

    /// Makes room for numbers below `count`.
    pub(crate) fn grow(&mut self, count: usize) {
        let known = self.links.len();
        let wanted = count + self.heads as usize;
        self.links.extend((known..wanted).map(|node| [node as u32; 2]));
    }

    #[cfg(test)]
    fn count_call(&self) {
        self.calls.set(self.calls.get() + 1);
    }

    /// Appends `item`, which is in no list, to a list.
    pub(crate) fn push(&mut self, list: u32, item: u32) {
        #[cfg(test)]
        self.count_call();
        let node = item + self.heads;
        let last = self.links[list as usize][BEFORE];
        self.links[node as usize] = [last, list];
        self.links[last as usize][AFTER] = node;
        self.links[list as usize][BEFORE] = node;
    }

    /// Removes `item` from its list, if it is in one. Returns that list if it is empty now.
    pub(crate) fn remove(&mut self, item: u32) -> Option<u32> {
        #[cfg(test)]
        self.count_call();
        let node = item + self.heads;
        let [before, after] = self.links[node as usize];
        self.links[before as usize][AFTER] = after;
        self.links[after as usize][BEFORE] = before;
        self.links[node as usize] = [node, node];
        (before == after && before < self.heads).then_some(before)
    }

    /// Moves all members of a list to another one, which is empty.
    pub(crate) fn move_all(&mut self, from: u32, to: u32) {
        #[cfg(test)]
        self.count_call();
        let [last, first] = std::mem::replace(&mut self.links[from as usize], [from, from]);
        if first != from {
            self.links[to as usize] = [last, first];
            self.links[first as usize][BEFORE] = to;
            self.links[last as usize][AFTER] = to;
        }
    }

    /// Reads the memory that removing `item` writes to.
    #[inline]
    pub(crate) fn touched(&self, item: u32) -> u32 {
        let [before, after] = self.links[(item + self.heads) as usize];
        self.links[before as usize][AFTER] ^ self.links[after as usize][BEFORE]
    }

    pub(crate) fn first(&self, list: u32) -> Option<u32> {
        #[cfg(test)]
        self.count_call();
        self.links[list as usize][AFTER].checked_sub(self.heads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(rings: &Rings, list: u32) -> Vec<u32> {
        let after = |node: u32| rings.links[node as usize][AFTER].checked_sub(rings.heads);
        std::iter::successors(rings.first(list), |&item| after(item + rings.heads)).collect()
    }

    #[test]
    fn members_come_and_go_in_order() {
        let mut rings = Rings::new(2);
        rings.grow(5);
        assert!(items(&rings, 0).is_empty());
        [3, 0, 4].into_iter().for_each(|item| rings.push(1, item));
        rings.push(0, 1);
        assert_eq!((items(&rings, 0), items(&rings, 1)), (vec![1], vec![3, 0, 4]));
        rings.remove(0);
        rings.remove(0);
        rings.remove(2);
        assert_eq!(items(&rings, 1), [3, 4]);
        rings.remove(3);
        rings.push(1, 3);
        rings.grow(9);
        rings.push(1, 8);
        assert_eq!(items(&rings, 1), [4, 3, 8]);
        assert_eq!([4, 8, 3, 3].map(|item| rings.remove(item)), [None, None, Some(1), None]);
        assert!(items(&rings, 1).is_empty());
    }

    #[test]
    fn a_whole_list_moves() {
        let mut rings = Rings::new(3);
        rings.grow(3);
        rings.move_all(0, 1);
        assert_eq!((items(&rings, 0), items(&rings, 1)), (vec![], vec![]));
        [2, 0].into_iter().for_each(|item| rings.push(0, item));
        rings.move_all(0, 1);
        rings.push(1, 1);
        assert_eq!((items(&rings, 0), items(&rings, 1)), (vec![], vec![2, 0, 1]));
        [2, 0].into_iter().for_each(|item| assert_eq!(rings.remove(item), None));
        rings.move_all(1, 0);
        assert_eq!(rings.remove(1), Some(0));
    }
}
