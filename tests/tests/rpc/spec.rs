//! Checks `core/src/rpc/SPEC.md`, which names a test for each rule of the wire: those tests must exist.

use std::fs;
use std::path::Path;

/// What stands in place of a test of a rule that only the code around a `Peer` can keep.
const DRIVER: &str = "the driver's: ";

/// A file of the repository, by its path from the folder of this crate.
fn read(path: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

/// The fault of a reference `module::test`, if any.
fn fault(reference: &str) -> Option<&'static str> {
    let Some((module, test)) = reference.split_once("::") else { return Some("no module::test") };
    let sources = ["tests", "../core/src"].map(|folder| read(&format!("{folder}/{module}.rs")));
    if sources.iter().all(Option::is_none) {
        return Some("no such file");
    }
    let declaration = format!("fn {test}(");
    let mut found = sources.iter().flatten().filter_map(|source| Some(&source[..source.find(&declaration)?]));
    let Some(before) = found.next() else { return Some("no such function") };
    match before.trim_end().lines().rev().take(2).any(|line| line.trim() == "#[test]") {
        true => None,
        false => Some("not a test"),
    }
}

/// The numbers of the rules in `spec`, with what stands beside each.
fn rules(spec: &str) -> Vec<(&str, &str)> {
    let rows = spec.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(": "));
    rows.filter(|(number, _)| number.chars().all(|part| part.is_ascii_digit() || part == '.'))
        .map(|(number, rule)| match &rule.split('|').collect::<Vec<_>>()[..] {
            [_, held, _] => (number, *held),
            _ => panic!("not two cells: {number}"),
        })
        .collect()
}

/// The faults of `spec`, one line each.
fn faults(spec: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, held) in rules(spec) {
        let references = || held.split('`').skip(1).step_by(2);
        // Anything else in italics or parentheses would be a note that a test is missing.
        if held.contains(['*', '(']) {
            faults.push(format!("{number}: a placeholder"));
        } else if references().next().is_none() && !held.trim().starts_with(DRIVER) {
            faults.push(format!("{number}: no test"));
        }
        faults.extend(references().filter_map(|name| Some(format!("{number}: {name}: {}", fault(name)?))));
    }
    faults
}

fn spec() -> String {
    read("../core/src/rpc/SPEC.md").expect("the rules exist")
}

#[test]
fn every_rule_names_tests_that_exist() {
    let faults = faults(&spec());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn rules_are_numbered_in_order() {
    let spec = spec();
    let rules = rules(&spec);
    assert!(rules.len() > 80, "{} rules", rules.len());
    let mut last = (0, 0);
    for (rule, _) in rules {
        let (section, number) = rule.split_once('.').unwrap();
        let (section, number) = (section.parse().unwrap(), number.parse().unwrap());
        assert!(
            [(last.0, last.1 + 1), (last.0 + 1, 1)].contains(&(section, number)),
            "{rule} after {last:?}"
        );
        last = (section, number);
    }
}

#[test]
fn references_to_nothing_are_found() {
    assert_eq!(fault("rpc/spec::references_to_nothing_are_found"), None);
    assert_eq!(fault("rpc/metadata::values_are_not_shown"), None);
    assert_eq!(fault("rpc/spec::fault"), Some("not a test"));
    assert_eq!(fault("rpc/spec::no_such"), Some("no such function"));
    assert_eq!(fault("rpc/nothing::fault"), Some("no such file"));
    let spec = "| 1.1: a rule | |\n| 1.2: another | *(machine)* |\n| 1.3: one more | `rpc/spec::no_such` |\n\
        | 1.4: of others | the driver's: it reads bodies |\n| 1.5: of nobody | the driver's |\n";
    assert_eq!(
        faults(spec),
        ["1.1: no test", "1.2: a placeholder", "1.3: rpc/spec::no_such: no such function", "1.5: no test"]
    );
}
