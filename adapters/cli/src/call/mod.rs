//! `getty call`: one call of a method.

mod exchange;
mod failure;
mod form;
mod methods;
mod proto;
mod shape;
mod terms;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use getty_driver::rpc::Status;
use prost_reflect::MethodDescriptor;

use crate::codec::SizeOptions;
use crate::diagnostics::exit;
use crate::rpc;
use crate::rpc::dial::{Connected, Destination};
use crate::runtime::{BuiltIn, RuntimeName, on_runtime};
use crate::signals::{Signal, Signals};
use crate::stdio::Output;
use crate::tls::ClientTlsOptions;
use crate::units;
use crate::url::Url;
use crate::websocket::WebSocketOptions;
use exchange::Exchange;
use form::Form;
use shape::Shape;
use terms::Terms;

/// Call a method of a getty service
///
/// Prints the answer as one line of JSON. Of a method with streams, the caller's items are lines of JSON on
/// standard input, and each item of the server is printed on a line as it comes:
///
/// getty call tcp://127.0.0.1:7000 getty.echo.v1.Echo/Unary '{"text": "hello"}'
///
/// Which streams a method has is known from the server's reflection, or else from --proto or --shape.
///
/// A failure is one line on standard error with a code, a message, and whether the call was executed: if not,
/// it can be repeated without harm. SIGINT and SIGTERM (Ctrl-C) cancel the call; the exit code is then 130 or
/// 143.
#[derive(Debug, Args)]
pub struct Options {
    /// The server: tcp://HOST:PORT, unix:///PATH, ws://HOST:PORT/PATH?QUERY, tls://HOST:PORT or
    /// wss://HOST:PORT/PATH?QUERY. IPv6 addresses go in brackets, with a zone where needed: [fe80::1%eth0]
    url: Url,

    /// The method
    #[arg(value_name = "PACKAGE.SERVICE/METHOD", value_parser = method, required_unless_present = "list")]
    method: Option<String>,

    /// The value for a method that takes one, in JSON [default: null, and with --codec proto the empty
    /// message]
    #[arg(value_name = "JSON")]
    value: Option<String>,

    /// Lists the methods of the server with their streams and codecs, if it has reflection
    #[arg(long, conflicts_with_all = ["method", "codec", "proto", "shape"])]
    list: bool,

    /// Format of the values on the wire [default: proto with --proto, else json]
    #[arg(long, value_enum)]
    codec: Option<Codec>,

    /// A .proto file with the service. May be repeated. Imports are looked for in the current folder and in
    /// those of the files
    #[arg(long, value_name = "FILE")]
    proto: Vec<PathBuf>,

    /// The streams of the method, for servers without reflection [default: those in --proto, else unary]
    #[arg(long, value_enum)]
    shape: Option<Shape>,

    /// Time limit, which begins with connecting. The server learns what is left of it [default: none]
    #[arg(long, value_name = "SECS", value_parser = units::period)]
    timeout: Option<Duration>,

    /// Metadata of the call. May be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = terms::pair)]
    metadata: Vec<(String, String)>,

    /// Runtime of the session
    #[arg(long, value_enum, default_value_t = RuntimeName::Tokio)]
    runtime: RuntimeName,

    #[command(flatten)]
    size: SizeOptions,

    #[command(flatten)]
    websocket: WebSocketOptions,

    #[command(flatten)]
    tls: ClientTlsOptions,
}

/// The format of values on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Codec {
    /// JSON
    Json,
    /// Protobuf, with the messages of --proto
    Proto,
    /// The bytes of the value, which is then not JSON
    Raw,
}

fn method(text: &str) -> Result<String, String> {
    match text.split_once('/') {
        Some((service, method)) if !service.is_empty() && !method.is_empty() && !method.contains('/') => {
            Ok(text.to_owned())
        }
        _ => Err("expected PACKAGE.SERVICE/METHOD, such as getty.echo.v1.Echo/Unary".to_owned()),
    }
}

impl Options {
    /// Checks that the options fit each other.
    pub fn check(&self) -> Result<(), String> {
        self.url.check_target()?;
        rpc::check([&self.url], self.size)?;
        if self.codec == Some(Codec::Proto) && self.proto.is_empty() {
            return Err("--codec proto needs the messages: give --proto FILE".to_owned());
        }
        self.websocket.check([&self.url])?;
        self.tls.check(&self.url)
    }

    /// Finds the method in the .proto files, if there are any.
    fn described(&self) -> anyhow::Result<Option<MethodDescriptor>> {
        match &self.method {
            Some(method) if !self.proto.is_empty() => proto::find(&self.proto, method).map(Some),
            _ => Ok(None),
        }
    }

    fn form(&self, described: Option<&MethodDescriptor>) -> Form {
        match (self.codec, described) {
            (Some(Codec::Raw), _) => Form::Raw,
            (None | Some(Codec::Proto), Some(method)) => Form::Proto(method.clone()),
            _ => Form::Json,
        }
    }

    fn destination(&self) -> anyhow::Result<Destination> {
        Ok(Destination {
            url: self.url.clone(),
            config: rpc::session(self.size).heartbeat_period(self.websocket.ping).build()?,
            limits: rpc::limits(self.size)?,
            websocket: self.websocket.clone(),
            tls: self.tls.client(&self.url)?,
        })
    }
}

pub fn run(options: Options) -> anyhow::Result<()> {
    on_runtime!(options.runtime, run_on(&options))
}

fn run_on<R: BuiltIn>(options: &Options) -> anyhow::Result<()> {
    R::block_on(1, call::<R>(options))?
}

async fn call<R: BuiltIn>(options: &Options) -> anyhow::Result<()> {
    let described = options.described()?;
    let destination = options.destination()?;
    let mut signals = Signals::new(false).context("can't listen for signals")?;
    let (mut connected, mut output) = (None, Output::new());
    let mut result = tokio::select! {
        biased;
        code = ended(&mut signals) => Err(code),
        result = attempt::<R>(options, described, &destination, &mut connected, &mut output) => Ok(result),
    };
    if let Some(connected) = connected {
        if let Ok(Err(status)) = result {
            result = Ok(Err(connected.explain(status).await));
        }
        connected.close::<R>().await;
    }
    match result {
        Err(code) => exit(code, None),
        Ok(result) => {
            output.finish().context("can't write to standard output")?;
            result.map_err(|status| anyhow!("{}: {}", options.url, failure::describe(&status)))
        }
    }
}

/// Waits for a signal to end, and returns its exit code.
async fn ended(signals: &mut Signals) -> i32 {
    loop {
        if let Signal::End(code) = signals.recv().await {
            return code;
        }
    }
}

/// Connects and calls. The connection stays in `connected`.
async fn attempt<R: BuiltIn>(
    options: &Options,
    described: Option<MethodDescriptor>,
    destination: &Destination,
    connected: &mut Option<Connected>,
    output: &mut Output,
) -> Result<(), Status> {
    let deadline = options.timeout.map(|timeout| Instant::now() + timeout);
    let terms = Terms { deadline, metadata: &options.metadata };
    let caller = &connected.insert(destination.connect::<R>(options.timeout).await?).caller;
    let Some(method) = &options.method else {
        output.send(Bytes::from(methods::describe(caller, &terms).await?)).await;
        return Ok(());
    };
    let shape = match options.shape {
        Some(shape) => shape,
        None => {
            let listed = methods::shape(caller, &terms, method).await?;
            listed.or(described.as_ref().map(proto::shape)).unwrap_or(Shape::Unary)
        }
    };
    let form = &options.form(described.as_ref());
    let exchange = Exchange { method, form, value: options.value.as_deref(), limit: options.size.limit() };
    exchange.run(caller, shape, &terms, output).await
}
