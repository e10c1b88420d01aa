//! [`Runs`]: sizes of queued pieces, packed.

use std::collections::VecDeque;

/// `count` consecutive pieces of one kind, each of `size` bytes on the wire.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) size: usize,
    pub(crate) count: u32,
    pub(crate) kind: Kind,
}

impl Run {
    pub(crate) fn is_control(&self) -> bool {
        !matches!(self.kind, Kind::Message | Kind::Reply)
    }

    /// Removes the pieces that `written` bytes cover, and returns the number of messages among them.
    pub(crate) fn flush(&mut self, written: &mut usize, replies: &mut usize) -> u64 {
        let whole = match self.size {
            0 => self.count as usize,
            size => (self.count as usize).min(*written / size),
        };
        *written -= whole * self.size;
        self.count -= whole as u32;
        match self.kind {
            Kind::Control => return 0,
            Kind::Reply => *replies -= whole * self.size,
            Kind::Message => {}
        }
        whole as u64
    }
}

/// The kind of queued bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A message.
    #[default]
    Message,
    /// A message that replies to a received one.
    Reply,
    /// Bytes of the protocol itself: a part of a handshake, a ping.
    Control,
}

/// A queue of runs, most of them in two bytes. Queued bytes are limited but the number of messages is not, so
/// the record of a message of one byte must be small.
///
/// A single small piece is one word: its kind and size. For several pieces, or large ones, the word has only
/// the kind. The size and the count follow, 15 bits per word, lowest first.
#[derive(Debug, Default)]
pub(crate) struct Runs(VecDeque<u16>);

const KIND: u16 = 0b11;
const LONG: u16 = 1 << 2;
const SIZE_AT: u32 = 3;
const MAX_SIZE: usize = (1 << (u16::BITS - SIZE_AT)) - 1;

/// The words of a long run: the first, then a size and a count of 64 bits each.
const MAX_LONG: usize = 1 + 5 + 5;

const MORE: u16 = 1 << 15;

impl Runs {
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        if !self.0.is_empty() {
            self.0.clear();
        }
    }

    /// Whether there is room for more than `words`.
    #[inline]
    pub(crate) fn is_larger_than(&self, words: usize) -> bool {
        self.0.capacity() > words
    }

    /// Removes all runs, and frees room beyond `keep` words.
    #[inline]
    pub(crate) fn reset(&mut self, keep: usize) {
        if self.0.capacity() > 0 {
            self.0.clear();
            self.0.shrink_to(keep);
        }
    }

    #[inline]
    pub(crate) fn push_back(&mut self, run: Run) {
        match short(run) {
            Some(word) => self.0.push_back(word),
            None => self.push_back_long(run),
        }
    }

    #[cold]
    fn push_back_long(&mut self, run: Run) {
        let (words, len) = long(run);
        self.0.extend(&words[..len]);
    }

    #[inline]
    pub(crate) fn push_front(&mut self, run: Run) {
        match short(run) {
            Some(word) => self.0.push_front(word),
            None => self.push_front_long(run),
        }
    }

    #[cold]
    fn push_front_long(&mut self, run: Run) {
        let (words, len) = long(run);
        words[..len].iter().rev().for_each(|&word| self.0.push_front(word));
    }

    #[inline]
    pub(crate) fn pop_front(&mut self) -> Option<Run> {
        let first = self.0.pop_front()?;
        Some(unpack(first, || self.0.pop_front()))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Run> {
        let mut words = self.0.iter().copied();
        std::iter::from_fn(move || Some(unpack(words.next()?, || words.next())))
    }
}

impl Kind {
    #[inline]
    fn bits(self) -> u16 {
        self as u16
    }

    #[inline]
    fn of(bits: u16) -> Self {
        match bits {
            0 => Kind::Message,
            1 => Kind::Reply,
            #[cfg(feature = "websocket")]
            _ => Kind::Control,
            #[cfg(not(feature = "websocket"))]
            _ => Kind::Message,
        }
    }
}

/// The run as one word, if that is enough.
#[inline]
fn short(run: Run) -> Option<u16> {
    let is_short = run.size <= MAX_SIZE && run.count == 1;
    is_short.then(|| run.kind.bits() | (run.size as u16) << SIZE_AT)
}

fn long(run: Run) -> ([u16; MAX_LONG], usize) {
    let mut words = [0; MAX_LONG];
    words[0] = run.kind.bits() | LONG;
    let mut len = 1;
    for mut number in [run.size, run.count as usize] {
        while number >= usize::from(MORE) {
            words[len] = number as u16 | MORE;
            number >>= 15;
            len += 1;
        }
        words[len] = number as u16;
        len += 1;
    }
    (words, len)
}

#[inline]
fn unpack(first: u16, next: impl FnMut() -> Option<u16>) -> Run {
    let kind = Kind::of(first & KIND);
    if first & LONG != 0 {
        return unpack_long(kind, next);
    }
    Run { size: usize::from(first >> SIZE_AT), count: 1, kind }
}

#[cold]
fn unpack_long(kind: Kind, mut next: impl FnMut() -> Option<u16>) -> Run {
    let mut number = || {
        let (mut number, mut shift) = (0, 0);
        while let Some(word) = next() {
            number |= usize::from(word & !MORE) << shift;
            shift += 15;
            if word & MORE == 0 {
                break;
            }
        }
        number
    };
    Run { size: number(), count: number() as u32, kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn come_out_as_they_went_in() {
        let mut kinds = vec![Kind::Message, Kind::Reply];
        if cfg!(feature = "websocket") {
            kinds.push(Kind::Control);
        }
        let numbers =
            [0, 1, 2, 7, 8, 8191, 8192, 32_767, 32_768, 1 << 20, 1 << 30, usize::MAX >> 1, usize::MAX];
        let mut all = Vec::new();
        for size in numbers {
            for count in numbers.into_iter().filter_map(|count| u32::try_from(count).ok()).chain([u32::MAX]) {
                all.extend(kinds.iter().map(|&kind| Run { size, count, kind }));
            }
        }
        let (mut runs, mut turned) = (Runs::default(), Runs::default());
        for run in &all {
            runs.push_back(*run);
            turned.push_front(*run);
        }
        assert!(runs.iter().eq(all.iter().copied()));
        assert!(turned.iter().eq(all.iter().rev().copied()));
        for run in all {
            assert_eq!(runs.pop_front(), Some(run));
        }
        assert!(runs.is_empty() && runs.pop_front().is_none());
    }

    #[test]
    fn take_two_bytes_for_each_small_message() {
        let mut runs = Runs::default();
        for (size, count, words) in [(0, 1, 1), (8191, 1, 1), (1, 2, 3), (8192, 1, 3)] {
            runs.clear();
            runs.push_back(Run { size, count, kind: Kind::Reply });
            assert_eq!(runs.0.len(), words, "{size}, {count} times");
        }
    }
}
