//! [`Error`]: why there is no generated code.

use std::io;
use std::path::PathBuf;

/// Why there is no generated code, or why it is not current.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A `.proto` file is wrong, or an import is not found. The text is one line, which begins with the file
    /// as imports name it, the line and the column, if they are known: `greet.proto:3:5: ..`.
    #[error("{0}")]
    Proto(String),

    /// A file or folder cannot be read or written.
    #[error("can't {attempt} {}", path.display())]
    Io {
        /// What was attempted: `read` or `write`.
        attempt: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },

    /// There is no folder for the code: [`Config::out_dir`](crate::Config::out_dir) was not called, and
    /// outside of a build script there is no `OUT_DIR`.
    #[error("there is no folder for the code: OUT_DIR is not set, as it is in a build script")]
    NoFolder,

    /// A file is in the way that was not generated: it begins without the line that says so.
    #[error("{} is in the way: it was not generated, and is not overwritten", .0.display())]
    InTheWay(PathBuf),

    /// A file is not what would be generated now, or is not there.
    #[error("{} is not current: generate it again", .0.display())]
    NotCurrent(PathBuf),

    /// What was generated is no Rust, which is a fault of this crate, or of prost.
    #[error("the code generated for package {package:?} is no Rust: {reason}")]
    Code {
        /// The name of the package.
        package: String,
        /// What is wrong with it.
        reason: String,
    },
}
