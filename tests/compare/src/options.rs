//! The command line.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;

use crate::kind::Kind;
use crate::measure::Plan;
use crate::system::{self, Processors};
use crate::{page, serve};

/// Compares echo servers over getty, tokio, tokio-util, tungstenite, fastwebsockets and sockudo-ws
///
/// Prints the CPU time, user CPU time and system calls of the servers for each message, and the memory that
/// an idle session takes, as Markdown. Takes about 4 minutes. Needs Linux, and nothing else: no rights, no
/// tools.
///
/// Ratios within one table say more than times: both depend on the machine, but times more. Other work on
/// the machine disturbs the measurement. User CPU time is sampled at the ticks of the kernel's clock, unless
/// the kernel is configured otherwise; the table says which, and how large the error is.
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
pub struct Options {
    /// Number of measurements of each server with each kind of message. The servers take turns, in every
    /// second round in reverse order
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Time of a measurement, after a quarter of it to warm up
    #[arg(long, value_name = "S", default_value = "0.7", value_parser = seconds)]
    seconds: Duration,
    /// Number of idle sessions whose memory is measured. It is lowered to what the limit of open files allows
    #[arg(long, value_name = "N", default_value_t = 5000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=20_000))]
    sessions: u32,
    /// Write every measurement to FILE as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Replace the table in FILE, between the lines `<!-- comparison -->` and `<!-- end of comparison -->`
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Be the server of this kind instead
    #[arg(long, hide = true)]
    serve: Option<Kind>,
    /// The processor for that server
    #[arg(long, hide = true, requires = "serve")]
    processor: Option<usize>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "expected a number of seconds, such as 0.7")?;
    let time = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    if time < Duration::from_millis(10) || time > Duration::from_secs(60) {
        return Err("expected 0.01 to 60 seconds".to_owned());
    }
    Ok(time)
}

/// Runs the command line.
pub fn run() -> Result<()> {
    let options = Options::parse();
    if let Some(kind) = options.serve {
        system::end_with_parent()?;
        options.processor.map_or(Ok(()), system::pin)?;
        match serve::serve(kind)? {}
    }
    if let Some(path) = &options.write {
        // An error comes before minutes are spent.
        page::replaced(&read(path)?, "").with_context(|| path.display().to_string())?;
    }
    let processors = Processors::find()?;
    let sessions = options.sessions.min(system::raise_file_limit()?);
    let plan = Plan { rounds: options.rounds, time: options.seconds, sessions, processors };
    let results = plan.run()?;
    let table = page::table(&results);
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_vec_pretty(&results)?).with_context(|| path.display().to_string())?;
    }
    print!("{table}");
    if let Some(path) = &options.write {
        let page = page::replaced(&read(path)?, &table).with_context(|| path.display().to_string())?;
        fs::write(path, page).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn read(path: &PathBuf) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}
