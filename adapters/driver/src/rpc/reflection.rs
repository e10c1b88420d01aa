//! Reflection: the services and methods of a program, for people and for tools such as `getty call --list`.
//!
//! It is off until it is added, since every caller sees with it what there is to call:
//!
//! ```
//! use getty_driver::rpc::reflection::Reflection;
//! use getty_driver::rpc::{Json, Services, Status};
//!
//! let services = Services::new()
//!     .method("math.Adder/Add", Json, |_call, (a, b): (i64, i64)| async move { Ok::<_, Status>(a + b) })
//!     .add(Reflection::new().service());
//! ```

use std::collections::BTreeMap;

use getty_core::rpc::{Json, Status};
use getty_macros::service;

use crate::rpc::builtin::{CODECS, Codecs};
use crate::rpc::call::Call;
use crate::rpc::call_layer::CallShape;
use crate::rpc::method_info::MethodInfo;

/// Lists what a program serves.
#[service(name = "getty.reflection.v1.Reflection", codec = Json, crate = crate)]
pub trait Reflect {
    /// Lists all services of the connection, sorted by name, with their methods.
    #[rpc(name = "List", idempotent)]
    async fn list(&self, call: &Call) -> Result<Listing, Status>;
}

/// What a program serves.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "protobuf", derive(prost::Message))]
#[cfg_attr(not(feature = "protobuf"), derive(Debug, Default))]
#[serde(default)]
pub struct Listing {
    /// The services, sorted by name.
    #[cfg_attr(feature = "protobuf", prost(message, repeated, tag = "1"))]
    pub services: Vec<ListedService>,
}

/// A service, and its methods.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "protobuf", derive(prost::Message))]
#[cfg_attr(not(feature = "protobuf"), derive(Debug, Default))]
#[serde(default)]
pub struct ListedService {
    /// Its name, with its package: `pkg.Service`.
    #[cfg_attr(feature = "protobuf", prost(string, tag = "1"))]
    pub name: String,
    /// Its methods, sorted by name.
    #[cfg_attr(feature = "protobuf", prost(message, repeated, tag = "2"))]
    pub methods: Vec<ListedMethod>,
}

/// A method of a service.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "protobuf", derive(prost::Message))]
#[cfg_attr(not(feature = "protobuf"), derive(Debug, Default))]
#[serde(default)]
pub struct ListedMethod {
    /// Its name, without that of the service.
    #[cfg_attr(feature = "protobuf", prost(string, tag = "1"))]
    pub name: String,
    /// The name of its [`CallShape`]: `unary`, `one_way`, `server_streaming`, `client_streaming` or
    /// `bidi_streaming`.
    #[cfg_attr(feature = "protobuf", prost(string, tag = "2"))]
    pub shape: String,
    /// The names of its codecs.
    #[cfg_attr(feature = "protobuf", prost(string, repeated, tag = "3"))]
    pub codecs: Vec<String>,
    /// A second call does no harm beyond the first.
    #[cfg_attr(feature = "protobuf", prost(bool, tag = "4"))]
    pub idempotent: bool,
}

impl From<&MethodInfo> for ListedMethod {
    fn from(method: &MethodInfo) -> Self {
        let name = method.name().rsplit_once('/').map_or(&**method.name(), |(_, name)| name);
        let shape = match method.shape() {
            CallShape::Unary => "unary",
            CallShape::OneWay => "one_way",
            CallShape::ServerStreaming => "server_streaming",
            CallShape::ClientStreaming => "client_streaming",
            CallShape::BidiStreaming => "bidi_streaming",
        };
        ListedMethod {
            name: name.to_owned(),
            shape: shape.to_owned(),
            codecs: method.codecs().iter().map(ToString::to_string).collect(),
            idempotent: method.is_idempotent(),
        }
    }
}

/// Lists what is served on the same connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reflection(());

impl Reflect for Reflection {
    async fn list(&self, call: &Call) -> Result<Listing, Status> {
        let mut services: BTreeMap<&str, Vec<ListedMethod>> = BTreeMap::new();
        for method in call.served().iter() {
            let service = method.name().rsplit_once('/').map_or("", |(service, _)| service);
            services.entry(service).or_default().push(method.into());
        }
        let listed = |(name, methods): (&str, _)| ListedService { name: name.to_owned(), methods };
        Ok(Listing { services: services.into_iter().map(listed).collect() })
    }
}

impl Reflection {
    /// Makes it.
    pub fn new() -> Self {
        Reflection(())
    }

    /// Makes the service, for [`Services::add`](super::Services::add).
    pub fn service(self) -> ReflectService<Self, Codecs> {
        ReflectService::with(self, CODECS)
    }
}
