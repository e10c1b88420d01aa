//! [`Renewal`]: reads the certificate again while the server runs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use getty_driver::tls::ServerTls;

use crate::diagnostics;
use crate::explain::with_causes;
use crate::tls::ServerTlsOptions;

/// A thread that reads the files, one time after the other. If a read blocks, as on a FIFO, nothing else
/// waits.
pub struct Renewal {
    /// Holds one at most: however often it is asked while the files are read, they are read once more.
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

    /// Has the files read, at once or after they have been.
    pub fn request(&self) {
        let is_reading = self.reading.load(Ordering::Acquire);
        let _ = self.requests.try_send(());
        if is_reading {
            diagnostics::tell("the certificate is still being read; after that it is read again");
        }
    }
}

fn renew(server: &ServerTls, options: &ServerTlsOptions, requested: &Receiver<()>, reading: &AtomicBool) {
    while requested.recv().is_ok() {
        reading.store(true, Ordering::Release);
        let renewed = options.renew(server);
        reading.store(false, Ordering::Release);
        match renewed {
            Ok(()) => diagnostics::tell("the certificate was read again"),
            Err(error) => {
                diagnostics::tell(format_args!("{}: the old certificate stays", with_causes(&error)));
            }
        }
    }
}
