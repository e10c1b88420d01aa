//! [`Renewal`]: reloads the certificate while the server runs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use getty_driver::tls::ServerTls;

use crate::diagnostics;
use crate::explain::with_causes;
use crate::tls::ServerTlsOptions;

/// A thread that reads the files, one request after the other. A read that blocks, as on a FIFO, delays
/// nothing else.
pub struct Renewal {
    /// Holds at most one request: any number of requests during a read cause one more read.
    requests: SyncSender<()>,
    reading: Arc<AtomicBool>,
}

impl Renewal {
    /// Starts the thread, which ends with the program.
    pub fn start(server: ServerTls, options: ServerTlsOptions) -> io::Result<Self> {
        let (requests, requested) = sync_channel(1);
        let reading = Arc::<AtomicBool>::default();
        let renewal = Renewal { requests, reading: reading.clone() };
        let work = move || renew(&server, &options, &requested, &reading);
        thread::Builder::new().name("renewal".to_owned()).spawn(work)?;
        Ok(renewal)
    }

    /// Requests a read of the files, now or after the current read.
    pub fn request(&self) {
        let is_reading = self.reading.load(Ordering::Acquire);
        let _ = self.requests.try_send(());
        if is_reading {
            diagnostics::report("the certificate is still being read, and will be read again after that");
        }
    }
}

fn renew(server: &ServerTls, options: &ServerTlsOptions, requested: &Receiver<()>, reading: &AtomicBool) {
    while requested.recv().is_ok() {
        reading.store(true, Ordering::Release);
        let renewed = options.renew(server);
        reading.store(false, Ordering::Release);
        match renewed {
            Ok(()) => diagnostics::report("the certificate was reloaded"),
            Err(error) => {
                diagnostics::report(format_args!("{}: the old certificate stays", with_causes(&error)));
            }
        }
    }
}
