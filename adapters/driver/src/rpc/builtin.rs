//! The codecs of the built-in services: all that are compiled in.

use getty_core::rpc::Json;
#[cfg(feature = "protobuf")]
use getty_core::rpc::Protobuf;

#[cfg(feature = "protobuf")]
pub(super) type Codecs = (Json, Protobuf);
#[cfg(not(feature = "protobuf"))]
pub(super) type Codecs = Json;

#[cfg(feature = "protobuf")]
pub(super) const CODECS: Codecs = (Json, Protobuf);
#[cfg(not(feature = "protobuf"))]
pub(super) const CODECS: Codecs = Json;
