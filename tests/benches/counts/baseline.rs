//! The counts that are committed: a line for each, and whether new ones hold them.

use std::cmp::Ordering;
use std::env;
use std::process::Command;

/// The file.
pub const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/counts/baseline.txt");

/// The command that writes it.
pub const RENEW: &str = "cargo bench -p getty-tests --bench counts -- --renew";

/// Begins the line that names the compiler.
const MADE_WITH: &str = "# Made with: ";

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Instructions,
    Lines,
    Allocations,
    Calls,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Instructions => "instructions",
            Unit::Lines => "lines",
            Unit::Allocations => "allocations",
            Unit::Calls => "calls",
        }
    }

    /// The part of the baseline by which a count may exceed it.
    fn tolerance(self) -> f64 {
        match self {
            Unit::Instructions | Unit::Lines => 0.02,
            Unit::Allocations | Unit::Calls => 0.0,
        }
    }

    fn depends_on_compiler(self) -> bool {
        matches!(self, Unit::Instructions | Unit::Lines)
    }

    /// A count of this unit, as the table and the file show it.
    pub fn show(self, value: f64) -> String {
        match self {
            Unit::Instructions | Unit::Lines => format!("{value:.0}"),
            Unit::Allocations | Unit::Calls => format!("{value:.4}"),
        }
    }
}

/// A count.
#[derive(Debug)]
pub struct Entry {
    /// The session, and the kind of turn.
    place: [&'static str; 2],
    pub unit: Unit,
    pub value: f64,
}

impl Entry {
    pub fn new(session: &'static str, at: &'static str, unit: Unit, value: f64) -> Self {
        Entry { place: [session, at], unit, value }
    }

    pub fn is(&self, session: &str, at: &str, unit: Unit) -> bool {
        self.place == [session, at] && self.unit == unit
    }

    fn words(&self) -> [&str; 3] {
        [self.place[0], self.place[1], self.unit.name()]
    }

    /// Whether the count is above or below what the file allows.
    fn judge(&self, expected: f64) -> Ordering {
        // Digits that the file does not show do not count.
        let value: f64 = self.unit.show(self.value).parse().expect("a number");
        let tolerance = self.unit.tolerance();
        if value > expected * (1.0 + tolerance) {
            Ordering::Greater
        } else if value < expected * (1.0 - tolerance) {
            Ordering::Less
        } else {
            Ordering::Equal
        }
    }

    /// What was expected, and what came.
    fn differs(&self, expected: f64) -> String {
        let [expected_words, came] = [expected, self.value].map(|value| self.unit.show(value));
        let tolerance = match self.unit.tolerance() {
            0.0 => String::new(),
            tolerance => format!(" and at most {:.0} % more", 100.0 * tolerance),
        };
        let change = match expected {
            0.0 => String::new(),
            _ => format!(" ({:+.1} %)", 100.0 * (self.value / expected - 1.0)),
        };
        format!("{}: expected {expected_words}{tolerance}, came {came}{change}", self.words().join(" "))
    }
}

/// The text of the file with these counts.
pub fn render(counted: &[Entry]) -> String {
    let mut text = format!("# Written by: {RENEW}\n{MADE_WITH}{}\n", compiler());
    for entry in counted {
        let ([session, at, unit], value) = (entry.words(), entry.unit.show(entry.value));
        text += &format!("{session:15}{at:12}{unit:14}{value:>8}\n");
    }
    text
}

/// Compares counts with the text of the file. Prints where they are lower, and returns what does not hold.
pub fn compare(text: &str, counted: &[Entry]) -> Vec<String> {
    let made_with = text.lines().find_map(|line| line.strip_prefix(MADE_WITH)).unwrap_or_default();
    let compiler = compiler();
    let is_same = made_with == compiler;
    if !is_same {
        println!("the baseline is of {made_with}, not of {compiler}: instructions and lines are only shown");
    }
    let mut baseline: Vec<([&str; 3], f64)> = text.lines().filter_map(parse).collect();
    let mut faults = Vec::new();
    for entry in counted {
        let name = entry.words();
        let place = baseline.iter().position(|(words, _)| *words == name);
        let Some((_, expected)) = place.map(|place| baseline.remove(place)) else {
            faults.push(format!("{}: it is not in the baseline; to add it: {RENEW}", name.join(" ")));
            continue;
        };
        let words = entry.differs(expected);
        match entry.judge(expected) {
            Ordering::Greater if !is_same && entry.unit.depends_on_compiler() => println!("{words}"),
            Ordering::Greater => faults.push(format!("{words}; if this is meant, renew: {RENEW}")),
            Ordering::Less => println!("{words}; this is better, so please renew: {RENEW}"),
            Ordering::Equal => {}
        }
    }
    // A unit that was skipped altogether is not missed.
    baseline.retain(|([.., unit], _)| counted.iter().any(|entry| entry.unit.name() == *unit));
    let missed = baseline.iter().map(|(name, _)| name.join(" "));
    faults.extend(missed.map(|name| format!("{name}: it is not counted; to remove it: {RENEW}")));
    faults
}

/// Reads a line: session, kind of turn, unit and count.
fn parse(line: &str) -> Option<([&str; 3], f64)> {
    let mut words = line.split_ascii_whitespace();
    let name = [words.next()?, words.next()?, words.next()?];
    Some((name, words.next()?.parse().ok()?))
}

/// The compiler's version.
fn compiler() -> String {
    let rustc = env::var_os("RUSTC").unwrap_or("rustc".into());
    let output = Command::new(rustc).arg("--version").output();
    let version = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    version.ok().filter(|version| !version.is_empty()).unwrap_or("an unknown compiler".to_owned())
}
