//! The descriptors that this process holds, which a leak would add to.

use std::fs;

/// How many there are but for files and folders, where that can be told. Threads open some of those for a
/// moment: this one to list the descriptors, others when their allocator counts the processors.
pub fn descriptors() -> Option<usize> {
    let descriptors = fs::read_dir("/proc/self/fd").ok()?;
    // A descriptor may be gone by the time it is looked at.
    let held = descriptors.filter_map(|descriptor| fs::read_link(descriptor.ok()?.path()).ok());
    Some(held.filter(|held| !held.is_absolute()).count())
}
