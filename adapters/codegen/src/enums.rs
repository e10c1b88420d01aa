//! Enums whose values would have the same name in Rust, at which prost panics.

use std::collections::{HashMap, HashSet};

use heck::ToUpperCamelCase;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto};

use crate::error::Error;

/// Checks all enums of a file.
pub(crate) fn check(file: &FileDescriptorProto) -> Result<(), Error> {
    let of_messages = file.message_type.iter().flat_map(enums);
    match file.enum_type.iter().chain(of_messages).find_map(twins) {
        Some(text) => Err(Error::Proto(format!("{}: {text}", file.name()))),
        None => Ok(()),
    }
}

fn enums(message: &DescriptorProto) -> Vec<&EnumDescriptorProto> {
    message.enum_type.iter().chain(message.nested_type.iter().flat_map(enums)).collect()
}

/// Says which two values have the same name, if there are such. prost drops the name of the enum before it.
fn twins(declared: &EnumDescriptorProto) -> Option<String> {
    let prefix = declared.name().to_upper_camel_case();
    let (mut numbers, mut names) = (HashSet::new(), HashMap::new());
    // A second value of one number is an alias, which is left out.
    for value in declared.value.iter().filter(|value| numbers.insert(value.number())) {
        let full = value.name().to_upper_camel_case();
        let short = full.strip_prefix(&prefix).filter(|rest| rest.starts_with(char::is_uppercase));
        let name = short.unwrap_or(&full).to_owned();
        if let Some(first) = names.insert(name.clone(), value.name()) {
            let (name_of_enum, second) = (declared.name(), value.name());
            return Some(format!("{first} and {second} of the enum {name_of_enum} are both {name} in Rust"));
        }
    }
    None
}
