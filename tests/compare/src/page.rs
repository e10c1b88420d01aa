//! The table in Markdown, with the lines that explain it.

use std::fmt::Write;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::kind::Kind;
use crate::measure::CONNECTIONS;
use crate::results::{CELLS, Cell, Results};

/// Width of text.
const WIDTH: usize = 110;

const BEGIN: &str = "<!-- comparison -->\n";
const END: &str = "<!-- end of comparison -->\n";

/// Differences up to these count as none.
const CPU_NOISE: f64 = 1.02;
const NOISE: f64 = 1.05;

/// `page` with another `table` between the two comments.
pub fn replaced(page: &str, table: &str) -> Result<String> {
    let (before, rest) = page.split_once(BEGIN).with_context(|| format!("has no line {}", BEGIN.trim()))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("has no line {}", END.trim()))?;
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

/// The whole table.
pub fn table(results: &Results) -> String {
    let blocks = [
        wrapped(&conditions(results)),
        ratios(results),
        absolute(results),
        Kind::value_variants().iter().map(|&kind| losses(results, kind)).collect(),
    ];
    blocks.join("\n") + "\n"
}

fn conditions(results: &Results) -> String {
    let rounds = results.rounds.iter().map(|round| round.round).max().unwrap_or(0);
    let sessions = results.idle.iter().map(|idle| idle.sessions).max().unwrap_or(0);
    let versions: Vec<String> =
        results.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let processors = if results.pinned {
        "server and load on a processor each"
    } else {
        "**server and load on the same processor, for lack of another one**"
    };
    let user_cpu = if results.user_cpu_is_measured {
        "the kernel measures it"
    } else {
        "the kernel samples it at the ticks of its clock"
    };
    let error = match results.user_cpu_error() {
        error if error.is_finite() => format!(" (typical standard error {:.0} %)", error * 100.0),
        _ => String::new(),
    };
    format!(
        "Measured {} in {:.1} minutes: {}; {}. {CONNECTIONS} connections over loopback, {processors}. CPU: \
         median of {rounds} alternated rounds of {} s; half of the rounds are within {:.1} % of it. \
         User CPU: of all rounds; {user_cpu}{error}. {sessions} idle sessions.\n",
        results.date,
        results.minutes,
        results.machine,
        versions.join(", "),
        results.seconds,
        results.spread() * 100.0,
    )
}

fn ratios(results: &Results) -> String {
    let base = Kind::RawTokio;
    let columns: String = CELLS.iter().map(|&cell| format!(" {} |", title(cell))).collect();
    let mut table =
        format!("| ratio to raw tokio: CPU / user CPU |{columns}\n|---|{}\n", "---:|".repeat(CELLS.len()));
    for &kind in Kind::value_variants() {
        write!(table, "| {} |", kind.title()).unwrap();
        for cell in CELLS {
            let cpu = results.cpu(kind, cell) / results.cpu(base, cell);
            let user_cpu = match results.user_cpu(base, cell) {
                0.0 => "-".to_owned(), // not a sample in a short measurement
                base => format!("{:.1}", results.user_cpu(kind, cell) / base),
            };
            write!(table, " {cpu:.2} / {user_cpu} |").unwrap();
        }
        table.push('\n');
    }
    table
}

fn absolute(results: &Results) -> String {
    let columns: String = CELLS.iter().map(|&cell| format!(" {} |", title(cell))).collect();
    let mut table = format!(
        "| per message: µs of CPU / of user CPU / system calls |{columns} idle session |\n|---|{}\n",
        "---:|".repeat(CELLS.len() + 1)
    );
    for &kind in Kind::value_variants() {
        write!(table, "| {} |", kind.title()).unwrap();
        for cell in CELLS {
            let calls = results.calls(kind, cell).map_or("-".to_owned(), |calls| format!("{calls:.2}"));
            let (cpu, user_cpu) = (results.cpu(kind, cell), results.user_cpu(kind, cell));
            write!(table, " {cpu:.2} / {user_cpu:.2} / {calls} |").unwrap();
        }
        writeln!(table, " {:.1} KiB |", results.idle(kind) / 1024.0).unwrap();
    }
    if results.calls.is_empty() {
        table += "\nSystem calls could not be counted: the system allows no ptrace.\n";
    }
    table
}

fn title(Cell { size, depth }: Cell) -> String {
    if size < 1024 { format!("{size} B, {depth}") } else { format!("{} KiB, {depth}", size / 1024) }
}

/// Where the best of the other libraries takes less than getty, as a paragraph of a list.
fn losses(results: &Results, getty: Kind) -> String {
    if !getty.is_getty() {
        return String::new();
    }
    let rivals: Vec<Kind> =
        Kind::value_variants().iter().copied().filter(|kind| kind.rivals(getty)).collect();
    let mut losses = Vec::new();
    let mut compare = |what: &str, noise: f64, unit: &str, value: &dyn Fn(Kind) -> Option<f64>| {
        let (Some(own), Some((best, rival))) = (
            value(getty),
            { rivals.iter() }
                .filter_map(|&rival| Some((value(rival)?, rival)))
                .min_by(|one, other| one.0.total_cmp(&other.0)),
        ) else {
            return;
        };
        if own > best * noise {
            losses.push(format!("{what} ({own:.2}{unit}, {} {best:.2})", rival.title()));
        }
    };
    for cell in CELLS {
        let at = title(cell);
        compare(&format!("CPU at {at}"), CPU_NOISE, " µs", &|kind| Some(results.cpu(kind, cell)));
        compare(&format!("user CPU at {at}"), NOISE, " µs", &|kind| Some(results.user_cpu(kind, cell)));
        compare(&format!("system calls at {at}"), NOISE, "", &|kind| results.calls(kind, cell));
    }
    compare("memory", NOISE, " KiB", &|kind| Some(results.idle(kind) / 1024.0));
    let rivals: Vec<&str> = rivals.into_iter().map(Kind::title).collect();
    let best = if rivals.len() > 1 { "the best of " } else { "" };
    let losses = if losses.is_empty() { "nowhere".to_owned() } else { losses.join(", ") };
    wrapped(&format!("* {} takes more than {best}{}: {losses}.\n", getty.title(), rivals.join(", ")))
}

/// Breaks lines where they get too wide. Those after a list's first line are indented.
fn wrapped(text: &str) -> String {
    let indent = if text.starts_with("* ") { "  " } else { "" };
    let (mut lines, mut line) = (String::new(), String::new());
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines += &line;
            lines += "\n";
            line = format!("{indent}{word}");
        } else {
            line += if line.is_empty() { "" } else { " " };
            line += word;
        }
    }
    lines + &line + "\n"
}
