//! [`Answer`]: the answer to a call, when it comes.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use getty_core::rpc::{Code, Codec, CodecError, CodecName, Decode, Reply, Status};

use crate::rpc::error::MethodError;
use crate::rpc::outgoing::Outgoing;
use crate::rpc::streams::plain;

/// The codec of the answer that a one-way call was taken, which has no content.
#[derive(Debug, Clone)]
pub struct Taken(pub(super) ());

impl Codec for Taken {
    fn name(&self) -> CodecName {
        CodecName::Raw
    }
}

impl Decode<()> for Taken {
    fn decode(&self, _: bytes::Bytes) -> Result<(), CodecError> {
        Ok(())
    }
}

/// The answer to a call, when it comes. Dropping it gives the call up: the other side drops its handler.
#[must_use = "a call whose answer is dropped is given up"]
pub struct Answer<C, A, E = Status> {
    pub(super) call: Outgoing,
    codec: C,
    result: PhantomData<fn() -> (A, E)>,
}

impl<C: Decode<A>, A, E: MethodError<C>> Answer<C, A, E> {
    pub(super) fn new(call: Outgoing, codec: C) -> Self {
        Answer { call, codec, result: PhantomData }
    }

    pub(super) fn failure(&self, status: Status) -> E::Failure {
        E::failure(status, &self.codec)
    }

    pub(super) fn decode(&self, reply: Reply) -> Result<A, Status> {
        let bytes = plain(reply.body)?;
        self.codec.decode(bytes).map_err(|error| Status::new(Code::Internal, format!("the answer: {error}")))
    }
}

// The codec is never pinned.
impl<C, A, E> Unpin for Answer<C, A, E> {}

impl<C: Decode<A>, A, E: MethodError<C>> Future for Answer<C, A, E> {
    type Output = Result<A, E::Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = self.get_mut();
        let ended = answer.call.poll_answer(cx);
        ended.map(|end| end.and_then(|reply| answer.decode(reply)).map_err(|status| answer.failure(status)))
    }
}

impl<C, A, E> fmt::Debug for Answer<C, A, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}
