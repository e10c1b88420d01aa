//! Methods in .proto files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use prost_reflect::{DescriptorPool, MethodDescriptor};
use protox::Compiler;

use super::shape::Shape;

/// Finds the method `name` (`pkg.Service/Method`) in `files`. Imports are looked for in the current folder
/// and in those of the files.
pub fn find(files: &[PathBuf], name: &str) -> anyhow::Result<MethodDescriptor> {
    let pool = read(files)?;
    let Some((service, method)) = name.split_once('/') else { bail!("{name} is not a pkg.Service/Method") };
    let Some(service) = pool.get_service_by_name(service) else {
        bail!(
            "--proto: there is no service {service}; {}",
            names(pool.services().map(|s| s.full_name().to_owned()))
        );
    };
    let found = service.methods().find(|found| found.name() == method);
    found.ok_or_else(|| {
        let names = names(service.methods().map(|method| method.name().to_owned()));
        anyhow!("--proto: {} has no method {method}; {names}", service.full_name())
    })
}

fn read(files: &[PathBuf]) -> anyhow::Result<DescriptorPool> {
    for file in files {
        fs::metadata(file).with_context(|| format!("--proto {}", file.display()))?;
    }
    let folders = files.iter().filter_map(|file| file.parent()).filter(|folder| *folder != Path::new(""));
    // The form with the place in the file is the one for people.
    let named = |error: protox::Error| anyhow!("--proto: {error:?}");
    let mut compiler = Compiler::new([Path::new(".")].into_iter().chain(folders)).map_err(named)?;
    compiler.open_files(files).map_err(named)?;
    Ok(compiler.descriptor_pool())
}

fn names(names: impl Iterator<Item = String>) -> String {
    match names.collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => "there is none".to_owned(),
        names => format!("there is {names}"),
    }
}

/// The shape of a method.
pub fn shape(method: &MethodDescriptor) -> Shape {
    match (method.is_client_streaming(), method.is_server_streaming()) {
        (false, false) => Shape::Unary,
        (false, true) => Shape::ServerStreaming,
        (true, false) => Shape::ClientStreaming,
        (true, true) => Shape::BidiStreaming,
    }
}
