//! tokio-util's `Framed` as the other end, over real sockets, both ways.

mod driver_common;

use bytes::Bytes;
use driver_common::recorder::Recorder;
use driver_common::runtimes::{TestRuntime, in_time};
use driver_common::*;
use futures::{SinkExt, StreamExt};
use getty_core::Close;
use getty_core::codec::LengthDelimited;
use getty_tokio::{Client, Server, Tokio};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{Framed as TheirFramed, LengthDelimitedCodec};

/// Of all sizes, some larger than any buffer on the way.
fn items() -> Vec<Bytes> {
    let sizes = [0, 1, 16, 1023, 1024, 1025, 4096, 8192, 65_532, 65_536, 200_000, 1_000_000];
    sizes.iter().cycle().take(40).enumerate().map(|(n, &size)| Bytes::from(vec![n as u8; size])).collect()
}

#[test]
fn their_client_and_our_server() {
    Tokio::block_on(async {
        let server = Tokio::serve(Server::builder(), || Recorder::echo().0).await.unwrap();
        let stream = TcpStream::connect(server.local_addr()).await.unwrap();
        let (mut sink, mut stream) = TheirFramed::new(stream, LengthDelimitedCodec::new()).split();
        let send = async {
            for item in items() {
                sink.send(item).await.unwrap();
            }
        };
        let receive = async {
            for item in items() {
                assert_eq!(stream.next().await.unwrap().unwrap(), item);
            }
        };
        futures::join!(send, receive);
        sink.close().await.unwrap();
        assert!(stream.next().await.is_none(), "our end, after theirs");
        assert_eq!(server.shutdown(secs(10)).await.aborted, 0);
    });
}

#[test]
fn our_client_and_their_server() {
    Tokio::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(in_time::<Tokio, _>(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (mut sink, mut stream) = TheirFramed::new(stream, LengthDelimitedCodec::new()).split();
            let mut count = 0;
            while let Some(item) = stream.next().await {
                sink.send(item.unwrap().freeze()).await.unwrap();
                count += 1;
            }
            sink.close().await.unwrap();
            count
        }));
        let connection = Client::builder().tcp_connection(&address, LengthDelimited::new()).await.unwrap();
        let (handle, mut receiver) = Tokio::spawn_connection(connection);
        let send = async {
            for item in items() {
                handle.send(item).await.unwrap();
            }
        };
        let receive = async {
            for item in items() {
                assert_eq!(receiver.recv().await.unwrap().unwrap(), item);
            }
        };
        futures::join!(send, receive);
        handle.close(Close::graceful());
        assert!(handle.closed().await.is_clean());
        assert_eq!(server.await.unwrap(), 40);
    });
}
