//! [`Opening`]: the opening handshake as a state machine (RFC 6455 section 4).

use std::fmt;
use std::sync::Arc;

use bytes::BytesMut;

use crate::close::CloseReason;
use crate::codec::{Sink, Source};
use crate::hidden::HiddenBytes;
use crate::http::{HeadScan, HttpError};
use crate::session::Found;
#[cfg(feature = "deflate")]
use crate::upgrade::Deflate;
use crate::upgrade::{
    self, ClientRequest, HandshakeError, OriginPolicy, Request, RespondError, Response, Upgrade, Verdict,
};

/// A server's options. All sessions of an endpoint share them.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    origin: OriginPolicy,
    protocols: Vec<String>,
    plain_requests: bool,
    #[cfg(feature = "deflate")]
    deflate: Option<Deflate>,
}

impl ServerOptions {
    /// Returns the defaults: pages of the same origin only, no sub-protocol, no compression.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the origins from which browsers may connect. The default is the server's own origin only, so that
    /// no other site can use a visitor's cookies here. Non-browser clients send no `Origin` and are always
    /// allowed.
    #[must_use]
    pub fn origin(mut self, policy: OriginPolicy) -> Self {
        self.origin = policy;
        self
    }

    /// Adds a sub-protocol that the server speaks. If there are several, the first one that the client also
    /// offers is chosen, unless the verdict names another.
    #[must_use]
    pub fn protocol(mut self, name: impl Into<String>) -> Self {
        self.protocols.push(name.into());
        self
    }

    /// Sets whether plain requests become [`Event::Request`](crate::Event::Request)s too, answered with
    /// [`Verdict::Respond`]: for a small page or a health check on the same port. By default a GET is
    /// answered with 426, another method with 405, and HTTP/1.0 with 505.
    ///
    /// They may have any [method](Request::method) except CONNECT, in HTTP/1.1 or 1.0. Requests with a body
    /// are refused. Each connection ends after its first response.
    #[must_use]
    pub fn plain_requests(mut self, on: bool) -> Self {
        self.plain_requests = on;
        self
    }

    /// Accepts compression from clients that offer it. Off by default: it costs memory and time. If secrets
    /// and data chosen by a peer share a message, the compressed size reveals something about the secrets.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn deflate(mut self, deflate: Deflate) -> Self {
        self.deflate = Some(deflate);
        self
    }
}

/// The number of interim responses (1xx) that a client skips before the final one. Servers and proxies send
/// one or two, such as 103 (Early Hints). Together with the final response they must fit the limits of one
/// head and one handshake.
const MAX_INTERIM: usize = 8;

/// The opening handshake, until it is done.
pub(super) struct Opening {
    role: Role,
    scan: HeadScan,
    max_head: usize,
    /// The response is sent without its body.
    to_head: bool,
    /// Number of interim responses that a client has skipped.
    interim: usize,
    /// Bytes of the skipped responses, which count against the limit.
    skipped: usize,
    /// Bytes to send.
    output: BytesMut,
    step: Option<Step>,
}

enum Role {
    Server { options: Arc<ServerOptions>, request: Option<Arc<Request>> },
    Client { request: ClientRequest, key: [u8; 16] },
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut opening = f.debug_struct("Opening");
        match &self.role {
            Role::Server { options, request } => {
                opening.field("options", options).field("request", request);
            }
            Role::Client { request, .. } => {
                opening.field("request", request);
            }
        }
        opening.field("output", &HiddenBytes(self.output.len())).finish_non_exhaustive()
    }
}

/// The next step of the handshake.
#[derive(Debug)]
pub(super) enum Step {
    /// The request waits for a verdict.
    Ask,
    /// The handshake is done.
    Open(Box<Upgrade>),
    /// The handshake failed. A response for the peer may wait to be written.
    Fail(Arc<HandshakeError>),
}

impl Opening {
    pub(super) fn server(options: Arc<ServerOptions>) -> Self {
        Self::new(Role::Server { options, request: None })
    }

    pub(super) fn client(request: ClientRequest, key: [u8; 16]) -> Self {
        let mut opening = Self::new(Role::Client { request: request.clone(), key });
        #[cfg(feature = "deflate")]
        let extensions = request.deflate.as_ref().map(Deflate::offer);
        #[cfg(not(feature = "deflate"))]
        let extensions: Option<String> = None;
        request.write_request(key, extensions.as_deref(), &mut opening.output);
        opening
    }

    fn new(role: Role) -> Self {
        Opening {
            role,
            scan: HeadScan::default(),
            max_head: 0,
            to_head: false,
            interim: 0,
            skipped: 0,
            output: BytesMut::new(),
            step: None,
        }
    }

    pub(super) fn set_limit(&mut self, max_head: usize) {
        self.max_head = max_head;
    }

    /// Writes the output, once.
    pub(super) fn write(&mut self, dst: &mut Sink<'_>) {
        dst.put_slice(&std::mem::take(&mut self.output));
    }

    pub(super) fn take_step(&mut self) -> Option<Step> {
        self.step.take()
    }

    pub(super) fn request(&self) -> Option<Arc<Request>> {
        match &self.role {
            Role::Server { request, .. } => request.clone(),
            Role::Client { .. } => None,
        }
    }

    /// Consumes the peer's head, if it is complete.
    #[cold]
    pub(super) fn decode<T>(&mut self, src: &mut Source<'_>) -> Result<Found<T>, Box<CloseReason>> {
        self.to_head = src.starts_with(b"HEAD ");
        let room = self.max_head - self.skipped;
        let within = &src[..src.len().min(room)];
        let found = self.scan.find(within).and_then(|end| match end {
            None if within.len() == room => Err(HttpError::HeadTooLong { limit: self.max_head }),
            end => Ok(end),
        });
        let step = match found {
            Ok(None) => return Ok(Found::Need(1)),
            Ok(Some(end)) => match self.skip_interim(&src[..end]) {
                Ok(true) => {
                    src.advance(end);
                    return Ok(Found::Control);
                }
                skipped => {
                    let step = skipped.and_then(|_| self.read_head(&src[..end]));
                    src.advance(end);
                    step
                }
            },
            Err(error) => {
                src.advance(usize::MAX);
                Err(error.into())
            }
        };
        self.step = Some(step.unwrap_or_else(|error| self.fail(error)));
        Ok(Found::Control)
    }

    /// Whether `head` is an interim response, which a client skips.
    fn skip_interim(&mut self, head: &[u8]) -> Result<bool, HandshakeError> {
        if matches!(self.role, Role::Server { .. }) || !upgrade::is_interim_response(head)? {
            return Ok(false);
        }
        self.interim += 1;
        self.skipped += head.len();
        self.scan = HeadScan::default();
        if self.interim > MAX_INTERIM {
            return Err(HandshakeError::InterimResponses { limit: MAX_INTERIM });
        }
        Ok(true)
    }

    fn read_head(&mut self, head: &[u8]) -> Result<Step, HandshakeError> {
        match &mut self.role {
            Role::Server { options, request } => {
                let asked = upgrade::parse_request(head)?;
                if asked.is_upgrade() {
                    options.origin.check(&asked)?;
                } else if !options.plain_requests {
                    return Err(asked.refuse_plain());
                }
                *request = Some(Arc::new(asked));
                Ok(Step::Ask)
            }
            Role::Client { request, key } => {
                let answer = request.check_response(*key, offers_extensions(request), head)?;
                #[cfg(feature = "deflate")]
                let deflate = match &request.deflate {
                    Some(deflate) => deflate
                        .check_answer(upgrade::extension_values(&answer.headers))?
                        .map(|params| (params, deflate.clone())),
                    None => None,
                };
                Ok(Step::Open(Box::new(Upgrade {
                    protocol: answer.protocol,
                    request: None,
                    headers: Some(answer.headers),
                    #[cfg(feature = "deflate")]
                    deflate,
                })))
            }
        }
    }

    /// Fails the handshake. A server sends a response; a client sends nothing.
    fn fail(&mut self, error: HandshakeError) -> Step {
        if matches!(self.role, Role::Server { .. }) {
            Response::refusal(&error).write(self.to_head, &mut self.output);
        }
        Step::Fail(Arc::new(error))
    }

    /// Refuses the request because the session ends before there is a verdict.
    pub(super) fn give_up(&mut self) {
        if let Ok(response) = Response::new(503) {
            response.write(self.to_head, &mut self.output);
        }
    }

    /// Carries out a verdict. Returns `None` for a deferred one.
    pub(super) fn respond(&mut self, verdict: Verdict) -> Result<Option<Step>, RespondError> {
        let Role::Server { options, request: Some(request) } = &self.role else {
            return Err(RespondError::NotAsked);
        };
        match verdict {
            Verdict::Defer => Ok(None),
            Verdict::Respond(response) => {
                response.write(self.to_head, &mut self.output);
                let status = response.status();
                Ok(Some(Step::Fail(Arc::new(HandshakeError::Refused { status }))))
            }
            Verdict::Accept(mut accept) => {
                let spoken = || options.protocols.iter().find(|&name| request.protocols().any(|p| p == name));
                if accept.chosen().is_none() {
                    if let Some(name) = spoken() {
                        accept = accept.protocol(name.clone());
                    }
                }
                #[cfg(feature = "deflate")]
                let agreed = options.deflate.as_ref().and_then(|deflate| {
                    Some((deflate, deflate.accept(upgrade::extension_values(request.headers()))?))
                });
                #[cfg(feature = "deflate")]
                let extensions = agreed.as_ref().map(|(_, (_, answer))| answer.as_str());
                #[cfg(not(feature = "deflate"))]
                let extensions = None;
                upgrade::write_accept(request, &accept, extensions, &mut self.output)?;
                Ok(Some(Step::Open(Box::new(Upgrade {
                    protocol: accept.chosen().map(str::to_owned),
                    request: Some(request.clone()),
                    headers: None,
                    #[cfg(feature = "deflate")]
                    deflate: agreed.map(|(deflate, (params, _))| (params, deflate.clone())),
                }))))
            }
        }
    }
}

#[cfg_attr(not(feature = "deflate"), expect(unused_variables, reason = "there is nothing to offer"))]
fn offers_extensions(request: &ClientRequest) -> bool {
    #[cfg(feature = "deflate")]
    return request.deflate.is_some();
    #[cfg(not(feature = "deflate"))]
    return false;
}
