//! The echo servers: one thread, the libraries' defaults, and one write for the replies to several messages
//! where their public interface allows it.

use std::convert::Infallible;
use std::future::{Future, pending};

use anyhow::{Context as _, Result, ensure};
use bytes::{Bytes, BytesMut};
use fastwebsockets::{FragmentCollector, OpCode, Role, WebSocket as FastWebSocket};
use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use getty_tokio::core::codec::LengthDelimited;
use getty_tokio::core::websocket::{Message, ServerOptions, WebSocket};
use getty_tokio::{Context, Items, Listener, Server, framed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use crate::kind::Kind;

/// Size of the raw server's buffer: a read takes all that is in flight on a connection.
const BUFFER: usize = 64 << 10;

/// Serves on a free port until the process is killed. Prints the address first.
pub fn serve(kind: Kind) -> Result<Infallible> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match kind {
            Kind::RawTokio => accept(raw).await,
            Kind::TokioUtil => accept(tokio_util).await,
            Kind::Tungstenite => accept(tungstenite).await,
            Kind::Fastwebsockets => accept(fastwebsockets).await,
            Kind::SockudoWs => accept(sockudo_ws).await,
            Kind::Getty => {
                let protocol = framed(LengthDelimited::new);
                run(Server::builder().tcp("127.0.0.1:0", protocol, || Echo).await?).await
            }
            Kind::GettyWebsocket => {
                let protocol = WebSocket::serving(ServerOptions::new());
                run(Server::builder().tcp("127.0.0.1:0", protocol, || Echo).await?).await
            }
        }
    })
}

struct Echo;

impl Listener<Items<Bytes>> for Echo {
    fn on_message(&mut self, cx: &mut Context<'_, Items<Bytes>>, message: Bytes) {
        let _ = cx.send(message); // refused only if the session is closing
    }
}

impl Listener<Items<Message>> for Echo {
    fn on_message(&mut self, cx: &mut Context<'_, Items<Message>>, message: Message) {
        let _ = cx.send(message); // refused only if the session is closing
    }
}

async fn run(server: Server) -> Result<Infallible> {
    println!("{}", server.local_addr());
    pending().await
}

/// Runs `echo` in a task for each connection. Its errors are not reported here: the client misses a reply.
async fn accept<F>(echo: impl Fn(TcpStream) -> F) -> Result<Infallible>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(echo(stream));
    }
}

async fn raw(mut stream: TcpStream) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            read => stream.write_all(&buffer[..read]).await?,
        }
    }
}

async fn tokio_util(stream: TcpStream) -> Result<()> {
    echo(Framed::new(stream, LengthDelimitedCodec::new()), |message: BytesMut| Some(message.freeze())).await
}

async fn tungstenite(stream: TcpStream) -> Result<()> {
    let connection = tokio_tungstenite::accept_async(stream).await?;
    echo(connection, |message| (message.is_binary() || message.is_text()).then_some(message)).await
}

/// Sends the `reply` to each message, and flushes once the input is exhausted.
async fn echo<C, I, O, E>(mut connection: C, reply: impl Fn(I) -> Option<O>) -> Result<()>
where
    C: Stream<Item = Result<I, E>> + Sink<O, Error = E> + Unpin,
    E: std::error::Error + Send + Sync + 'static,
{
    loop {
        let message = match connection.next().now_or_never() {
            Some(message) => message,
            None => {
                connection.flush().await?;
                connection.next().await
            }
        };
        let Some(message) = message else { return Ok(()) };
        if let Some(reply) = reply(message?) {
            connection.feed(reply).await?;
        }
    }
}

/// A read that was begun must be finished before a flush, so this library writes once for each message.
async fn fastwebsockets(mut stream: TcpStream) -> Result<()> {
    upgrade(&mut stream).await?;
    let mut connection = FragmentCollector::new(FastWebSocket::after_handshake(stream, Role::Server));
    loop {
        let frame = connection.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => connection.write_frame(frame).await?,
            _ => {}
        }
    }
}

/// The loop of its README: `next` flushes before it reads more.
async fn sockudo_ws(mut stream: TcpStream) -> Result<()> {
    let upgraded = sockudo_ws::handshake::server_handshake(&mut stream).await?;
    ensure!(upgraded.leftover.is_none(), "the client did not wait for the handshake");
    let mut connection = sockudo_ws::WebSocketStream::server(stream, sockudo_ws::Config::default());
    while let Some(message) = connection.next().await {
        match message? {
            message @ (sockudo_ws::Message::Text(_) | sockudo_ws::Message::Binary(_)) => {
                connection.feed(message).await?;
            }
            sockudo_ws::Message::Close(_) => return Ok(()),
            _ => {}
        }
    }
    Ok(())
}

/// Accepts any request for a WebSocket. The library's own way to do it, over hyper, takes more memory.
async fn upgrade(stream: &mut TcpStream) -> Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        ensure!(stream.read_buf(&mut request).await? > 0, "the client has left");
    }
    let request = str::from_utf8(&request)?;
    let headers = request.lines().filter_map(|line| line.split_once(": "));
    let (_, key) = { headers }
        .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))
        .context("the request has no key")?;
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    Ok(stream.write_all(response.as_bytes()).await?)
}
