//! Rules for comments: none is wider than the code, and documentation has no phrases that a native speaker
//! stumbles over.

use std::path::{Path, PathBuf};
use std::{fs, iter};

use crate::at;

/// Width of the widest line, as in `rustfmt.toml`.
const WIDTH: usize = 110;

/// Phrases to avoid, each with a better one.
const PHRASES: [(&str, &str); 9] = [
    ("any more", "any longer"),
    ("are told", "are reported"),
    ("at the most", "at most"),
    ("for ever", "forever"),
    ("is told", "is reported"),
    ("see to it", "arrange"),
    ("sees to it", "arranges"),
    ("so many", "n"),
    ("whoever drives", "the caller"),
];

/// All files below `folder` with this extension.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            files.extend(self::files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    files
}

const FOLDERS: [&str; 4] = ["core", "adapters", "tests", "fuzz"];

fn sources(extension: &str) -> impl Iterator<Item = (String, String)> {
    let files = FOLDERS.into_iter().flat_map(move |folder| files(&at(folder), extension));
    files.map(|path| (name(&path), fs::read_to_string(&path).unwrap()))
}

/// Path of a file within the repository.
fn name(path: &Path) -> String {
    path.strip_prefix(at("")).unwrap().display().to_string()
}

/// Numbers of the lines with a comment that are too wide.
fn too_wide(source: &str) -> Vec<usize> {
    let comments = (1..).zip(source.lines()).filter(|(_, line)| line.trim_start().starts_with("//"));
    comments.filter(|(_, line)| line.chars().count() > WIDTH).map(|(number, _)| number).collect()
}

/// The doc comments in `source`, each in one line.
fn documentation(source: &str) -> Vec<String> {
    let mut comments = vec![String::new()];
    for line in source.lines() {
        let line = line.trim_start();
        match line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) {
            Some(text) => *comments.last_mut().unwrap() += text,
            None => comments.push(String::new()),
        }
    }
    comments.retain(|comment| !comment.is_empty());
    comments
}

/// The phrases to avoid in `text`.
fn phrases(text: &str) -> Vec<&'static (&'static str, &'static str)> {
    let words = text
        .split(|at: char| !at.is_alphanumeric() && !matches!(at, '\'' | '_'))
        .filter(|word| !word.is_empty());
    let text = format!(" {} ", words.collect::<Vec<_>>().join(" ").to_lowercase());
    let count = |phrase: &str| text.matches(&format!(" {phrase} ")).count();
    PHRASES.iter().flat_map(|phrase| iter::repeat_n(phrase, count(phrase.0))).collect()
}

#[test]
fn comments_are_no_wider_than_the_code() {
    let wide: Vec<_> = sources("rs")
        .flat_map(|(file, source)| too_wide(&source).into_iter().map(move |line| format!("{file}:{line}")))
        .collect();
    assert!(wide.is_empty(), "{} comments are over {WIDTH} columns:\n{}", wide.len(), wide.join("\n"));
}

/// Help texts of the program are doc comments too.
#[test]
fn documentation_is_plain_english() {
    let pages = ["README.md", "SECURITY.md", "CONTRIBUTING.md"].map(|page| (page.to_owned(), at(page)));
    let pages = pages.into_iter().map(|(name, path)| (name, vec![fs::read_to_string(path).unwrap()]));
    let chapters = sources("md").map(|(file, text)| (file, vec![text]));
    let comments = sources("rs").map(|(file, source)| (file, documentation(&source)));
    let faults: Vec<String> = pages
        .chain(chapters)
        .chain(comments)
        .flat_map(|(file, texts)| {
            let faults = texts.iter().flat_map(|text| phrases(text)).collect::<Vec<_>>();
            faults.into_iter().map(move |(phrase, better)| format!("{file}: \"{phrase}\" -> \"{better}\""))
        })
        .collect();
    assert!(faults.is_empty(), "{} phrases:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_wide_comment_is_found() {
    let comment = |width: usize| format!("fn f() {{}}\n    // {}\n", "é".repeat(width - 7));
    assert_eq!(too_wide(&comment(110)), [0; 0]);
    assert_eq!(too_wide(&comment(111)), [2]);
    assert_eq!(too_wide(&comment(111).replace("//", "///")), [2]);
    assert_eq!(too_wide(&"f();".repeat(100)), [0; 0]);
}

#[test]
fn a_phrase_is_found_where_a_line_ends_within_it() {
    let source = "//! Takes two At the\n//! Most.\nfn f() {}\n    /// For ever.\n    // so many\n";
    let found: Vec<_> =
        documentation(source).iter().flat_map(|text| phrases(text)).map(|found| found.0).collect();
    assert_eq!(found, ["at the most", "for ever"]);
    assert!(phrases("At most foreverything, almost any moreover").is_empty());
}
