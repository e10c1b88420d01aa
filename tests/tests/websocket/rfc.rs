//! Checks `core/src/websocket/RFC.md`, which names a test for each demand of the RFCs: those tests must
//! exist.

use std::fs;
use std::path::Path;

/// The source of `module`.
fn source(module: &str) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["tests", "../core/src"].map(|folder| root.join(folder));
    folders.iter().find_map(|folder| fs::read_to_string(folder.join(format!("{module}.rs"))).ok())
}

/// The fault of a reference `module::test`, if any.
fn fault(reference: &str) -> Option<&'static str> {
    let Some((module, test)) = reference.split_once("::") else { return Some("no module::test") };
    let Some(source) = source(module) else { return Some("no such file") };
    let declaration = format!("fn {test}(");
    let Some(at) = source.find(&declaration) else { return Some("no such function") };
    let before: Vec<_> = source[..at].trim_end().lines().rev().take(2).collect();
    match before.iter().any(|line| line.trim() == "#[test]") {
        true => None,
        false => Some("not a test"),
    }
}

#[test]
fn every_demand_of_the_rfcs_names_tests_that_exist_or_says_why_not() {
    let list = source_of_the_list();
    let rows: Vec<_> =
        list.lines().filter(|line| line.starts_with("| ") && *line != "| demand | where |").collect();
    assert!(rows.len() > 100, "{} rows", rows.len());
    let mut faults = Vec::new();
    for row in rows {
        let [_, demand, held, _] = &row.split('|').collect::<Vec<_>>()[..] else {
            panic!("not two cells: {row}")
        };
        let is_test = |code: &&str| code.contains("::") && code.starts_with(char::is_lowercase);
        let references = || held.split('`').skip(1).step_by(2).filter(is_test);
        let says_why = ["*not here*: ", "*deviates*: "].iter().any(|word| held.contains(word));
        if references().next().is_none() && !says_why {
            faults.push(format!("{demand}: neither a test nor a reason"));
        }
        faults.extend(references().filter_map(|name| fault(name).map(|fault| format!("{name}: {fault}"))));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn source_of_the_list() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/src/websocket/RFC.md");
    fs::read_to_string(path).expect("the list of demands exists")
}

#[test]
fn references_to_nothing_are_found() {
    assert_eq!(fault("websocket/rfc::references_to_nothing_are_found"), None);
    assert_eq!(fault("websocket/mask::the_example_of_the_rfc"), None);
    assert_eq!(fault("websocket/rfc::fault"), Some("not a test"));
    assert_eq!(fault("websocket/rfc::no_such"), Some("no such function"));
    assert_eq!(fault("websocket/nothing::fault"), Some("no such file"));
}
