//! tokio-util's `Framed` at the other end, over real sockets, in both directions.

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use getty_core::codec::LengthDelimited;
use getty_core::{Close, Framed};
use getty_tokio::Tokio;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{Framed as TheirFramed, LengthDelimitedCodec};

use crate::driver_common::recorder::Recorder;
use crate::driver_common::runtimes::{Own, TestRuntime, blocking, client, in_time, serve};
use crate::driver_common::*;
use crate::on_every_runtime;

on_every_runtime!(their_client_and_our_server, our_client_and_their_server);

/// Items of many sizes, some larger than any buffer on the way.
fn items() -> Vec<Bytes> {
    let sizes = [0, 1, 16, 1023, 1024, 1025, 4096, 8192, 65_532, 65_536, 200_000, 1_000_000];
    sizes.iter().cycle().take(40).enumerate().map(|(n, &size)| Bytes::from(vec![n as u8; size])).collect()
}

/// Runs the other end, which always uses tokio, in a thread with its own runtime.
async fn theirs<T: Send + 'static>(peer: impl Future<Output = T> + Send + 'static) -> T {
    blocking(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(in_time::<Tokio, _>(peer))
    })
    .await
}

fn their_client_and_our_server<R: TestRuntime>() {
    R::block_on(async {
        let server = serve::<R>(|| Recorder::echo().0).await;
        let address = server.local_addr();
        theirs(async move {
            let stream = TcpStream::connect(address).await.unwrap();
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
            assert!(stream.next().await.is_none(), "our end follows theirs");
        })
        .await;
        assert_eq!(server.shutdown(secs(10)).await.aborted, 0);
    });
}

fn our_client_and_their_server<R: TestRuntime>() {
    R::block_on(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        listener.set_nonblocking(true).unwrap();
        let serving = theirs(async move {
            let (stream, _) = TcpListener::from_std(listener).unwrap().accept().await.unwrap();
            let (mut sink, mut stream) = TheirFramed::new(stream, LengthDelimitedCodec::new()).split();
            let mut count = 0;
            while let Some(item) = stream.next().await {
                sink.send(item.unwrap().freeze()).await.unwrap();
                count += 1;
            }
            sink.close().await.unwrap();
            count
        });
        let conversation = async {
            let connection =
                client::<R>().tcp_connection(&address, Framed::new(LengthDelimited::new())).await.unwrap();
            let (handle, mut receiver) = connection.spawn(&Own::<R>::new());
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
        };
        assert_eq!(futures::join!(serving, conversation).0, 40);
    });
}
