//! [`Plan`]: what is measured, in which order.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::kind::Kind;
use crate::load::{Load, Traffic};
use crate::process::Process;
use crate::results::{CELLS, Calls, Cell, Idle, Results, Round};
use crate::system::{self, Processors};

/// Connections that keep messages in flight.
pub const CONNECTIONS: usize = 64;

/// Size of the message that each idle session has echoed.
const IDLE_SIZE: usize = 16;

/// Time for a server to settle once all its sessions are idle.
const SETTLE: Duration = Duration::from_millis(200);

pub struct Plan {
    pub rounds: u32,
    /// Time of one measurement.
    pub time: Duration,
    pub sessions: u32,
    /// `None` if server and load share the only processor.
    pub processors: Option<Processors>,
}

impl Plan {
    /// Measures everything. Reports the progress on standard error.
    pub fn run(&self) -> Result<Results> {
        let start = Instant::now();
        let mut results = Results {
            machine: system::describe(),
            date: system::date(),
            versions: system::versions(),
            rounds: Vec::new(),
            calls: Vec::new(),
            idle: Vec::new(),
            seconds: self.time.as_secs_f64(),
            pinned: self.processors.is_some(),
            user_cpu_is_measured: self.processors.is_some_and(|of| system::measures_user_cpu(of.server)),
            minutes: 0.0,
        };
        self.processors.map_or(Ok(()), |processors| system::pin(processors.load))?;
        for &kind in Kind::value_variants() {
            eprintln!("memory and system calls: {}", kind.name());
            results.idle.push(self.idle(kind).with_context(|| kind.name())?);
            for cell in CELLS {
                match self.calls(kind, cell).with_context(|| kind.name())? {
                    Ok(calls) => results.calls.push(calls),
                    Err(error) => {
                        eprintln!("system calls are not counted: {error:#}");
                        break;
                    }
                }
            }
        }
        for round in 1..=self.rounds {
            eprintln!("CPU time: round {round} of {}", self.rounds);
            for cell in CELLS {
                let mut kinds = Kind::value_variants().to_vec();
                if round % 2 == 0 {
                    kinds.reverse();
                }
                for kind in kinds {
                    let round = self.round(kind, cell, round).with_context(|| kind.name())?;
                    results.rounds.push(round);
                }
            }
        }
        results.minutes = start.elapsed().as_secs_f64() / 60.0;
        Ok(results)
    }

    fn start(&self, kind: Kind) -> Result<Process> {
        Process::start(kind, self.processors.map(|processors| processors.server))
    }

    fn load(&self, kind: Kind, cell: Cell, server: &Process) -> Result<Load> {
        let traffic = Traffic::new(kind.framing(), cell.size);
        let mut load = Load::start(server.address, &traffic, CONNECTIONS, cell.depth)?;
        load.run(self.time / 4)?; // warms up
        Ok(load)
    }

    /// CPU time of a new server.
    fn round(&self, kind: Kind, cell: Cell, round: u32) -> Result<Round> {
        let server = self.start(kind)?;
        let mut load = self.load(kind, cell, &server)?;
        let (cpu, user_cpu) = (server.cpu()?, server.user_cpu()?);
        let messages = load.run(self.time)?;
        let (cpu, user_cpu) = (server.cpu()? - cpu, server.user_cpu()? - user_cpu);
        Ok(Round { server: kind, cell, round, messages, cpu_us: micros(cpu), user_cpu_us: micros(user_cpu) })
    }

    /// System calls of a new server. The inner error says why they cannot be counted.
    fn calls(&self, kind: Kind, cell: Cell) -> Result<Result<Calls>> {
        let mut server = self.start(kind)?;
        let mut load = self.load(kind, cell, &server)?;
        if let Err(error) = server.count_calls() {
            return Ok(Err(error));
        }
        load.run(self.time / 4)?; // replies of before must not count
        let calls = server.calls();
        let messages = load.run(self.time / 4)?;
        Ok(Ok(Calls { server: kind, cell, messages, calls: server.calls() - calls }))
    }

    /// Memory of a new server with idle sessions.
    fn idle(&self, kind: Kind) -> Result<Idle> {
        let server = self.start(kind)?;
        let traffic = Traffic::new(kind.framing(), IDLE_SIZE);
        let first = traffic.connect_and_echo(server.address)?; // what the server itself takes is there then
        let before = server.memory()?;
        let others: Vec<_> =
            (0..self.sessions).map(|_| traffic.connect_and_echo(server.address)).collect::<Result<_>>()?;
        thread::sleep(SETTLE);
        let bytes = server.memory()?.saturating_sub(before);
        drop((first, others));
        Ok(Idle { server: kind, sessions: self.sessions, bytes })
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
