//! A guide to serving and calling.

#[doc = include_str!("guide/serving.md")]
pub mod serving {}

#[doc = include_str!("guide/calling.md")]
pub mod calling {}

#[cfg(feature = "json")]
#[doc = include_str!("guide/errors.md")]
pub mod errors {}

#[cfg(feature = "json")]
#[doc = include_str!("guide/versions.md")]
pub mod versions {}

#[cfg(feature = "json")]
#[doc = include_str!("guide/from_tarpc.md")]
pub mod from_tarpc {}

#[cfg(feature = "json")]
#[doc = include_str!("guide/from_tonic.md")]
pub mod from_tonic {}
