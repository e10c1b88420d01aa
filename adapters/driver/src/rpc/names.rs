//! [`Names`]: the methods of a list, by name.

use crate::rpc::method_info::MethodInfo;

/// What is known of the methods of a list, sorted by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names(Vec<MethodInfo>);

impl Names {
    /// Adds a method.
    ///
    /// # Panics
    /// Panics if there is one of its name already.
    pub(crate) fn insert(&mut self, method: MethodInfo) {
        match self.0.binary_search_by(|known| known.name().cmp(method.name())) {
            Ok(_) => panic!("the method {} is in the list twice: a name can be served once", method.name()),
            Err(place) => self.0.insert(place, method),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &MethodInfo> {
        self.0.iter()
    }

    /// The method in a place.
    #[cfg(feature = "metrics")]
    pub(crate) fn at(&self, place: usize) -> &MethodInfo {
        &self.0[place]
    }

    /// The place of the method of a name in the list.
    pub(crate) fn position(&self, name: &[u8]) -> Option<usize> {
        self.0.binary_search_by(|known| known.name().as_bytes().cmp(name)).ok()
    }
}
