//! [`Config`]: what to generate, and where.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use prost_build::Module;
use prost_types::FileDescriptorProto;

use crate::error::Error;
use crate::folder::Folder;
use crate::package::Package;
use crate::service::Traits;
use crate::source::Source;
use crate::{json, names};

/// What to generate, and where.
#[derive(Debug, Clone)]
pub struct Config {
    crate_path: String,
    serde: bool,
    out_dir: Option<PathBuf>,
}

impl Config {
    /// Makes it with the defaults: for `getty_tokio`, without serde, into `OUT_DIR`.
    pub fn new() -> Self {
        Config { crate_path: "getty_tokio".to_owned(), serde: false, out_dir: None }
    }

    /// The crate that has the module `rpc`, as the code names it: an adapter of getty. By default
    /// `getty_tokio`, the likeliest.
    #[must_use]
    pub fn crate_path(mut self, path: impl Into<String>) -> Self {
        self.crate_path = path.into();
        self
    }

    /// Whether serde can write and read the messages, for the codec `Json`. Off by default: the crate with
    /// the code then needs serde, and Google's well-known types do not compile.
    #[must_use]
    pub fn serde(mut self, serde: bool) -> Self {
        self.serde = serde;
        self
    }

    /// The folder of the code, made if there is none. By default it is `OUT_DIR`, which Cargo sets for build
    /// scripts.
    #[must_use]
    pub fn out_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.out_dir = Some(folder.into());
        self
    }

    /// Generates the code of `files`, and of all that they import but Google's well-known types, and writes
    /// it: a file for each package, and a `mod.rs` with their modules. Returns the files that it wrote; what
    /// is current already stays as it is. `includes` are the folders that imports are relative to; each file
    /// is in one of them.
    ///
    /// In a build script it also has Cargo run the script again when one of the files changes.
    ///
    /// # Errors
    /// A file is wrong or cannot be read, or the code cannot be written. A file that was not generated is not
    /// overwritten.
    pub fn compile(
        &self,
        files: &[impl AsRef<Path>],
        includes: &[impl AsRef<Path>],
    ) -> Result<Vec<PathBuf>, Error> {
        let source = Source::read(files, includes)?;
        if env::var_os("OUT_DIR").is_some() {
            source.paths.iter().for_each(|path| println!("cargo::rerun-if-changed={}", path.display()));
        }
        self.folder()?.write(&self.generate(source)?)
    }

    /// Checks that the code is what [`compile`](Self::compile) would write now, for tests and CI. It writes
    /// nothing. How lines end does not matter.
    ///
    /// # Errors
    /// [`Error::NotCurrent`] names the first file that is not, or is not there. Beside it, those of
    /// [`compile`](Self::compile).
    pub fn check(&self, files: &[impl AsRef<Path>], includes: &[impl AsRef<Path>]) -> Result<(), Error> {
        let source = Source::read(files, includes)?;
        self.folder()?.check(&self.generate(source)?)
    }

    fn folder(&self) -> Result<Folder, Error> {
        let folder = self.out_dir.clone().or_else(|| env::var_os("OUT_DIR").map(PathBuf::from));
        folder.map(Folder).ok_or(Error::NoFolder)
    }

    /// The contents of files by their names.
    fn generate(&self, source: Source) -> Result<BTreeMap<String, String>, Error> {
        let mut packages: BTreeMap<Module, Package> = BTreeMap::new();
        for file in &source.files {
            let module = Module::from_protobuf_package_name(file.package());
            packages.entry(module).or_insert_with(|| Package::new(file.package())).add(file.name());
        }
        let code = self.code(source.files);
        packages.retain(|module, _| code.contains_key(module));
        let mut contents = BTreeMap::new();
        for (module, package) in &packages {
            contents.insert(names::file(module), package.format(&code[module])?);
        }
        contents.insert("mod.rs".to_owned(), names::modules(packages.keys()));
        Ok(contents)
    }

    /// The code of each package that has any, not yet formatted.
    fn code(&self, files: Vec<FileDescriptorProto>) -> BTreeMap<Module, String> {
        let mut config = prost_build::Config::new();
        config.service_generator(Box::new(Traits::new(&self.crate_path)));
        if self.serde {
            json::derive(&mut config, &files);
        }
        let module = |file: &FileDescriptorProto| Module::from_protobuf_package_name(file.package());
        let requests = files.into_iter().map(|file| (module(&file), file)).collect();
        let code = config.generate(requests).expect("paths of other crates can be wrong, and none is set");
        code.into_iter().collect()
    }
}

impl Default for Config {
    /// Returns [`new`](Self::new).
    fn default() -> Self {
        Self::new()
    }
}
