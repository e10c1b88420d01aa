//! Health: which services of a program serve, for those who route calls to it.
//!
//! It is the service `grpc.health.v1.Health`, which balancers and probes know, in JSON and, with the feature
//! `protobuf`, in Protobuf. It is off until it is added:
//!
//! ```
//! use getty_driver::rpc::health::Health;
//! use getty_driver::rpc::{Json, Services, Status};
//!
//! let health = Health::new();
//! let services = Services::new()
//!     .method("math.Adder/Add", Json, |_call, (a, b): (i64, i64)| async move { Ok::<_, Status>(a + b) })
//!     .add(health.service());
//! health.set("math.Adder", true);
//! // Before the end: those who watch send no further calls here.
//! health.end();
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_listener::Event;
use getty_core::rpc::{Json, Status};
use getty_macros::service;

use crate::rpc::builtin::{CODECS, Codecs};
use crate::rpc::streams::Sender;

/// The health of services, as `grpc.health.v1.Health` has it.
#[service(name = "grpc.health.v1.Health", codec = Json, crate = crate)]
pub trait HealthCheck {
    /// The health of one service. The empty name is that of the whole program.
    ///
    /// # Errors
    /// [`NotFound`](super::Code::NotFound): nobody has said how the service does.
    #[rpc(name = "Check", idempotent)]
    async fn check(&self, request: CheckRequest) -> Result<CheckResponse, Status>;

    /// The health of one service now, and again whenever it changes, until the program ends. For a service
    /// that is not known it is [`ServiceUnknown`](ServingStatus::ServiceUnknown), until it is.
    #[rpc(name = "Watch", idempotent)]
    async fn watch(&self, request: CheckRequest, out: &mut Sender<CheckResponse>) -> Result<(), Status>;
}

/// The service that is asked for.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "protobuf", derive(prost::Message))]
#[cfg_attr(not(feature = "protobuf"), derive(Debug, Default))]
#[serde(default)]
pub struct CheckRequest {
    /// Its name (`pkg.Service`); empty for the whole program.
    #[cfg_attr(feature = "protobuf", prost(string, tag = "1"))]
    pub service: String,
}

impl CheckRequest {
    /// Asks for `service`; empty for the whole program.
    pub fn of(service: impl Into<String>) -> Self {
        CheckRequest { service: service.into() }
    }
}

/// The health of a service.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "protobuf", derive(prost::Message))]
#[cfg_attr(not(feature = "protobuf"), derive(Debug, Default))]
#[serde(default)]
pub struct CheckResponse {
    /// A [`ServingStatus`] by its number, which is what Protobuf has. In JSON it is the name.
    #[cfg_attr(feature = "protobuf", prost(int32, tag = "1"))]
    #[serde(with = "by_name")]
    pub status: i32,
}

impl CheckResponse {
    /// Whether the service serves.
    pub fn is_serving(&self) -> bool {
        self.status == ServingStatus::Serving as i32
    }
}

impl From<ServingStatus> for CheckResponse {
    fn from(status: ServingStatus) -> Self {
        CheckResponse { status: status as i32 }
    }
}

/// What is known of the health of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServingStatus {
    /// It was not said.
    Unknown = 0,
    /// Calls are welcome.
    Serving = 1,
    /// Calls go elsewhere.
    NotServing = 2,
    /// The service is not known here.
    ServiceUnknown = 3,
}

impl ServingStatus {
    const ALL: [(ServingStatus, &'static str); 4] = [
        (ServingStatus::Unknown, "UNKNOWN"),
        (ServingStatus::Serving, "SERVING"),
        (ServingStatus::NotServing, "NOT_SERVING"),
        (ServingStatus::ServiceUnknown, "SERVICE_UNKNOWN"),
    ];
}

/// JSON has the names of Protobuf's enums, and takes numbers too.
mod by_name {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::ServingStatus;

    pub(super) fn serialize<S: Serializer>(status: &i32, serializer: S) -> Result<S::Ok, S::Error> {
        match ServingStatus::ALL.iter().find(|(known, _)| *known as i32 == *status) {
            Some((_, name)) => serializer.serialize_str(name),
            None => serializer.serialize_i32(*status),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(i32),
            Name(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Number(number) => Ok(number),
            Either::Name(name) => match ServingStatus::ALL.iter().find(|(_, known)| *known == name) {
                Some((status, _)) => Ok(*status as i32),
                None => Err(de::Error::custom("expected the name of a serving status, such as SERVING")),
            },
        }
    }
}

/// Says how the services of a program do. Cheap to clone; all clones are of the same program.
///
/// The whole program, whose name is empty, serves from the beginning. Other names are known once they are
/// [set](Self::set).
#[derive(Clone)]
pub struct Health(Arc<Known>);

struct Known {
    services: Mutex<BTreeMap<String, bool>>,
    changed: Event,
    /// Nothing changes any longer.
    has_ended: AtomicBool,
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, bool>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self, service: &str) -> ServingStatus {
        match self.lock().get(service) {
            Some(true) => ServingStatus::Serving,
            Some(false) => ServingStatus::NotServing,
            None => ServingStatus::ServiceUnknown,
        }
    }
}

impl Health {
    /// Makes it, for a program that serves.
    pub fn new() -> Self {
        let services = Mutex::new(BTreeMap::from([(String::new(), true)]));
        Health(Arc::new(Known { services, changed: Event::new(), has_ended: AtomicBool::new(false) }))
    }

    /// Makes the service, for [`Services::add`](super::Services::add).
    pub fn service(&self) -> HealthCheckService<Self, Codecs> {
        HealthCheckService::with(self.clone(), CODECS)
    }

    /// Says whether a service (`pkg.Service`) serves. Watchers of it get that.
    pub fn set(&self, service: impl Into<String>, is_serving: bool) {
        self.0.lock().insert(service.into(), is_serving);
        self.0.changed.notify(usize::MAX);
    }

    /// Says whether the program and all services that were set serve.
    pub fn set_all(&self, is_serving: bool) {
        self.0.lock().values_mut().for_each(|known| *known = is_serving);
        self.0.changed.notify(usize::MAX);
    }

    /// Says that nothing serves any longer, and ends the calls that watch. Call it before a shutdown, which
    /// would wait for them to the end of its grace.
    pub fn end(&self) {
        self.set_all(false);
        self.0.has_ended.store(true, Ordering::Release);
        self.0.changed.notify(usize::MAX);
    }

    /// Forgets a service: it is not known any longer.
    pub fn remove(&self, service: &str) {
        self.0.lock().remove(service);
        self.0.changed.notify(usize::MAX);
    }
}

impl Default for Health {
    /// Returns [`new`](Self::new).
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.lock().iter()).finish()
    }
}

impl HealthCheck for Health {
    async fn check(&self, request: CheckRequest) -> Result<CheckResponse, Status> {
        match self.0.status(&request.service) {
            ServingStatus::ServiceUnknown => Err(Status::not_found("no service of this name is known here")),
            status => Ok(status.into()),
        }
    }

    async fn watch(&self, request: CheckRequest, out: &mut Sender<CheckResponse>) -> Result<(), Status> {
        let mut told = None;
        loop {
            // Listening begins before the look, so that no change is missed between.
            let changed = self.0.changed.listen();
            let has_ended = self.0.has_ended.load(Ordering::Acquire);
            let status = self.0.status(&request.service);
            if told.replace(status) != Some(status) {
                out.send(status.into()).await?;
            } else if has_ended {
                return Ok(());
            } else {
                changed.await;
            }
        }
    }
}
