//! The floors of a crate: each room of its `src`, a file or a folder, imports only from rooms below it. It
//! imports from where a name is defined rather than through `lib.rs`, so that imports show the floor.

use std::collections::BTreeSet;

use crate::at;
use crate::paths::{self, Imports};

/// Rooms, and the rooms that each of them may import, besides [`Floors::ground`] and the rooms in its own
/// row. Where a room has names in braces, only those names.
struct Floors {
    ground: &'static str,
    rows: &'static [(&'static str, &'static str)],
}

const CORE: Floors = Floors {
    ground: "time stats deadline config error dropped pending copy hint messages hidden",
    rows: &[
        ("backoff wheel ring", ""),
        ("codec", ""),
        ("memory", "codec"),
        ("http", ""),
        ("deflate", ""),
        ("upgrade", "http"),
        ("close", "upgrade"),
        ("event", "close upgrade"),
        ("layer", "event memory deflate"),
        ("session", "codec memory close event layer upgrade{Request,Verdict,RespondError}"),
        (
            "framed layered websocket",
            "session{Host,Protocol,In,Out,Sealed,Due,Found,Unfinished} codec layer event close http upgrade deflate",
        ),
        ("datagram", "codec close event wheel ring"),
        ("rpc", "codec close wheel deflate"),
        ("discovery", "http codec backoff"),
        ("balance", "discovery backoff"),
    ],
};

const DRIVER: Floors = Floors {
    ground: "",
    rows: &[
        ("socket", ""),
        ("runtime", "socket"),
        ("session", "runtime"),
        ("drive", "session runtime socket{errors}"),
        ("endpoint", "drive session runtime socket"),
        ("discovery", "endpoint"),
        ("rpc", "endpoint session drive discovery runtime{Runtime,Spawn,lend_coders}"),
    ],
};

impl Floors {
    /// The row of `room`: all rooms in that row, and those that they may import.
    fn row(&self, room: &str) -> Option<(&str, &str)> {
        let mut rows = [(self.ground, "")].into_iter().chain(self.rows.iter().copied());
        rows.find(|(rooms, _)| has(rooms, room))
    }

    fn allows(&self, row: (&str, &str), to: &[String]) -> bool {
        let (beside, below) = row;
        let some = below.split(' ').filter_map(|room| room.strip_suffix('}')?.split_once('{'));
        [self.ground, beside, below].iter().any(|rooms| has(rooms, &to[0]))
            || some
                .filter(|(room, _)| *room == to[0])
                .any(|(_, names)| names.split(',').any(|name| to.iter().any(|part| part == name)))
    }

    /// The faults in the imports of a crate, one line each.
    fn faults(&self, imports: &Imports) -> Vec<String> {
        let mut faults = Vec::new();
        for room in &imports.rooms {
            if self.row(room).is_none() {
                faults.push(format!("{room}: not in the table of this test: where does it belong?"));
            }
        }
        for import in &imports.all {
            // `lib.rs` may show everything.
            let Some((room, to)) = import.from.first().zip(import.to.first()) else { continue };
            let fault = match self.row(room) {
                _ if room == to => continue,
                _ if !imports.rooms.contains(to) => "import it from where it is defined".to_owned(),
                Some(row) if !self.allows(row, &import.to) => format!("{room} may not import it"),
                _ => continue,
            };
            faults.push(format!("{}: {}: {fault}", import.from.join("/"), import.to.join("::")));
        }
        let rooms = in_circles(imports);
        if !rooms.is_empty() {
            faults.push(format!("these import each other in circles: {}", rooms.join(" ")));
        }
        faults
    }
}

fn has(rooms: &str, room: &str) -> bool {
    rooms.split(' ').any(|one| one == room)
}

/// The rooms in circles of imports, and the rooms between circles.
fn in_circles(imports: &Imports) -> Vec<&str> {
    let room =
        |names: &'_ [String]| names.first().and_then(|name| imports.rooms.get(name)).map(String::as_str);
    let arrows = imports.all.iter().filter_map(|import| room(&import.from).zip(room(&import.to)));
    let mut arrows: BTreeSet<(&str, &str)> = arrows.filter(|(from, to)| from != to).collect();
    loop {
        let before = arrows.len();
        let [from, to]: [BTreeSet<&str>; 2] =
            [arrows.iter().map(|arrow| arrow.0).collect(), arrows.iter().map(|arrow| arrow.1).collect()];
        arrows.retain(|arrow| to.contains(arrow.0) && from.contains(arrow.1));
        if arrows.len() == before {
            return from.into_iter().collect();
        }
    }
}

#[track_caller]
fn assert_keeps_to(floors: &Floors, src: &str) {
    let faults = floors.faults(&paths::of_crate(&at(src)));
    assert!(faults.is_empty(), "{} faults in {src}:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn rooms_of_the_core_import_only_what_is_below_them() {
    assert_keeps_to(&CORE, "core/src");
}

#[test]
fn rooms_of_the_driver_import_only_what_is_below_them() {
    assert_keeps_to(&DRIVER, "adapters/driver/src");
}

/// The faults of a crate like the core that has these rooms, with `source` as the content of one file.
fn faults(floors: &Floors, rooms: &[&str], file: &str, source: &str) -> Vec<String> {
    let rooms = rooms.iter().map(|&room| room.to_owned()).collect();
    let imports = paths::of_file(source, file.split('/').map(str::to_owned).collect()).imports;
    floors.faults(&Imports { rooms, all: imports })
}

#[test]
fn an_import_against_the_arrows_is_a_fault() {
    let rooms = ["session", "time", "upgrade", "websocket"];
    let in_session = |source: &str| faults(&CORE, &rooms, "session/state", source);
    let fault = "session/state: websocket::Close: session may not import it";
    assert_eq!(in_session("use crate::websocket::Close;"), [fault]);
    assert_eq!(in_session("fn f(_: crate::websocket::Close) {}"), [fault]);
    assert_eq!(in_session("use super::super::websocket::Close;"), [fault]);
    assert_eq!(in_session("use super::phase::Phase; use crate::time::Timestamp;"), [""; 0]);
    assert_eq!(in_session("use crate::upgrade::request::Request;"), [""; 0]);
    let fault = "session/state: upgrade::request::Origin: session may not import it";
    assert_eq!(in_session("use crate::upgrade::request::Origin;"), [fault]);
    assert_eq!(faults(&CORE, &rooms, "websocket/machine", "use crate::session::Host;"), [""; 0]);
}

#[test]
fn names_come_from_where_they_are_defined() {
    let fault = "session: Config: import it from where it is defined";
    assert_eq!(faults(&CORE, &["config", "session"], "session", "use crate::Config;"), [fault]);
    let fault = "config: *: import it from where it is defined";
    assert_eq!(faults(&CORE, &["config", "session"], "config", "use super::*;"), [fault]);
    assert_eq!(faults(&CORE, &["config", "session"], "session", "use crate::config::Config;"), [""; 0]);
}

#[test]
fn a_room_that_nobody_has_placed_is_a_fault() {
    let fault = "attic: not in the table of this test: where does it belong?";
    assert_eq!(faults(&CORE, &["attic"], "attic", ""), [fault]);
}

/// Rooms of one row may import each other, but not in circles.
#[test]
fn circles_are_found() {
    let source = "mod time { use crate::stats::A; } mod stats { use crate::time::B; } mod event { use crate::time::C; }";
    let imports = paths::of_file(source, Vec::new()).imports;
    let rooms = ["event", "stats", "time"].map(str::to_owned).into();
    let circle = "these import each other in circles: stats time";
    assert_eq!(CORE.faults(&Imports { rooms, all: imports }), [circle]);
}
