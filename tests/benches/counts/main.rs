//! Counts what a turn of a driven session takes, and compares with what is committed: a change that makes the
//! path of a message longer fails, however busy the machine is.
//!
//! `cargo bench -p getty-tests --bench counts` prints a table and compares it with `baseline.txt`, beside
//! this file; with `-- --renew` at its end it writes that file instead. Sessions echo in memory, on a clock
//! that stands still, and are warm before anything is counted.
//!
//! RPC is counted at the end that serves and at the one that calls, where a turn is a call with its answer. A
//! call beside 1000 silent streams may take at most 1.1 times the instructions of one alone.
//!
//! | count | of | may exceed the baseline by |
//! |---|---|---|
//! | instructions | a turn of 1 message, and each further message of a turn of 16 | 2 % |
//! | lines | the 64-byte lines of code that one turn touches, without those of libc | 2 % |
//! | allocations | a message, in turns of 1 and of 16 | nothing |
//! | calls | a message, of the transport to read and to write: those become system calls | nothing |
//!
//! A stream is read until it has nothing more. The last of those calls counts too, although a runtime mostly
//! knows its answer without the system. The driver has all its features, so tracing and metrics are in.
//!
//! # Instructions and lines
//! Valgrind counts these; where it is missing, they are skipped. This program runs itself under it, once for
//! each figure. Only what is called from one function is counted: neither the peer nor the warm-up, but the
//! transport, which takes about 100 instructions of a turn.
//!
//! How many lines a function touches depends on where the linker has put it. So the code is counted as if it
//! began at each of the four places in a line where a function may begin, and the figure is the mean.
//!
//! The counts are the same in every run, but for one in a thousand over TLS, which depends on where the stack
//! lies. They are the same on every machine whose processor has AVX2: valgrind hides what is newer, and the C
//! library and ring choose their variants by what they see. They change with the compiler, with the C library
//! and with the profile. The baseline names its compiler. With another one, renew before your change, and
//! compare after it.

mod baseline;
mod callgrind;
mod peers;
mod rpc;
mod runtime;
mod scenes;
#[path = "../../tests/tls_common/mod.rs"]
mod tls_common;

use std::process::ExitCode;
use std::{env, fs};

use testkit::alloc::Counting;

use crate::baseline::{Entry, RENEW, Unit};
use crate::callgrind::Callgrind;
use crate::rpc::{Codec, Load};
use crate::scenes::{Carrier, Scene};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Turns that are counted, where a mean is taken.
const TURNS: usize = 1000;

/// A kind of turn: number of messages, and name.
type Turn = (usize, &'static str);

const ONE: Turn = (1, "turn-of-1");
const MANY: Turn = (16, "turn-of-16");

/// The name of what each further message adds to a turn.
const FURTHER: &str = "further";

const RAW: Load = Load { codec: Codec::Raw, streams: 0 };
const PROTOBUF: Load = Load { codec: Codec::Protobuf, streams: 0 };
const BESIDE_STREAMS: Load = Load { codec: Codec::Raw, streams: 1000 };

/// Sessions: name, what carries them, bytes of a message, and turns.
const SESSIONS: [(&str, Carrier, usize, &[Turn]); 15] = [
    ("tcp", Carrier::Tcp, 16, &[ONE, MANY]),
    ("tcp-1k", Carrier::Tcp, 1024, &[ONE]),
    ("websocket", Carrier::WebSocket, 16, &[ONE, MANY]),
    ("tls", Carrier::Tls, 16, &[ONE, MANY]),
    ("udp", Carrier::Udp, 16, &[ONE, MANY]),
    ("serve", Carrier::RpcServer(RAW), 16, &[ONE, MANY]),
    ("serve-1k", Carrier::RpcServer(RAW), 1024, &[ONE]),
    ("serve-proto", Carrier::RpcServer(PROTOBUF), 16, &[ONE, MANY]),
    ("serve-proto-1k", Carrier::RpcServer(PROTOBUF), 1024, &[ONE]),
    ("serve-streams", Carrier::RpcServer(BESIDE_STREAMS), 16, &[ONE]),
    ("call", Carrier::RpcClient(RAW), 16, &[ONE, MANY]),
    ("call-1k", Carrier::RpcClient(RAW), 1024, &[ONE]),
    ("call-proto", Carrier::RpcClient(PROTOBUF), 16, &[ONE, MANY]),
    ("call-proto-1k", Carrier::RpcClient(PROTOBUF), 1024, &[ONE]),
    ("call-streams", Carrier::RpcClient(BESIDE_STREAMS), 16, &[ONE]),
];

/// Sessions that do the same, without other streams and beside them.
const ALONE_AND_BESIDE: [[&str; 2]; 2] = [["serve", "serve-streams"], ["call", "call-streams"]];

/// The limit of the instructions of a call beside silent streams, as a multiple of one alone.
const BESIDE_STREAMS_AT_MOST: f64 = 1.1;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => compare(),
        ["--renew"] => renew(),
        ["--run", session, depth, turns] => run(session, depth, turns),
        _ => {
            eprintln!("expected nothing or --renew, not {}", args.join(" "));
            ExitCode::from(2)
        }
    }
}

fn compare() -> ExitCode {
    let callgrind = Callgrind::find();
    if let Err(why) = &callgrind {
        println!("instructions and lines of code are skipped: {why}");
    }
    let counted = count(callgrind.ok().as_ref());
    print(&counted);
    let mut faults = match fs::read_to_string(baseline::PATH) {
        Ok(text) => baseline::compare(&text, &counted),
        Err(error) => vec![format!("{}: {error}; to make it: {RENEW}", baseline::PATH)],
    };
    faults.extend(ALONE_AND_BESIDE.into_iter().filter_map(|names| beside_streams(&counted, names)));
    faults.iter().for_each(|fault| println!("{fault}"));
    if !faults.is_empty() {
        return ExitCode::FAILURE;
    }
    println!("what was counted holds the baseline");
    ExitCode::SUCCESS
}

/// Says what does not hold if a call beside open streams takes many more instructions than one alone.
fn beside_streams(counted: &[Entry], names: [&str; 2]) -> Option<String> {
    let instructions = |name| {
        counted.iter().find(|entry| entry.is(name, ONE.1, Unit::Instructions)).map(|entry| entry.value)
    };
    let [alone, beside] = [instructions(names[0])?, instructions(names[1])?];
    (beside > alone * BESIDE_STREAMS_AT_MOST).then(|| {
        format!("{}: {beside:.0} instructions, more than {BESIDE_STREAMS_AT_MOST} times {alone:.0}", names[1])
    })
}

fn renew() -> ExitCode {
    let callgrind = match Callgrind::find() {
        Ok(callgrind) => callgrind,
        Err(why) => {
            println!("the baseline needs all counts: {why}");
            return ExitCode::FAILURE;
        }
    };
    let counted = count(Some(&callgrind));
    print(&counted);
    fs::write(baseline::PATH, baseline::render(&counted)).expect("the baseline can be written");
    ExitCode::SUCCESS
}

/// Takes turns, as a program under valgrind.
fn run(session: &str, depth: &str, turns: &str) -> ExitCode {
    let (_, carrier, size, _) = SESSIONS.into_iter().find(|(name, ..)| *name == session).expect("a session");
    Scene::new(carrier, size, depth.parse().unwrap()).turns(turns.parse().unwrap());
    ExitCode::SUCCESS
}

/// Counts everything, without instructions and lines if there is no callgrind.
fn count(callgrind: Option<&Callgrind>) -> Vec<Entry> {
    let mut counted = Vec::new();
    for (session, carrier, size, turns) in SESSIONS {
        let mut push = |at, unit, value| counted.push(Entry::new(session, at, unit, value));
        if let Some(callgrind) = callgrind {
            let count = |&(depth, _): &Turn| callgrind.instructions(session, depth, TURNS);
            let instructions: Vec<f64> = turns.iter().map(count).collect();
            push(ONE.1, Unit::Instructions, instructions[0]);
            if let [one, many] = instructions[..] {
                push(FURTHER, Unit::Instructions, (many - one) / (MANY.0 - ONE.0) as f64);
            }
            for &(depth, at) in turns {
                push(at, Unit::Lines, callgrind.lines(session, depth));
            }
        }
        for &(depth, at) in turns {
            let usage = Scene::new(carrier, size, depth).turns(TURNS);
            let messages = (TURNS * depth) as f64;
            push(at, Unit::Allocations, usage.allocations as f64 / messages);
            push(at, Unit::Calls, usage.calls as f64 / messages);
        }
    }
    counted
}

fn print(counted: &[Entry]) {
    let columns = [
        (ONE.1, Unit::Instructions),
        (FURTHER, Unit::Instructions),
        (ONE.1, Unit::Lines),
        (MANY.1, Unit::Lines),
        (ONE.1, Unit::Allocations),
        (MANY.1, Unit::Allocations),
        (ONE.1, Unit::Calls),
        (MANY.1, Unit::Calls),
    ];
    let titles = ["instructions", "lines of code", "allocations/message", "calls/message"];
    print!("\n{:15}", "");
    titles.iter().for_each(|title| print!("{title:>24}"));
    print!("\n{:15}", "");
    columns.iter().for_each(|(at, _)| print!("{at:>12}"));
    println!();
    for (session, ..) in SESSIONS {
        print!("{session:15}");
        for (at, unit) in columns {
            let entry = counted.iter().find(|entry| entry.is(session, at, unit));
            print!("{:>12}", entry.map_or("-".to_owned(), |entry| entry.unit.show(entry.value)));
        }
        println!();
    }
    println!();
}
