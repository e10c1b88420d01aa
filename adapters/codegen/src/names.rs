//! The modules of packages, and their files.

use prost_build::Module;

use crate::package::FIRST_LINE;

/// What need not be reported of generated code. `dead_code`: few programs are both client and server. The
/// lines are as long as rustfmt leaves them.
const ALLOWED: [&str; 3] = [
    "clippy::all, clippy::pedantic, rustdoc::all",
    "dead_code, deprecated, missing_docs",
    "unreachable_pub, unused_qualifications",
];

/// The name of the file of a package.
pub(crate) fn file(module: &Module) -> String {
    module.to_file_name_or("_")
}

/// The file with the modules of packages, which are sorted: modules within modules, each with its file.
pub(crate) fn modules<'a>(packages: impl Iterator<Item = &'a Module>) -> String {
    let mut text = format!("{FIRST_LINE}. Do not edit.\n\n");
    let mut open: Vec<&str> = Vec::new();
    for package in packages {
        let parts: Vec<&str> = package.parts().collect();
        while !parts.starts_with(&open) {
            open.pop();
            line(&mut text, open.len(), "}");
        }
        for part in &parts[open.len()..] {
            if open.is_empty() {
                ALLOWED.iter().for_each(|lints| line(&mut text, 0, &format!("#[allow({lints})]")));
            }
            line(&mut text, open.len(), &format!("pub mod {part} {{"));
            open.push(part);
        }
        line(&mut text, open.len(), &format!("include!({:?});", file(package)));
    }
    while open.pop().is_some() {
        line(&mut text, open.len(), "}");
    }
    text
}

fn line(text: &mut String, depth: usize, content: &str) {
    text.push_str(&"    ".repeat(depth));
    text.push_str(content);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_within_modules() {
        let packages = ["", "a", "a.b", "a.c.type", "d.e", "d.f"].map(Module::from_protobuf_package_name);
        let text = modules(packages.iter());
        let expected = r##"include!("_.rs");
#[allow(clippy::all, clippy::pedantic, rustdoc::all)]
#[allow(dead_code, deprecated, missing_docs)]
#[allow(unreachable_pub, unused_qualifications)]
pub mod a {
    include!("a.rs");
    pub mod b {
        include!("a.b.rs");
    }
    pub mod c {
        pub mod r#type {
            include!("a.c.r#type.rs");
        }
    }
}
#[allow(clippy::all, clippy::pedantic, rustdoc::all)]
#[allow(dead_code, deprecated, missing_docs)]
#[allow(unreachable_pub, unused_qualifications)]
pub mod d {
    pub mod e {
        include!("d.e.rs");
    }
    pub mod f {
        include!("d.f.rs");
    }
}
"##;
        assert_eq!(text, format!("{FIRST_LINE}. Do not edit.\n\n{expected}"));
    }
}
