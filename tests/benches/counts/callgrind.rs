//! [`Callgrind`]: runs this program in valgrind, and reads what it has counted.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs, io, process};

use crate::scenes::COUNTED_TURN;

/// Bytes of a cache line.
const LINE: u64 = 64;

/// The places in a line at which a function may begin: functions are aligned to 16 bytes.
const PLACES: [u64; 4] = [0, 16, 32, 48];

/// Valgrind, and a folder for what it writes.
pub struct Callgrind {
    folder: PathBuf,
}

impl Callgrind {
    /// Looks for valgrind. The error says why nothing can be counted.
    pub fn find() -> Result<Self, String> {
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            return Err("they compare only on x86-64 Linux, where the baseline is from".to_owned());
        }
        match Command::new("valgrind").arg("--version").output() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err("valgrind is missing".to_owned()),
            Err(error) => Err(format!("valgrind does not run: {error}")),
            Ok(_) => {
                let folder = env::temp_dir().join(format!("getty-counts-{}", process::id()));
                fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
                Ok(Callgrind { folder })
            }
        }
    }

    /// Instructions of a turn, as a mean of `turns`.
    pub fn instructions(&self, session: &str, depth: usize, turns: usize) -> f64 {
        let report = self.run(&[], session, depth, turns);
        let total = report.lines().find_map(|line| line.strip_prefix("summary: "));
        let total: u64 = total.and_then(|total| total.trim().parse().ok()).expect("callgrind reports a sum");
        assert!(total > 0, "callgrind has not found {COUNTED_TURN}");
        total as f64 / turns as f64
    }

    /// The lines of this program's code that one turn touches, as a mean of the places where it may lie.
    pub fn lines(&self, session: &str, depth: usize) -> f64 {
        let options = ["--dump-instr=yes", "--compress-strings=no", "--compress-pos=no"];
        let addresses = addresses(&self.run(&options, session, depth, 1));
        assert!(!addresses.is_empty(), "callgrind reports no instruction of this program");
        let lines = PLACES.iter().map(|place| {
            addresses.iter().map(|address| (address + place) / LINE).collect::<HashSet<_>>().len()
        });
        lines.sum::<usize>() as f64 / PLACES.len() as f64
    }

    /// Runs turns of a session, and returns callgrind's report.
    fn run(&self, options: &[&str], session: &str, depth: usize, turns: usize) -> String {
        let report = self.folder.join("report");
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--quiet"])
            .arg(format!("--toggle-collect={COUNTED_TURN}"))
            .arg(format!("--callgrind-out-file={}", report.display()))
            .args(options)
            .arg(env::current_exe().expect("this program has a path"))
            .args(["--run", session, &depth.to_string(), &turns.to_string()])
            // Both could change what is counted.
            .env_remove("VALGRIND_OPTS")
            .env_remove("GLIBC_TUNABLES")
            .output()
            .expect("valgrind runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "valgrind: {}\n{errors}", output.status);
        fs::read_to_string(&report).unwrap_or_else(|error| panic!("{}: {error}\n{errors}", report.display()))
    }
}

impl Drop for Callgrind {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// Addresses of this program's instructions in a report. There is a line for each, `0xADDRESS LINE COUNT`,
/// below a line with the name of its file. A line after `calls=` repeats a call with the cost of what was
/// called.
fn addresses(report: &str) -> HashSet<u64> {
    let program = env::current_exe().and_then(fs::canonicalize).expect("this program has a path");
    let mut addresses = HashSet::new();
    let (mut is_program, mut is_call) = (false, false);
    for line in report.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            is_program = program.as_os_str() == object;
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if let Some(instruction) = line.strip_prefix("0x") {
            if is_program && !is_call {
                let (address, _) = instruction.split_once(' ').expect("an address and a count");
                addresses.insert(u64::from_str_radix(address, 16).expect("an address"));
            }
            is_call = false;
        }
    }
    addresses
}
