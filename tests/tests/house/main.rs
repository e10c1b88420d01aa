//! Rules of the house that no compiler knows: which room may import which.

mod arrows;
mod paths;

use std::path::{Path, PathBuf};

/// A file or folder of the repository.
fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
