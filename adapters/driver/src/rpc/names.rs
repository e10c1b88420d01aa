//! [`Names`]: the names of the methods of a list.

use std::sync::Arc;

/// The names of methods, sorted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names(Vec<Arc<str>>);

impl Names {
    /// Adds a name.
    ///
    /// # Panics
    /// Panics if it is there already.
    pub(crate) fn insert(&mut self, name: Arc<str>) {
        match self.0.binary_search(&name) {
            Ok(_) => panic!("the method {name} is in the list twice: a name can be served once"),
            Err(place) => self.0.insert(place, name),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter()
    }

    /// The name in a place.
    #[cfg(feature = "metrics")]
    pub(crate) fn at(&self, place: usize) -> &Arc<str> {
        &self.0[place]
    }

    /// The place of a name in the list.
    pub(crate) fn position(&self, name: &[u8]) -> Option<usize> {
        self.0.binary_search_by(|known| known.as_bytes().cmp(name)).ok()
    }
}
