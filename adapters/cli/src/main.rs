//! `getty`: an echo server, a line client, a caller of methods and a load generator over getty sessions.

#![forbid(unsafe_code)]

mod bench;
mod call;
mod codec;
mod connect;
mod diagnostics;
mod explain;
mod generate;
mod payload;
mod rpc;
mod runtime;
mod serve;
mod signals;
mod stdio;
mod tls;
mod units;
mod url;
mod websocket;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::{env, panic};

use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use explain::with_causes;

/// Network sessions on the command line: an echo server, a line client, calls, a load generator
///
/// Errors are one line on standard error. The exit code is 0 for success, 1 for a failure and 2 for an
/// invalid command line.
#[derive(Debug, Parser)]
#[command(name = "getty", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Options),
    Connect(connect::Options),
    Call(call::Options),
    Bench(bench::Options),
    Generate(generate::Options),
}

fn main() -> ExitCode {
    diagnostics::start();
    // Writes the report of a panic before the program ends.
    let (code, error) = panic::catch_unwind(run).unwrap_or((ExitCode::from(101), None));
    diagnostics::finish(error);
    code
}

/// Runs the command line. Returns the exit code and, for a failure, the error.
fn run() -> (ExitCode, Option<String>) {
    let command = match parse().and_then(checked) {
        Ok(command) => command,
        Err(error) => return usage(&error),
    };
    let result = match command {
        Command::Serve(options) => serve::run(options),
        Command::Connect(options) => connect::run(options),
        Command::Call(options) => call::run(options),
        Command::Bench(options) => bench::run(options),
        Command::Generate(options) => generate::run(options),
    };
    match result {
        Ok(()) => (ExitCode::SUCCESS, None),
        Err(error) => (ExitCode::FAILURE, Some(with_causes(&error))),
    }
}

fn parse() -> Result<Cli, clap::Error> {
    // A negative number is an invalid value, not an unknown option.
    let command = Cli::command().mut_subcommands(|command| {
        command.mut_args(|arg| match arg.get_action().takes_values() {
            true => arg.allow_negative_numbers(true),
            false => arg,
        })
    });
    Cli::from_arg_matches(&command.try_get_matches()?)
}

/// Checks options against each other.
fn checked(cli: Cli) -> Result<Command, clap::Error> {
    let result = match &cli.command {
        Command::Serve(options) => options.check(),
        Command::Connect(options) => options.check(),
        Command::Call(options) => options.check(),
        Command::Bench(options) => options.check(),
        Command::Generate(_) => Ok(()),
    };
    match result {
        Ok(()) => Ok(cli.command),
        Err(problem) => Err(Cli::command().error(ErrorKind::ArgumentConflict, problem)),
    }
}

/// Prints requested help; returns anything else as one line.
fn usage(error: &clap::Error) -> (ExitCode, Option<String>) {
    let line = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // If this can't be printed, the failure can't be reported either.
            let _ = stdio::print(&styled(error, io::stdout().is_terminal()));
            None
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            diagnostics::show(styled(error, io::stderr().is_terminal()));
            None
        }
        _ => Some(one_line(error)),
    };
    (ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)), line)
}

/// Formats clap's text in paragraphs, with headings highlighted on terminals that support it.
fn styled(error: &clap::Error, on_terminal: bool) -> String {
    let plain = !on_terminal
        || env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || env::var_os("TERM").is_none_or(|term| term == "dumb");
    if plain { error.render().to_string() } else { error.render().ansi().to_string() }
}

/// Joins clap's paragraphs into one line, without the usage.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let paragraphs = text.split("\n\n").map(|paragraph| {
        let words: Vec<&str> = paragraph.split_whitespace().collect();
        words.join(" ")
    });
    let parts: Vec<String> =
        paragraphs.filter(|p| !p.starts_with("Usage:") && !p.starts_with("For more")).collect();
    let line = parts.join("; ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    match error.get(ContextKind::Usage) {
        Some(_) => format!("{line} (see --help)"),
        None => line.to_owned(),
    }
}
