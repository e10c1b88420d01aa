//! Packs and unpacks the corpora of getty's fuzz targets.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use testkit::corpus::{Corpora, Packed};

const HELP: &str = "\
Unpacks the inputs of getty's fuzz targets for `cargo fuzz`, and packs them again for git.

Usage: corpus unpack [TARGET]...
       corpus pack [TARGET]...

unpack  Adds the inputs in the file fuzz/packed/TARGET to the folder fuzz/corpus/TARGET.
pack    Makes the file fuzz/packed/TARGET hold what is in the folder fuzz/corpus/TARGET, and nothing else.
        So unpack before you fuzz.

Without a TARGET: all that are packed, or unpacked.";

fn main() -> ExitCode {
    let mut args: Vec<_> = env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "-h" || arg == "--help") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let targets = args.split_off(args.len().min(1));
    let result = match args.first().map(String::as_str) {
        Some("unpack") => unpack(targets),
        Some("pack") => pack(targets),
        _ => {
            eprintln!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corpus: {error}");
            ExitCode::FAILURE
        }
    }
}

fn unpack(mut targets: Vec<String>) -> io::Result<()> {
    let corpora = Corpora::own();
    if targets.is_empty() {
        targets = corpora.packed()?;
    }
    for target in targets {
        let inputs = corpora.unpack(&target)?;
        writeln!(io::stdout(), "{target}: {inputs} inputs")?;
    }
    Ok(())
}

fn pack(mut targets: Vec<String>) -> io::Result<()> {
    let corpora = Corpora::own();
    if targets.is_empty() {
        targets = corpora.unpacked()?;
    }
    for target in targets {
        let Packed { inputs, added, removed } = corpora.pack(&target)?;
        writeln!(io::stdout(), "{target}: {inputs} inputs, {added} added, {removed} removed")?;
    }
    Ok(())
}
