//! [`Destination`]: the place for the results, once they are all there.

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
    /// Checks that it can be written, before the measurement rather than after it. An existing file stays.
    pub fn check(&self) -> anyhow::Result<()> {
        let Destination::File(path) = self else { return Ok(()) };
        let check = || match Place::find(path)? {
            // Opening a FIFO takes a reader, and closing it would end that reader's input.
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

    /// Writes `text`, all of it or nothing: until this is done a file has its old content.
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
    /// A file or nothing, by its own path and not that of a link to it.
    File(PathBuf),
    /// A device, a FIFO or a descriptor of something without a path, in whose place no file is put.
    Special(PathBuf),
}

impl Place {
    fn find(path: &Path) -> io::Result<Place> {
        // The system follows links to descriptors too, which read as names of pipes and not as paths.
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Ok(metadata) if !metadata.is_file() => Ok(Place::Special(path.to_owned())),
            Ok(_) => match fs::canonicalize(path) {
                // It was removed, and only the descriptor is left.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Place::Special(path.to_owned())),
                found => found.map(Place::File),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => end_of_links(path).map(Place::File),
            Err(error) => Err(error),
        }
    }
}

/// How many links are followed, as many as Linux does.
const LINKS: usize = 40;

/// Where the links at `path` lead, if nothing is there; `path` itself if it is no link.
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

/// A new file, which is removed again unless it takes the place of another.
struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    /// In the same folder, since only there a file can take another's place at once.
    fn beside(path: &Path) -> io::Result<Self> {
        let mut number = 0;
        loop {
            let mut name = path.file_name().unwrap_or_default().to_owned();
            name.push(format!(".{}-{number}.tmp", std::process::id()));
            let path = path.with_file_name(name);
            match File::options().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Temporary { path, file }),
                // Left there by one that was killed and had the same number.
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
        // After it was renamed there is none.
        let _ = fs::remove_file(&self.path);
    }
}
