//! [`Recorder`]: a listener that notes its callbacks.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use getty_core::datagram::Dropped;
use getty_core::{Close, CloseReason, Idle, Opened, SendError, Seq};
use getty_driver::{Context, Listener, Refuse};

use super::Messages;

/// A callback with its argument.
#[derive(Debug)]
pub enum Happening {
    Open,
    Message(Bytes),
    Cron,
    Idle(Idle),
    Writable,
    Flushed(Seq),
    SendError(SendError<Bytes>),
    Dropped,
    Eof,
    Shutdown,
}

/// The reaction of a [`Recorder`], after the test's own action.
pub enum Then {
    /// Does what listeners do by default.
    Default,
    Nothing,
    /// Refuses the session, in `on_open`.
    Refuse(&'static str),
}

type Action = dyn FnMut(&mut Context<'_, Messages>, Happening) -> Then + Send;

/// Notes its callbacks, and acts as the test wants.
pub struct Recorder {
    log: Log,
    action: Box<Action>,
    panics_in: Option<&'static str>,
}

/// The callbacks so far, in order, as text.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    pub fn count(&self, event: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|e| e.starts_with(event)).count()
    }

    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }

    pub fn note(&self, event: impl Into<String>) {
        self.0.lock().unwrap().push(event.into());
    }
}

impl Recorder {
    pub fn new(
        action: impl FnMut(&mut Context<'_, Messages>, Happening) -> Then + Send + 'static,
    ) -> (Self, Log) {
        let log = Log::default();
        (Recorder { log: log.clone(), action: Box::new(action), panics_in: None }, log)
    }

    /// Does nothing of its own.
    pub fn quiet() -> (Self, Log) {
        Self::new(|_, _| Then::Default)
    }

    /// Sends every message back, and panics if that is refused.
    pub fn echo() -> (Self, Log) {
        Self::new(|cx, happening| {
            if let Happening::Message(message) = happening {
                cx.send(message).unwrap();
            }
            Then::Default
        })
    }

    /// Writes to a log that others share.
    pub fn log_to(mut self, log: &Log) -> Self {
        self.log = log.clone();
        self
    }

    /// Panics in `callback` after noting it; `"drop"` is one too.
    pub fn panics_in(mut self, callback: &'static str) -> Self {
        self.panics_in = Some(callback);
        self
    }

    fn note(&self, callback: &'static str, told: String) {
        self.log.note(if told.is_empty() { callback.to_owned() } else { format!("{callback}: {told}") });
        if self.panics_in == Some(callback) {
            std::panic::resume_unwind(Box::new(callback)); // no message on stderr
        }
    }

    fn act(&mut self, cx: &mut Context<'_, Messages>, happening: Happening) -> Then {
        (self.action)(cx, happening)
    }
}

impl Listener<Messages> for Recorder {
    fn on_open(&mut self, cx: &mut Context<'_, Messages>, _opened: &Opened) -> Result<(), Refuse> {
        self.note("on_open", String::new());
        match self.act(cx, Happening::Open) {
            Then::Refuse(why) => Err(why.into()),
            _ => Ok(()),
        }
    }

    fn on_message(&mut self, cx: &mut Context<'_, Messages>, message: Bytes) {
        let told = if message.len() > 20 {
            format!("{} bytes", message.len())
        } else {
            message.escape_ascii().to_string()
        };
        self.note("on_message", told);
        self.act(cx, Happening::Message(message));
    }

    fn on_cron(&mut self, cx: &mut Context<'_, Messages>) {
        self.note("on_cron", String::new());
        self.act(cx, Happening::Cron);
    }

    fn on_idle(&mut self, cx: &mut Context<'_, Messages>, idle: Idle) {
        self.note("on_idle", format!("{idle:?}"));
        self.act(cx, Happening::Idle(idle));
    }

    fn on_writable(&mut self, cx: &mut Context<'_, Messages>) {
        self.note("on_writable", String::new());
        self.act(cx, Happening::Writable);
    }

    fn on_flushed(&mut self, cx: &mut Context<'_, Messages>, seq: Seq) {
        self.note("on_flushed", seq.to_string());
        self.act(cx, Happening::Flushed(seq));
    }

    fn on_send_error(&mut self, cx: &mut Context<'_, Messages>, error: SendError<Bytes>) {
        self.note("on_send_error", format!("{error:?}"));
        self.act(cx, Happening::SendError(error));
    }

    fn on_dropped(&mut self, cx: &mut Context<'_, Messages>, dropped: &Dropped) {
        self.note("on_dropped", dropped.to_string());
        self.act(cx, Happening::Dropped);
    }

    fn on_eof(&mut self, cx: &mut Context<'_, Messages>) {
        self.note("on_eof", String::new());
        if let Then::Default = self.act(cx, Happening::Eof) {
            cx.close(Close::graceful());
        }
    }

    fn on_shutdown(&mut self, cx: &mut Context<'_, Messages>) {
        self.note("on_shutdown", String::new());
        if let Then::Default = self.act(cx, Happening::Shutdown) {
            cx.close(Close::graceful().with_drain());
        }
    }

    fn on_close(&mut self, _cx: &mut Context<'_, Messages>, reason: &CloseReason) {
        self.note("on_close", reason.to_string());
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if self.panics_in == Some("drop") {
            self.note("drop", String::new());
        }
    }
}
