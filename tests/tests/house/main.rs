//! Rules that no compiler checks: which room may import which, and how comments read.

mod arrows;
mod comments;
mod paths;

use std::path::{Path, PathBuf};

/// A file or folder of the repository.
fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
