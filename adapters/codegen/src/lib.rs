#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod config;
mod enums;
mod error;
mod folder;
mod json;
mod names;
mod package;
mod service;
mod source;

use std::path::{Path, PathBuf};

pub use config::Config;
pub use error::Error;

/// Generates the code of `files` into `OUT_DIR`, for a `build.rs`: [`Config::compile`] with the defaults.
///
/// # Errors
/// Those of [`Config::compile`].
pub fn compile(files: &[impl AsRef<Path>], includes: &[impl AsRef<Path>]) -> Result<Vec<PathBuf>, Error> {
    Config::new().compile(files, includes)
}
