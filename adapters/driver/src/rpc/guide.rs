//! A guide to serving and calling.

#[doc = include_str!("guide/serving.md")]
pub mod serving {}

#[doc = include_str!("guide/calling.md")]
pub mod calling {}
