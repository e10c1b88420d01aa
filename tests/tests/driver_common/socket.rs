//! [`Socket`]: a WebSocket listener that notes its callbacks.

use std::time::Duration;

use getty_core::websocket::{Message, Request, Verdict};
use getty_core::{CloseReason, Items, Opened};
use getty_driver::{Context, Listener, Refuse};

use super::recorder::Log;

type Cx<'a, 'b> = &'a mut Context<'b, Items<Message>>;

/// Notes its callbacks, and acts as the test wants.
pub struct Socket {
    log: Log,
    on_request: Box<OnRequest>,
    on_open: Box<OnOpen>,
    on_message: Box<OnMessage>,
}

type OnRequest = dyn FnMut(Cx, &Request) -> Verdict + Send;
type OnOpen = dyn FnMut(Cx, &Opened) + Send;
type OnMessage = dyn FnMut(Cx, Message) + Send;

impl Socket {
    /// Accepts every client and does nothing else.
    pub fn new(log: &Log) -> Self {
        Socket {
            log: log.clone(),
            on_request: Box::new(|_, _| Verdict::Accept(getty_core::websocket::Accept::new())),
            on_open: Box::new(|_, _| {}),
            on_message: Box::new(|_, _| {}),
        }
    }

    /// Sends every message back.
    pub fn echo(log: &Log) -> Self {
        Self::new(log).message(|cx, message| {
            cx.send(message).unwrap();
        })
    }

    pub fn request(mut self, action: impl FnMut(Cx, &Request) -> Verdict + Send + 'static) -> Self {
        self.on_request = Box::new(action);
        self
    }

    pub fn open(mut self, action: impl FnMut(Cx, &Opened) + Send + 'static) -> Self {
        self.on_open = Box::new(action);
        self
    }

    pub fn message(mut self, action: impl FnMut(Cx, Message) + Send + 'static) -> Self {
        self.on_message = Box::new(action);
        self
    }
}

impl Listener<Items<Message>> for Socket {
    fn on_request(&mut self, cx: Cx, request: &Request) -> Verdict {
        self.log.note(format!("on_request: {}", request.target()));
        (self.on_request)(cx, request)
    }

    fn on_open(&mut self, cx: Cx, opened: &Opened) -> Result<(), Refuse> {
        self.log.note("on_open");
        (self.on_open)(cx, opened);
        Ok(())
    }

    fn on_message(&mut self, cx: Cx, message: Message) {
        match &message {
            Message::Text(text) => self.log.note(format!("on_message: {text}")),
            Message::Binary(bytes) => self.log.note(format!("on_message: {} bytes", bytes.len())),
        }
        (self.on_message)(cx, message);
    }

    fn on_pong(&mut self, _: Cx, _: Duration) {
        self.log.note("on_pong");
    }

    fn on_close(&mut self, _: Cx, reason: &CloseReason) {
        self.log.note(format!("on_close: {reason}"));
    }
}
