//! [`Results`]: what was measured, and the numbers for the table.

use serde::Serialize;

use crate::kind::Kind;

/// Kind of load: a column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// Bytes of a message.
    pub size: usize,
    /// Messages in flight on each connection.
    pub depth: usize,
}

pub const CELLS: [Cell; 4] = [
    Cell { size: 16, depth: 1 },
    Cell { size: 16, depth: 16 },
    Cell { size: 1024, depth: 1 },
    Cell { size: 1024, depth: 16 },
];

/// Everything measured.
#[derive(Serialize)]
pub struct Results {
    pub machine: String,
    pub date: String,
    pub versions: Vec<(&'static str, &'static str)>,
    /// Time of a round.
    pub seconds: f64,
    /// Whether server and load had a processor each.
    pub pinned: bool,
    /// Whether the system measures user CPU time rather than sampling it.
    pub user_cpu_is_measured: bool,
    /// Time of everything.
    pub minutes: f64,
    pub rounds: Vec<Round>,
    pub calls: Vec<Calls>,
    pub idle: Vec<Idle>,
}

/// CPU time of one server in one round, in microseconds.
#[derive(Serialize)]
pub struct Round {
    pub server: Kind,
    pub cell: Cell,
    pub round: u32,
    pub messages: u64,
    pub cpu_us: f64,
    pub user_cpu_us: f64,
}

#[derive(Serialize)]
pub struct Calls {
    pub server: Kind,
    pub cell: Cell,
    pub messages: u64,
    pub calls: u64,
}

#[derive(Serialize)]
pub struct Idle {
    pub server: Kind,
    pub sessions: u32,
    /// Memory of all sessions.
    pub bytes: u64,
}

impl Results {
    fn rounds(&self, server: Kind, cell: Cell) -> impl Iterator<Item = &Round> {
        self.rounds.iter().filter(move |round| round.server == server && round.cell == cell)
    }

    /// Microseconds of CPU time for a message: the median of the rounds.
    pub fn cpu(&self, server: Kind, cell: Cell) -> f64 {
        median(self.rounds(server, cell).map(|round| round.cpu_us / round.messages as f64))
    }

    /// Microseconds of user CPU time for a message, in all rounds together: a single one has too few samples.
    pub fn user_cpu(&self, server: Kind, cell: Cell) -> f64 {
        let (time, messages) = self
            .rounds(server, cell)
            .fold((0.0, 0), |sum, round| (sum.0 + round.user_cpu_us, sum.1 + round.messages));
        time / messages as f64
    }

    /// System calls for a message, or `None` where they could not be counted.
    pub fn calls(&self, server: Kind, cell: Cell) -> Option<f64> {
        let calls = self.calls.iter().find(|calls| calls.server == server && calls.cell == cell)?;
        Some(calls.calls as f64 / calls.messages as f64)
    }

    /// Bytes of memory for an idle session.
    pub fn idle(&self, server: Kind) -> f64 {
        let idle = self.idle.iter().find(|idle| idle.server == server);
        idle.map_or(f64::NAN, |idle| idle.bytes as f64 / f64::from(idle.sessions))
    }

    /// Half of the rounds differ by less than this part from the median of the same server and messages.
    pub fn spread(&self) -> f64 {
        median(self.rounds.iter().map(|round| {
            let cpu = round.cpu_us / round.messages as f64;
            (cpu / self.cpu(round.server, round.cell) - 1.0).abs()
        }))
    }

    /// Typical standard error of [`user_cpu`](Self::user_cpu), as a part of it: how rounds differ, over the
    /// root of their number.
    pub fn user_cpu_error(&self) -> f64 {
        let server_and_cell = self.rounds.iter().filter(|round| round.round == 1);
        median(server_and_cell.map(|&Round { server, cell, .. }| {
            let mean = self.user_cpu(server, cell);
            let rounds = self.rounds(server, cell);
            let squares: Vec<f64> =
                rounds.map(|round| (round.user_cpu_us / round.messages as f64 - mean).powi(2)).collect();
            let count = squares.len() as f64;
            (squares.iter().sum::<f64>() / (count - 1.0) / count).sqrt() / mean
        }))
    }
}

/// The median, or NaN if there are no values.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[len / 2],
        len => f64::midpoint(values[len / 2 - 1], values[len / 2]),
    }
}
