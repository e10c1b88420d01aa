//! [`Destination`]: where finished results are written.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;

use crate::stdio;

/// A file, or standard output for `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    StandardOutput,
    File(PathBuf),
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("expected a file, or - for standard output".to_owned()),
            "-" => Ok(Destination::StandardOutput),
            path => Ok(Destination::File(path.into())),
        }
    }
}

impl Destination {
    /// Checks before the measurement that the destination is writable. An existing file is left as it is.
    pub fn check(&self) -> anyhow::Result<()> {
        let Destination::File(path) = self else { return Ok(()) };
        let check = || match Place::find(path)? {
            // Opening a FIFO takes a reader, and closing it again would end that reader's input.
            Place::Special(_) => Ok(()),
            Place::File(path) => {
                let there = File::options().write(true).open(&path);
                if let Err(error) = there
                    && error.kind() != io::ErrorKind::NotFound
                {
                    return Err(error);
                }
                Temporary::beside(&path).map(drop)
            }
        };
        check().with_context(|| format!("can't write {}", path.display()))
    }

    /// Writes `text` all or nothing: a file keeps its old content until the new one is complete.
    pub fn write(&self, text: &str) -> anyhow::Result<()> {
        let path = match self {
            Destination::StandardOutput => {
                return stdio::print(text).context("can't write to standard output");
            }
            Destination::File(path) => path,
        };
        let write = || match Place::find(path)? {
            Place::Special(path) => {
                File::options().write(true).truncate(true).open(path)?.write_all(text.as_bytes())
            }
            Place::File(path) => Temporary::beside(&path)?.replace(&path, text),
        };
        write().with_context(|| format!("can't write {}", path.display()))
    }
}

/// The kind of thing at a path.
enum Place {
    /// A file or a free path, with links resolved.
    File(PathBuf),
    /// A device, a FIFO or a descriptor without a path. It is written to, never replaced.
    Special(PathBuf),
}

impl Place {
    fn find(path: &Path) -> io::Result<Place> {
        // The system also follows links to descriptors, which read as pipe names rather than paths.
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Ok(metadata) if !metadata.is_file() => Ok(Place::Special(path.to_owned())),
            Ok(_) => match fs::canonicalize(path) {
                // The file was removed; only the descriptor is left.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Place::Special(path.to_owned())),
                found => found.map(Place::File),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => end_of_links(path).map(Place::File),
            Err(error) => Err(error),
        }
    }
}

/// The number of links followed, the same as on Linux.
const LINKS: usize = 40;

/// The end of the links at `path` if nothing exists there; `path` itself if it is not a link.
fn end_of_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..=LINKS {
        match fs::read_link(&path) {
            Ok(link) => path = path.parent().unwrap_or(Path::new("")).join(link),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many links"))
}

/// A new file, removed on drop unless it has replaced another.
struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    /// Creates it in the same folder: only there can it replace the other file atomically.
    fn beside(path: &Path) -> io::Result<Self> {
        let mut number = 0;
        loop {
            let mut name = path.file_name().unwrap_or_default().to_owned();
            name.push(format!(".{}-{number}.tmp", std::process::id()));
            let path = path.with_file_name(name);
            match File::options().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Temporary { path, file }),
                // Left behind by a killed process with the same process id.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 100 => number += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn replace(mut self, path: &Path, text: &str) -> io::Result<()> {
        self.file.write_all(text.as_bytes())?;
        if let Ok(metadata) = fs::metadata(path) {
            self.file.set_permissions(metadata.permissions())?;
        }
        self.file.sync_all()?;
        fs::rename(&self.path, path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Already renamed if it replaced another file; then this does nothing.
        let _ = fs::remove_file(&self.path);
    }
}
