//! Results as a table and as JSON.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::Options;
use super::load::{Datagrams, Outcome, Plan};
use crate::runtime::RuntimeName;

/// All results.
#[derive(Debug, Serialize)]
pub struct Report {
    version: &'static str,
    connections: u32,
    size: u32,
    depth: u32,
    duration_s: f64,
    warmup_s: f64,
    pub runs: Vec<Row>,
}

/// The results of one server.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The transport, with `rpc/` before it for calls.
    transport: String,
    /// The URL, or `in-process`.
    server: String,
    /// The server's runtime, if known.
    server_runtime: Option<&'static str>,
    load_runtime: &'static str,
    connections: usize,
    /// Whether all connections use compression.
    deflate: bool,
    messages: u64,
    errors: u64,
    messages_per_s: f64,
    mb_per_s: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
    /// CPU time of this process per message. `None` where the system does not report it.
    cpu_us_per_message: Option<f64>,
    wrong_payloads: u64,
    lost_connections: u64,
    #[serde(flatten)]
    datagrams: Datagrams,
    #[serde(skip)]
    first_dropped: Option<String>,
    #[serde(skip)]
    first_lost: Option<String>,
    /// The name of the run, for people.
    #[serde(skip)]
    pub name: String,
    /// Latencies in nanoseconds.
    #[serde(skip)]
    pub latencies: Histogram<u64>,
}

/// Names a run. `server` is the server's runtime, if known.
pub fn run_name(plan: &Plan, server: Option<RuntimeName>) -> String {
    let (transport, load) = (transport_name(plan), plan.runtime);
    match (server.map(RuntimeName::as_str), load.as_str()) {
        (Some(server), load) if server == load => format!("{transport} on {load}"),
        (Some(server), load) => format!("{transport} on {server}, load on {load}"),
        (None, load) => format!("{transport}, load on {load}"),
    }
}

fn transport_name(plan: &Plan) -> String {
    format!("{}{}", if plan.rpc { "rpc/" } else { "" }, plan.url.transport.name())
}

impl Row {
    pub fn new(plan: &Plan, server: Option<RuntimeName>, outcome: Outcome, cpu: Option<Duration>) -> Self {
        let Outcome { latencies, messages_per_second, wrong, lost_connections, compressed, .. } = outcome;
        let messages = latencies.len();
        let us = |quantile| latencies.value_at_quantile(quantile) as f64 / 1000.0;
        Row {
            transport: transport_name(plan),
            server: server.map_or_else(|| plan.url.to_string(), |_| "in-process".to_owned()),
            server_runtime: server.map(RuntimeName::as_str),
            load_runtime: plan.runtime.as_str(),
            name: run_name(plan, server),
            connections: plan.connections,
            deflate: compressed == plan.connections,
            messages,
            errors: wrong + lost_connections,
            messages_per_s: messages_per_second,
            mb_per_s: messages_per_second * plan.size as f64 / 1e6,
            p50_us: us(0.5),
            p90_us: us(0.9),
            p99_us: us(0.99),
            p999_us: us(0.999),
            max_us: us(1.0),
            cpu_us_per_message: cpu
                .filter(|_| messages > 0)
                .map(|cpu| cpu.as_secs_f64() * 1e6 / messages as f64),
            wrong_payloads: wrong,
            lost_connections,
            datagrams: outcome.datagrams,
            first_dropped: outcome.first_dropped,
            first_lost: outcome.first_lost,
            latencies,
        }
    }

    fn problem(&self) -> Option<String> {
        let mut parts = Vec::new();
        if self.wrong_payloads > 0 {
            parts.push(format!("{} payloads came back changed", self.wrong_payloads));
        }
        if self.lost_connections > 0 {
            let first = self.first_lost.as_deref().unwrap_or("unknown");
            parts.push(format!("{} connections ended early (the first: {first})", self.lost_connections));
        }
        if parts.is_empty() && self.messages == 0 {
            let why = self.first_dropped.as_deref().unwrap_or("see --duration");
            parts.push(format!("no message came back within the measurement: {why}"));
        }
        (!parts.is_empty()).then(|| format!("{}: {}", self.name, parts.join("; ")))
    }
}

impl Report {
    pub fn new(options: &Options, runs: Vec<Row>) -> Self {
        Report {
            version: env!("CARGO_PKG_VERSION"),
            connections: options.connections,
            size: options.size,
            depth: options.depth(),
            duration_s: options.duration.as_secs_f64(),
            warmup_s: options.warmup.as_secs_f64(),
            runs,
        }
    }

    /// Describes the errors of all runs, if there were any.
    pub fn problem(&self) -> Option<String> {
        let problems: Vec<String> = self.runs.iter().filter_map(Row::problem).collect();
        (!problems.is_empty()).then(|| problems.join("; "))
    }

    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }

    /// Formats the settings, then a line for each run.
    pub fn table(&self) -> String {
        let head = [
            "transport",
            "server",
            "load",
            "messages",
            "messages/s",
            "MB/s",
            "p50 us",
            "p90 us",
            "p99 us",
            "p99.9 us",
            "CPU us/msg",
            "lost",
            "reordered",
            "errors",
        ]
        .map(str::to_owned);
        let rows = self.runs.iter().map(|run| {
            [
                run.transport.clone(),
                run.server_runtime.unwrap_or("-").to_owned(),
                run.load_runtime.to_owned(),
                run.messages.to_string(),
                format!("{:.0}", run.messages_per_s),
                format!("{:.1}", run.mb_per_s),
                format!("{:.1}", run.p50_us),
                format!("{:.1}", run.p90_us),
                format!("{:.1}", run.p99_us),
                format!("{:.1}", run.p999_us),
                run.cpu_us_per_message.map_or("-".to_owned(), |cpu| format!("{cpu:.2}")),
                run.datagrams.lost.to_string(),
                run.datagrams.reordered.to_string(),
                run.errors.to_string(),
            ]
        });
        format!("{self}{}", align(std::iter::once(head).chain(rows).collect(), 3))
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Report { size, depth, connections, duration_s, warmup_s, .. } = self;
        let server = self.runs.first().map_or("nothing", |run| &run.server);
        writeln!(
            f,
            "{connections} connections, server: {server}, {depth} messages of {size} bytes in flight on each, \
             {duration_s} s after {warmup_s} s\n"
        )
    }
}

/// Aligns rows into columns: the first `left` columns to the left, the others to the right.
fn align<const N: usize>(rows: Vec<[String; N]>, left: usize) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column < left { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ") + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["a", "number"], ["long", "1"]].map(|row| row.map(str::to_owned));
        assert_eq!(align(rows.to_vec(), 1), "a     number\nlong       1\n");
    }
}
