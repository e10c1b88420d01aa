//! The steps of a call on the serving side: its codec, its value and streams, its answer.

use std::fmt;

use getty_core::rpc::{Code, Codecs, Decode, Encode, Executed, Reply, Status};

use crate::rpc::call::Call;
use crate::rpc::dispatch::{Inbound, Response};
use crate::rpc::error::MethodError;
use crate::rpc::streams::{Receiver, Sender, encoded, plain};

/// The codec of a call, if it is one of these.
#[inline]
pub fn choose<C: Codecs>(codecs: &C, inbound: &Inbound) -> Result<C::One, Status> {
    codecs.find(inbound.codec()).ok_or_else(|| not_spoken(codecs, inbound))
}

#[cold]
fn not_spoken<C: Codecs>(codecs: &C, inbound: &Inbound) -> Status {
    let (names, wanted) = (codecs.names(), inbound.codec());
    let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
    let (codec, names) = (if names.len() == 1 { "codec" } else { "codecs" }, names.join(", "));
    let text = format!("{} is served with the {codec} {names}, not with {wanted}", inbound.method());
    Status::new(Code::Unimplemented, text).with_executed(Executed::No)
}

/// What the handler gets to see of a call, and the request value.
#[inline]
pub fn value<C: Decode<Q>, Q>(inbound: Inbound, codec: &C) -> Result<(Call, Q), Status> {
    let (call, body) = inbound.into_call();
    let bytes = plain(body).map_err(|status| status.with_executed(Executed::No))?;
    let value = codec.decode(bytes).map_err(|error| {
        Status::new(Code::InvalidArgument, format!("the request: {error}")).with_executed(Executed::No)
    })?;
    Ok((call, value))
}

/// What the handler gets to see of a call whose value is a stream.
pub fn call(inbound: Inbound) -> Call {
    inbound.into_call().0
}

/// The items that the handler sends.
pub fn sender<C: Encode<T>, T>(inbound: &mut Inbound, codec: &C) -> Sender<T> {
    let key = inbound.streams();
    Sender::new(inbound.mailbox().clone(), key, codec.clone(), inbound.items)
}

/// The items that the handler receives.
pub fn receiver<C: Decode<T>, T>(inbound: &mut Inbound, codec: &C) -> Receiver<T> {
    let key = inbound.streams();
    Receiver::new(inbound.mailbox().clone(), key, codec.clone())
}

/// The answer of a handler.
#[inline]
pub fn answer<C, A, E>(result: Result<A, E>, codec: &C) -> Response
where
    C: Encode<A>,
    E: MethodError<C>,
{
    let answer = result.map_err(|error| error.into_status(codec))?;
    Ok(Reply { body: encoded(|dst| codec.encode(&answer, dst))?.into(), ..Reply::default() })
}

/// The end of a handler that has answered with items.
pub fn ended<C, E: MethodError<C>>(result: Result<(), E>, codec: &C) -> Response {
    result.map_err(|error| error.into_status(codec))?;
    taken()
}

/// The end of a handler whose answer has no content.
pub fn taken() -> Response {
    Ok(Reply::default())
}

/// The answer to a call of a method that is not there.
#[cold]
pub fn not_served(inbound: &Inbound) -> Response {
    let text = format!("no method {} is served here", inbound.method());
    Err(Status::new(Code::Unimplemented, text).with_executed(Executed::No))
}

/// The status of a method's own error, which goes with it.
pub fn status<C: Encode<E>, E: fmt::Display>(code: Code, error: &E, codec: &C) -> Status {
    let status = Status::new(code, error.to_string());
    match encoded(|dst| codec.encode(error, dst)) {
        Ok(details) => status.with_details(details),
        // The caller has code and text at least.
        Err(_) => status,
    }
}
