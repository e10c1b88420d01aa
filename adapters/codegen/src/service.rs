//! [`Traits`]: a trait for each service, with getty's macro on it.

use prost_build::{Method, Service, ServiceGenerator};
use prost_types::method_options::IdempotencyLevel;

/// The methods that every client has, so that none of a service can have such a name.
const OF_CLIENTS: [&str; 3] = ["new", "with", "caller"];

/// Prints the services.
pub(crate) struct Traits {
    /// The module `rpc`, as the code names it.
    rpc: String,
}

impl Traits {
    pub(crate) fn new(crate_path: &str) -> Self {
        Traits { rpc: format!("{crate_path}::rpc") }
    }
}

impl ServiceGenerator for Traits {
    fn generate(&mut self, service: Service, code: &mut String) {
        let Service { name, proto_name, package, comments, methods, options } = service;
        let wire_name = if package.is_empty() { proto_name } else { format!("{package}.{proto_name}") };
        let rpc = &self.rpc;
        comments.append_with_indent(0, code);
        if options.deprecated() {
            *code += "#[deprecated]\n";
        }
        *code += &format!("#[{rpc}::service(name = {wire_name:?}, codec = {rpc}::Protobuf)]\n");
        *code += &format!("pub trait {name} {{\n");
        for method in methods {
            method.comments.append_with_indent(1, code);
            *code += &declaration(rpc, &method);
        }
        *code += "}\n";
    }
}

/// A method, with its attributes.
fn declaration(rpc: &str, method: &Method) -> String {
    let name = match &*method.name {
        name if OF_CLIENTS.contains(&name) => format!("{name}_"),
        name => name.to_owned(),
    };
    let Method { proto_name, input_type, output_type, options, .. } = method;
    let deprecated = if options.deprecated() { "#[deprecated]\n" } else { "" };
    let mut settings = Vec::new();
    if name.trim_start_matches("r#") != proto_name {
        settings.push(format!("name = {proto_name:?}"));
    }
    // The other levels both mean that a second call does no harm.
    if options.idempotency_level() != IdempotencyLevel::IdempotencyUnknown {
        settings.push("idempotent".to_owned());
    }
    let settings =
        if settings.is_empty() { String::new() } else { format!("#[rpc({})]\n", settings.join(", ")) };
    let mut arguments = format!("&self, call: &{rpc}::Call");
    if method.client_streaming {
        arguments += &format!(", requests: &mut {rpc}::Receiver<{input_type}>");
    } else if input_type != "()" {
        arguments += &format!(", request: {input_type}");
    }
    let mut answer = output_type.as_str();
    if method.server_streaming {
        arguments += &format!(", out: &mut {rpc}::Sender<{output_type}>");
        answer = "()";
    }
    let result = format!("::core::result::Result<{answer}, {rpc}::Status>");
    format!("{deprecated}{settings}async fn {name}({arguments}) -> {result};\n")
}
