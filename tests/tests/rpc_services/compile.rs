//! What the compiler says to mistakes that only types show: programs of users' with a mark `//~ text` at each
//! line where an error or a note of it has that text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The programs, by name.
fn programs() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rpc_services/compile");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let programs = files.map(|file| {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, std::fs::read_to_string(file).unwrap())
    });
    programs.collect()
}

/// A crate of a user's with these programs. It has the versions of this workspace.
fn write_crate(programs: &BTreeMap<String, String>) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rpc_compile");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let _ = std::fs::remove_dir_all(folder.join("src"));
    std::fs::create_dir_all(folder.join("src/bin")).unwrap();
    for (name, text) in programs {
        std::fs::write(folder.join("src/bin").join(name).with_extension("rs"), text).unwrap();
    }
    let manifest = format!(
        "[package]\nname = \"user\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n\
         getty-tokio = {{ path = {:?}, features = [\"json\", \"protobuf\"] }}\n\
         serde = {{ version = \"1\", features = [\"derive\"] }}\ntokio = {{ version = \"1\", features = [\"rt\"] }}\n",
        root.join("adapters/tokio")
    );
    std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    std::fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    folder
}

/// The texts of errors and their notes, by program and line.
fn errors(folder: &Path) -> BTreeMap<String, Vec<(u64, String)>> {
    let output = Command::new(env!("CARGO"))
        .args(["check", "--offline", "--bins", "--keep-going", "--message-format=json", "--target-dir"])
        .arg(folder.join("target"))
        .current_dir(folder)
        .env_remove("RUSTFLAGS")
        .output()
        .unwrap();
    let mut errors: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
    let lines = std::str::from_utf8(&output.stdout).unwrap().lines();
    let reports = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut finished = false;
    for report in reports {
        finished |= report["reason"] == "build-finished";
        if report["reason"] != "compiler-message" || report["message"]["level"] != "error" {
            continue;
        }
        let program = report["target"]["name"].as_str().unwrap().to_owned();
        let found = errors.entry(program).or_default();
        let message = &report["message"];
        for part in std::iter::once(message).chain(message["children"].as_array().unwrap()) {
            let spans = part["spans"].as_array().unwrap().iter();
            for span in spans.filter(|span| span["file_name"].as_str().unwrap().starts_with("src/bin")) {
                let label = span["label"].as_str().unwrap_or_default();
                let text = format!("{} {label}", part["message"].as_str().unwrap());
                found.push((span["line_start"].as_u64().unwrap(), text));
            }
        }
    }
    assert!(finished, "{}", String::from_utf8_lossy(&output.stderr));
    errors
}

#[test]
fn errors_are_at_the_users_code() {
    let programs = programs();
    let mut errors = errors(&write_crate(&programs));
    assert_eq!(errors.remove("good"), None);
    for (name, text) in programs {
        let found = errors.remove(&name).unwrap_or_default();
        let marks =
            (1..).zip(text.lines()).filter_map(|(line, text)| Some((line, text.split_once("//~ ")?.1)));
        for (line, mark) in marks {
            let is_there = found.iter().any(|(at, text)| *at == line && text.contains(mark));
            assert!(is_there, "{name}.rs:{line}: no `{mark}` in {found:#?}");
        }
    }
}
