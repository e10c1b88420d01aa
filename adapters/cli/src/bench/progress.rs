//! [`Progress`]: the progress of a measurement.

use std::io::{self, IsTerminal};
use std::time::Duration;

use crate::diagnostics;

/// Width of the bar in characters.
const WIDTH: usize = 40;

/// A progress bar on standard error, shown only on a terminal.
pub struct Progress {
    name: String,
    total: Duration,
    done: Duration,
    shown: bool,
}

impl Progress {
    pub fn new(name: String, total: Duration) -> Self {
        Progress { name, total, done: Duration::ZERO, shown: io::stderr().is_terminal() }
    }

    /// Adds `time` to the time done.
    pub fn advance(&mut self, time: Duration) {
        self.done += time;
        if self.shown {
            diagnostics::show(format!("\r\x1b[K{}", self.bar()));
        }
    }

    fn bar(&self) -> String {
        let done = (self.done.as_secs_f64() / self.total.as_secs_f64()).min(1.0);
        let bar = "=".repeat((done * WIDTH as f64) as usize);
        let left = self.total.saturating_sub(self.done).as_secs_f64().ceil();
        format!("{} [{bar:<WIDTH$}] {left} s", self.name)
    }

    /// Removes the bar, so that the next output starts on a clean line.
    pub fn finish(self) {
        if self.shown {
            diagnostics::show("\r\x1b[K".to_owned());
            diagnostics::settle();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_grows_while_the_time_shrinks() {
        let mut progress = Progress::new("tcp".to_owned(), Duration::from_secs(2));
        assert_eq!(progress.bar(), format!("tcp [{}] 2 s", " ".repeat(40)));
        progress.advance(Duration::from_millis(500));
        assert_eq!(progress.bar(), format!("tcp [{}{}] 2 s", "=".repeat(10), " ".repeat(30)));
        progress.advance(Duration::from_secs(9));
        assert_eq!(progress.bar(), format!("tcp [{}] 0 s", "=".repeat(40)));
    }
}
