//! [`Source`]: the `.proto` files, read and checked.

use std::fs;
use std::path::{Path, PathBuf};

use prost_types::FileDescriptorProto;
use protox::Compiler;

use crate::enums;
use crate::error::Error;

/// The files to generate code of, and all that they import.
pub(crate) struct Source {
    pub(crate) files: Vec<FileDescriptorProto>,
    /// Where they were read. Google's own are not on the disk.
    pub(crate) paths: Vec<PathBuf>,
}

impl Source {
    /// Reads them. The order of `files` does not matter.
    pub(crate) fn read(files: &[impl AsRef<Path>], includes: &[impl AsRef<Path>]) -> Result<Self, Error> {
        let mut files: Vec<&Path> = files.iter().map(AsRef::as_ref).collect();
        files.sort_unstable();
        for path in &files {
            // Otherwise it would be looked up among the imports.
            fs::metadata(path).map_err(|source| Error::Io {
                attempt: "read",
                path: path.to_path_buf(),
                source,
            })?;
        }
        let mut compiler = Compiler::new(includes).map_err(|error| proto(&error))?;
        compiler.include_imports(true).include_source_info(true);
        compiler.open_files(files).map_err(|error| proto(&error))?;
        let paths = compiler.files().filter_map(|file| file.path().map(Path::to_path_buf)).collect();
        let files = compiler.file_descriptor_set().file;
        files.iter().try_for_each(enums::check)?;
        Ok(Source { files, paths })
    }
}

/// Only the debug output of protox has the place.
fn proto(error: &protox::Error) -> Error {
    let text = format!("{error:?}");
    Error::Proto(text.split_whitespace().collect::<Vec<_>>().join(" "))
}
