//! Reports of sessions through `tracing` and `metrics`.

#[path = "../driver_common/mod.rs"]
mod driver_common;
mod rpc;

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use driver_common::recorder::{Happening, Recorder, Then};
use driver_common::*;
use getty_core::{Config, Framed, framed};
use getty_driver::{Server, ServerLimits};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Notes events, each after the spans that contain it.
#[derive(Debug, Clone, Default)]
struct Notes {
    told: Arc<Mutex<Vec<String>>>,
    spans: Arc<Mutex<Vec<String>>>,
    entered: Arc<Mutex<Vec<u64>>>,
}

impl Notes {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Session ids differ from run to run.
        match field.name() {
            "message" => write!(self.0, " {value:?}").unwrap(),
            "id" => self.0.push_str(" id"),
            name => write!(self.0, " {name}={value:?}").unwrap(),
        }
    }
}

impl Subscriber for Notes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "getty" || metadata.target() == "application"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut words = Words(span.metadata().name().to_owned());
        span.record(&mut words);
        let mut spans = self.spans.lock().unwrap();
        spans.push(words.0);
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut words = Words(event.metadata().level().to_string());
        event.record(&mut words);
        let spans = self.spans.lock().unwrap();
        let within: String =
            self.entered.lock().unwrap().iter().map(|&id| format!("[{}] ", spans[id as usize - 1])).collect();
        self.told.lock().unwrap().push(format!("{within}{}", words.0));
    }

    fn enter(&self, span: &Id) {
        self.entered.lock().unwrap().push(span.into_u64());
    }

    fn exit(&self, _: &Id) {
        self.entered.lock().unwrap().pop();
    }
}

/// The metrics that are not zero.
fn counted(snapshotter: &Snapshotter) -> BTreeMap<String, f64> {
    let all = snapshotter.snapshot().into_vec().into_iter().map(|(key, _, _, value)| {
        let labels: String = key.key().labels().map(|l| format!("{{{}={}}}", l.key(), l.value())).collect();
        let value = match value {
            DebugValue::Counter(n) => n as f64,
            DebugValue::Gauge(n) => n.into_inner(),
            DebugValue::Histogram(_) => panic!("no histogram is expected"),
        };
        (format!("{}{labels}", key.key().name()), value)
    });
    all.filter(|(_, value)| *value != 0.0).collect()
}

fn observed(work: impl FnOnce()) -> (Vec<String>, BTreeMap<String, f64>) {
    let (notes, recorder) = (Notes::default(), DebuggingRecorder::new());
    let snapshotter = recorder.snapshotter();
    tracing::subscriber::with_default(notes.clone(), || metrics::with_local_recorder(&recorder, work));
    (notes.take(), counted(&snapshotter))
}

fn expected(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value)).collect()
}

#[test]
fn a_session_from_its_opening_to_its_end() {
    let (told, counted) = observed(|| {
        let (listener, _) = Recorder::new(|cx, happening| {
            if let Happening::Message(message) = happening {
                tracing::info!(target: "application", "a message of {}", message.len());
                cx.send(message).unwrap();
            }
            Then::Default
        });
        let (mut task, wire) = driver(Config::builder().build().unwrap(), listener);
        task.settle();
        wire.send(&frame(b"secret"));
        task.settle();
        wire.eof();
        task.finish();
    });
    assert_eq!(
        told,
        [
            "DEBUG session open id",
            "[session id] INFO a message of 6",
            "DEBUG session closed id reason=closed by the peer received_messages=1 received_bytes=10 \
             sent_messages=1 sent_bytes=10",
        ]
    );
    assert!(!told.iter().any(|line| line.contains("secret")), "payloads are never reported");
    assert_eq!(
        counted,
        expected(&[
            ("getty_received_bytes_total", 10.0),
            ("getty_received_messages_total", 1.0),
            ("getty_sent_bytes_total", 10.0),
            ("getty_sent_messages_total", 1.0),
            ("getty_sessions_closed_total{reason=eof}", 1.0),
            ("getty_sessions_opened_total", 1.0),
        ])
    );
}

#[test]
fn an_end_that_is_not_clean_is_told_louder() {
    let (told, counted) = observed(|| {
        let (mut task, wire) = driver(Config::builder().build().unwrap(), Recorder::quiet().0);
        task.settle();
        wire.send(&frame(b"cut off")[..5]);
        wire.eof();
        task.finish();
    });
    assert!(
        told[1].starts_with("INFO session closed id reason=closed by the peer: something was cut off"),
        "{told:?}"
    );
    assert_eq!(counted["getty_sessions_closed_total{reason=cut_off}"], 1.0);
}

#[test]
fn what_limits_refuse_and_what_fails_in_accepting() {
    let (told, counted) = observed(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::<getty_tokio::Tokio>::builder()
                .limits(ServerLimits::new().max_sessions(0))
                .tcp("127.0.0.1:0", framed(getty_core::codec::LengthDelimited::new), || Recorder::quiet().0)
                .await
                .unwrap();
            let mut stream = tokio::net::TcpStream::connect(server.local_addr()).await.unwrap();
            let read = tokio::io::AsyncReadExt::read(&mut stream, &mut [0]).await;
            assert!(!matches!(read, Ok(1..)));
        });
    });
    assert_eq!(told, ["DEBUG connection refused limit=\"max_sessions\""]);
    assert_eq!(counted, expected(&[("getty_connections_refused_total{limit=max_sessions}", 1.0)]));
}

#[test]
fn what_was_told_to_be_open_is_told_to_be_closed() {
    let (told, counted) = observed(|| {
        let (mut task, _wire) = driver(Config::builder().build().unwrap(), Recorder::quiet().0);
        task.settle();
        drop(task);
    });
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(!counted.contains_key("getty_sessions"), "every opened session was closed: {counted:?}");
}

#[test]
fn a_connection_counts_from_when_it_has_a_task() {
    let (_, counted) = observed(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let builder = getty_tokio::Client::builder();
            let codec = getty_core::codec::LengthDelimited::new();
            let mut connection =
                builder.tcp_connection(&address, Framed::<_, bytes::Bytes>::new(codec)).await.unwrap();
            connection.opened().await.unwrap();
            let (handle, _receiver) = connection.spawn(&getty_tokio::Spawner);
            handle.close(getty_core::Close::abort());
            handle.closed().await;
        });
    });
    assert_eq!(counted["getty_sessions_opened_total"], 1.0);
    assert!(!counted.contains_key("getty_sessions"), "{counted:?}");
}
