//! [`Folder`]: where the code is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::error::Error;
use crate::package::GENERATED;

/// The folder of the code.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    /// Writes the files that are not current, or none if one of them is in the way. Returns those it wrote.
    pub(crate) fn write(&self, contents: &BTreeMap<String, String>) -> Result<Vec<PathBuf>, Error> {
        let mut wanted = Vec::new();
        for (name, content) in contents {
            let path = self.0.join(name);
            match read(&path)? {
                Some(found) if found == *content => continue,
                Some(found) if !found.starts_with(GENERATED) => return Err(Error::InTheWay(path)),
                _ => wanted.push((path, content)),
            }
        }
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::Io { attempt: "write", path, source }
        };
        fs::create_dir_all(&self.0).map_err(failed(&self.0))?;
        for (path, content) in &wanted {
            fs::write(path, content).map_err(failed(path))?;
        }
        Ok(wanted.into_iter().map(|(path, _)| path).collect())
    }

    pub(crate) fn check(&self, contents: &BTreeMap<String, String>) -> Result<(), Error> {
        for (name, content) in contents {
            let path = self.0.join(name);
            if read(&path)?.as_ref() != Some(content) {
                return Err(Error::NotCurrent(path));
            }
        }
        Ok(())
    }
}

/// The text of a file, if there is one. Git may have changed the ends of its lines.
fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).replace("\r\n", "\n"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { attempt: "read", path: path.to_path_buf(), source }),
    }
}
