//! Attributes of serde, so that messages have a form in JSON.

use prost_build::Config;
use prost_types::{DescriptorProto, FileDescriptorProto};

const DERIVE: &str = "#[derive(::serde::Serialize, ::serde::Deserialize)]";

/// Has serde write and read all messages and their oneofs. Enums are numbers in messages: they need nothing.
pub(crate) fn derive(config: &mut Config, files: &[FileDescriptorProto]) {
    config.message_attribute(".", DERIVE);
    config.message_attribute(".", r#"#[serde(default, rename_all = "camelCase")]"#);
    for file in files {
        let package = Some(file.package()).filter(|name| !name.is_empty());
        let scope = package.map_or_else(String::new, |name| format!(".{name}"));
        file.message_type.iter().for_each(|message| derive_oneofs(config, &scope, message));
    }
}

fn derive_oneofs(config: &mut Config, scope: &str, message: &DescriptorProto) {
    let path = format!("{scope}.{}", message.name());
    for oneof in &message.oneof_decl {
        let oneof = format!("{path}.{}", oneof.name());
        config.type_attribute(&oneof, DERIVE);
        config.type_attribute(&oneof, r#"#[serde(rename_all = "camelCase")]"#);
    }
    message.nested_type.iter().for_each(|nested| derive_oneofs(config, &path, nested));
}
