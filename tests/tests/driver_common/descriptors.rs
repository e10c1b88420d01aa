//! The descriptors of this process, to find leaks.

use std::fs;

/// Number of descriptors other than files and folders, or `None` if the system does not show it. Threads open
/// files for a moment: this one to list the descriptors, others when their allocator counts the processors.
pub fn descriptors() -> Option<usize> {
    let descriptors = fs::read_dir("/proc/self/fd").ok()?;
    // A descriptor may be closed before it is looked at.
    let held = descriptors.filter_map(|descriptor| fs::read_link(descriptor.ok()?.path()).ok());
    Some(held.filter(|held| !held.is_absolute()).count())
}
