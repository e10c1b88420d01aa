//! A served RPC session, turn by turn, with a peer of bytes made by hand.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use getty_core::Session;
use getty_driver::rpc::{self, Raw, Services, Status};
use getty_driver::{Driver, now};
use testkit::rpc_bytes::{ERROR, GO_AWAY, Heard, REPLY, cancel, opening, read_preface, request};

use crate::driver_common::fake::{self, Fake};
use crate::driver_common::task::Task;
use crate::driver_common::wire::{Wire, wire};

/// Counts handlers: those that have begun, and those that have ended.
#[derive(Clone, Default)]
struct Handlers(Rc<Cell<(usize, usize)>>);

struct Guard(Handlers);

impl Handlers {
    fn begin(&self) -> Guard {
        let (begun, ended) = self.0.get();
        self.0.set((begun + 1, ended));
        Guard(self.clone())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let (begun, ended) = self.0.0.get();
        self.0.0.set((begun, ended + 1));
    }
}

/// Serves a method that never answers, and one that does. The session is open.
fn served(handlers: &Handlers) -> (Task<impl Future<Output: Sized> + use<>>, Wire) {
    let handlers = handlers.clone();
    let services = Services::new()
        .deadlines(Duration::ZERO, Duration::from_secs(10), Duration::from_secs(5))
        .method("t.T/Echo", Raw, |_, text: String| async move { Ok::<_, Status>(text) })
        .method("t.T/Wait", Raw, move |_, (): ()| {
            let guard = handlers.begin();
            async move {
                let _guard = guard;
                std::future::pending::<Result<(), Status>>().await
            }
        });
    let (io, wire) = wire();
    let session = Session::new(rpc::frames(), getty_core::Config::default().into(), now::<Fake>());
    let mut task = Task::new(Driver::<Fake, _, _, _>::new(session, io, services.listener()));
    wire.send(&opening());
    task.settle();
    let written = wire.take_written();
    read_preface(&mut &written[..]).unwrap();
    (task, wire)
}

/// The frames that were written, as kinds and ids.
fn heard(wire: &Wire) -> Vec<(u8, u32)> {
    let written = wire.take_written();
    let mut written = &written[..];
    std::iter::from_fn(|| Heard::read(&mut written).ok()).map(|heard| (heard.kind, heard.id)).collect()
}

/// modelcontextprotocol/rust-sdk#857: handlers outlive those who asked.
#[test]
fn a_handler_ends_in_the_turn_in_which_its_call_is_given_up() {
    let handlers = Handlers::default();
    let (mut task, wire) = served(&handlers);
    wire.send(&request(3, "t.T/Wait", b""));
    assert!(task.poll().is_pending());
    assert_eq!((handlers.0.get(), heard(&wire)), ((1, 0), vec![]));
    wire.send(&cancel(3));
    assert!(task.poll().is_pending());
    assert_eq!((handlers.0.get(), heard(&wire)), ((1, 1), vec![(ERROR, 3)]));
    // The same in one read: it does not begin.
    wire.send(&[request(3, "t.T/Wait", b""), cancel(3), request(5, "t.T/Echo", b"x")].concat());
    assert!(task.poll().is_pending());
    assert_eq!((handlers.0.get(), heard(&wire)), ((1, 1), vec![(ERROR, 3), (REPLY, 5)]));
}

#[test]
fn a_handler_ends_in_the_turn_in_which_its_time_is_over() {
    let handlers = Handlers::default();
    let (mut task, wire) = served(&handlers);
    wire.send(&request(3, "t.T/Wait", b""));
    task.settle();
    fake::advance(Duration::from_secs(5));
    task.settle();
    assert_eq!((handlers.0.get(), heard(&wire)), ((1, 0), vec![]), "up to a tick late");
    fake::advance(Duration::from_millis(2));
    assert!(task.is_woken() && task.poll().is_pending());
    assert_eq!((handlers.0.get(), heard(&wire)), ((1, 1), vec![(ERROR, 3)]));
}

#[test]
fn handlers_end_in_the_turn_in_which_the_connection_does() {
    for is_reset in [true, false] {
        let handlers = Handlers::default();
        let (mut task, wire) = served(&handlers);
        wire.send(&[request(3, "t.T/Wait", b""), request(5, "t.T/Wait", b"")].concat());
        task.settle();
        assert_eq!(handlers.0.get(), (2, 0));
        if is_reset {
            wire.fail(std::io::ErrorKind::ConnectionReset);
        } else {
            wire.send(&request(3, "t.T/Wait", b"")); // the id is in use: a fault of the peer
        }
        let _ = task.poll();
        assert_eq!(handlers.0.get(), (2, 2), "reset: {is_reset}");
        let expected = if is_reset { vec![] } else { vec![(GO_AWAY, 0)] };
        assert_eq!(heard(&wire), expected);
    }
}
