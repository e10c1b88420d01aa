//! [`Solo`]: one peer, and frames made by hand.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use getty_core::rpc::{
    CallId, CodecName, Config, Event, Frame, Frames, Hello, Peer, PeerFault, Reply, Request, Side, Status,
};
use getty_core::{CloseReason, Framed, Session, Timestamp};

pub const MS: Duration = Duration::from_millis(1);
pub const SEC: Duration = Duration::from_secs(1);

/// One peer whose other end is the test. What it sends is taken at once.
pub struct Solo {
    pub peer: Peer,
    pub session: Session<Framed<Frames>>,
    pub now: Timestamp,
}

pub fn hello() -> Hello {
    Hello { max_calls: 256, window: 65_536, max_frame: 8 << 20, deflate: false, software: "by hand".into() }
}

pub fn request(size: usize) -> Request {
    Request::new("test.Echo/Echo", CodecName::Raw, Bytes::from(vec![7; size]))
}

pub fn one_way() -> Request {
    Request { one_way: true, ..request(1) }
}

pub fn more() -> Request {
    Request { more: true, ..request(1) }
}

pub fn reply() -> Result<Reply, Status> {
    Ok(Reply::default())
}

impl Solo {
    /// A peer that has heard nothing.
    pub fn new(config: Arc<Config>, side: Side) -> Self {
        let now = Timestamp::from_origin(3600 * SEC);
        let limits = getty_core::Config::builder().max_frame(16 << 20).build().unwrap();
        let session = Session::new(Framed::new(Frames::new()), limits, now);
        Solo { peer: Peer::new(config, side, now), session, now }
    }

    /// A peer that has heard the other end's limits, and has sent its own.
    pub fn with(config: Arc<Config>, side: Side) -> Self {
        let mut solo = Solo::new(config, side);
        solo.hear(Frame::Hello(hello())).unwrap();
        assert!(matches!(solo.frames()[..], [Frame::Hello(_)]));
        assert_eq!(solo.events(), [Event::Hello(hello())]);
        solo
    }

    /// The accepting side, with the default limits.
    pub fn accepting() -> Self {
        Solo::with(Arc::default(), Side::Accepting)
    }

    /// The connecting side, with the default limits.
    pub fn connecting() -> Self {
        Solo::with(Arc::default(), Side::Connecting)
    }

    pub fn hear(&mut self, frame: Frame) -> Result<(), PeerFault> {
        self.peer.handle_frame(self.now, frame)
    }

    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.peer.poll_event()).collect()
    }

    /// Sends all frames that are due.
    pub fn frames(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.frame()).collect()
    }

    /// Sends the next frame.
    pub fn frame(&mut self) -> Option<Frame> {
        let wants_write = self.peer.wants_write();
        let Some(frame) = self.peer.poll_frame(self.now) else {
            assert!(!self.peer.wants_write(), "it wants to write and has nothing");
            return None;
        };
        assert!(wants_write, "it has a frame and does not want to write");
        let accepted = self.session.send(frame.clone()).unwrap();
        self.peer.frame_sent(accepted);
        let mut outbound = self.session.outbound(self.now);
        while outbound.has_remaining() {
            outbound.advance(outbound.chunk().len());
        }
        Some(frame)
    }

    /// Lets time pass at once.
    pub fn wait(&mut self, time: Duration) -> Result<(), PeerFault> {
        self.now += time;
        self.peer.handle_timeout(self.now)
    }

    /// Lets time pass, with a look at every deadline.
    pub fn run(&mut self, time: Duration) -> Result<(), PeerFault> {
        let end = self.now + time;
        while let Some(at) = self.peer.poll_timeout().filter(|&at| at <= end) {
            assert!(at >= self.now, "a deadline that stays due");
            self.now = at;
            self.peer.handle_timeout(at)?;
            assert!(self.peer.poll_timeout().is_none_or(|next| next > at), "a deadline that stays due");
        }
        self.now = end;
        self.peer.handle_timeout(end)
    }

    /// Calls, and sends the request.
    #[track_caller]
    pub fn call(&mut self, request: Request, timeout: Option<Duration>) -> CallId {
        let id = self.peer.call(self.now, request, timeout.map(|timeout| self.now + timeout)).unwrap();
        let frames = self.frames();
        assert!(matches!(frames[..], [Frame::Request(..)]), "{frames:?}");
        id
    }

    /// Takes a request of the other end, and reports it.
    #[track_caller]
    pub fn take(&mut self, id: u32, request: Request) -> CallId {
        self.hear(Frame::Request(id, request)).unwrap();
        match self.events()[..] {
            [Event::Request(id, _)] => id,
            ref other => panic!("not one request: {other:?}"),
        }
    }

    pub fn close(&mut self) {
        let progress = self.session.stats().progress;
        self.peer.handle_closed(self.now, &CloseReason::Local { flushed: true }, &progress);
    }
}
