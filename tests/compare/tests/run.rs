//! A short run of the program.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const SERVERS: [&str; 7] = [
    "raw tokio, no framing",
    "tokio-util",
    "**getty**",
    "tungstenite",
    "fastwebsockets",
    "sockudo-ws",
    "**getty, WebSocket**",
];

fn compare(page: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_getty-compare"));
    command.args(["--rounds", "2", "--seconds", "0.05", "--sessions", "32", "--write"]).arg(page);
    command.output().unwrap()
}

/// The numbers of one server in the table that begins with `title`.
fn row(page: &str, title: &str, server: &str) -> Vec<f64> {
    let (_, table) = page.split_once(title).unwrap_or_else(|| panic!("no {title} in {page}"));
    let row = table.lines().find_map(|line| line.strip_prefix(&format!("| {server} |")));
    let row = row.unwrap_or_else(|| panic!("no {server} in {table}"));
    let numbers = row.split(['|', '/', ' ']).filter(|word| !word.is_empty() && *word != "KiB");
    let number = |word: &str| match word {
        "-" => f64::NAN,
        number => number.parse().unwrap_or_else(|_| panic!("{number} in {row}")),
    };
    numbers.map(number).collect()
}

#[test]
fn every_server_echoes_and_gets_a_row() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page.md");
    fs::write(&path, "before\n<!-- comparison -->\nold\n<!-- end of comparison -->\nafter\n").unwrap();
    let output = compare(&path);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let page = fs::read_to_string(&path).unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(page, format!("before\n<!-- comparison -->\n{table}<!-- end of comparison -->\nafter\n"));
    for line in table.lines().filter(|line| !line.starts_with('|')) {
        assert!(line.chars().count() <= 110, "{line}");
    }
    for server in SERVERS {
        let ratios = row(&page, "ratio to raw tokio", server);
        assert_eq!(ratios.len(), 4 * 2, "{server}: {ratios:?}");
        let absolute = row(&page, "per message", server);
        assert_eq!(absolute.len(), 4 * 3 + 1, "{server}: {absolute:?}");
        // A read and a write for each message, or for 16 of them; a wait is shared by connections.
        let calls = [2, 5, 8, 11].map(|at| absolute[at]);
        assert!(calls[0] > 1.0 && calls[0] < 6.0 && calls[1] > 0.06, "{server}: {calls:?}");
        assert!(absolute[0] > 0.1 && absolute[12] > 0.3, "{server}: {absolute:?}");
    }
}

#[test]
fn a_page_without_a_place_for_the_table_is_an_error_at_once() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("other.md");
    fs::write(&path, "text\n").unwrap();
    let output = compare(&path);
    assert!(!output.status.success() && output.stdout.is_empty());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("other.md") && error.contains("has no line <!-- comparison -->"), "{error}");
    assert!(!error.contains("round"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "text\n");
}
