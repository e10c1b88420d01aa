//! `getty generate`: Rust code of `.proto` files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use getty_codegen::Config;

use crate::stdio;

/// Generate Rust code from .proto files: a trait for each service, and its messages
///
/// There is a file for each package, and a mod.rs with their modules. The code is meant to be committed.
/// Files that are current already are not written; the others are listed. A file that was not generated is
/// never overwritten.
///
/// The crate with the code needs getty-tokio, or another adapter, with its feature protobuf, and prost 0.14.
#[derive(Debug, Args)]
pub struct Options {
    /// The .proto files. What they import is generated too, except for Google's well-known types
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Folder of the generated code, made if there is none
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Folders that imports are relative to; each file must be in one of them. The default is the folders of
    /// the files
    #[arg(long, value_name = "DIR")]
    include: Vec<PathBuf>,

    /// The crate with the module rpc, as the code names it
    #[arg(long = "crate", value_name = "PATH", default_value = "getty_tokio")]
    crate_path: String,

    /// Lets serde write and read the messages, for services that are called in JSON too
    #[arg(long)]
    serde: bool,

    /// Writes nothing, and fails if the code is not current
    #[arg(long)]
    check: bool,
}

pub fn run(options: Options) -> anyhow::Result<()> {
    let includes = options.includes();
    let Options { files, out, crate_path, serde, check, .. } = options;
    let config = Config::new().crate_path(crate_path).serde(serde).out_dir(out);
    if check {
        return Ok(config.check(&files, &includes)?);
    }
    let written = config.compile(&files, &includes)?;
    let lines: String = written.iter().map(|path| format!("wrote {}\n", path.display())).collect();
    Ok(stdio::print(&lines)?)
}

impl Options {
    fn includes(&self) -> Vec<PathBuf> {
        if !self.include.is_empty() {
            return self.include.clone();
        }
        // Sorted: a folder comes before those in it, so that a file has one name.
        let folders: BTreeSet<&Path> = self.files.iter().filter_map(|file| file.parent()).collect();
        folders.into_iter().map(Path::to_path_buf).collect()
    }
}
