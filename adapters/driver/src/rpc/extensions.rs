//! [`Extensions`]: values that layers give to a call.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

type Value = dyn Any + Send + Sync;

/// Values by their type, the latest first. Each costs an allocation; a call without any costs none.
#[derive(Clone, Default)]
pub(crate) struct Extensions(Option<Arc<Entry<Value>>>);

struct Entry<V: ?Sized> {
    before: Extensions,
    value: V,
}

impl Extensions {
    pub(crate) fn set<T: Any + Send + Sync>(&mut self, value: T) {
        let before = std::mem::take(self);
        self.0 = Some(Arc::new(Entry { before, value }));
    }

    pub(crate) fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        let mut next = self;
        while let Some(entry) = &next.0 {
            if let Some(value) = entry.value.downcast_ref() {
                return Some(value);
            }
            next = &entry.before;
        }
        None
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extensions").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_value_of_a_type_is_found() {
        let mut extensions = Extensions::default();
        assert_eq!(extensions.get::<u32>(), None);
        extensions.set(1u32);
        extensions.set("text");
        let copy = extensions.clone();
        extensions.set(2u32);
        assert_eq!((extensions.get::<u32>(), extensions.get::<&str>()), (Some(&2), Some(&"text")));
        assert_eq!(copy.get::<u32>(), Some(&1), "a copy keeps what it had");
        assert_eq!(extensions.get::<u64>(), None);
    }
}
