//! [`MethodInfo`]: what is known of a method without calling it.

use std::sync::Arc;

use getty_core::rpc::CodecName;

use crate::rpc::call_layer::CallShape;

/// What is known of a method without calling it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodInfo {
    name: Arc<str>,
    shape: CallShape,
    codecs: Vec<CodecName>,
    is_idempotent: bool,
}

impl MethodInfo {
    /// Describes the method `name` (`pkg.Service/Method`), which has these codecs.
    pub fn new(name: impl Into<Arc<str>>, shape: CallShape, codecs: Vec<CodecName>) -> Self {
        MethodInfo { name: name.into(), shape, codecs, is_idempotent: false }
    }

    /// Says that a second call does no harm beyond the first. By default it may.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.is_idempotent = true;
        self
    }

    /// Service and method: `pkg.Service/Method`.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The values and streams of its calls.
    pub fn shape(&self) -> CallShape {
        self.shape
    }

    /// The codecs that its calls may have.
    pub fn codecs(&self) -> &[CodecName] {
        &self.codecs
    }

    /// Whether a second call does no harm beyond the first.
    pub fn is_idempotent(&self) -> bool {
        self.is_idempotent
    }
}
