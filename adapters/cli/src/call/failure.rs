//! Failures of calls, in one line.

use getty_driver::rpc::{Code, Decode, Executed, Status};

use super::form::{Form, Printed};

/// A failure before anything was called.
pub fn not_executed(code: Code, text: impl Into<String>) -> Status {
    Status::new(code, text.into()).with_executed(Executed::No)
}

/// Describes a failure: the code, the message, the error of the method if it is in JSON, and whether the call
/// was executed.
pub fn describe(status: &Status) -> String {
    let executed = match status.executed() {
        Executed::No => "not executed",
        Executed::Maybe => "perhaps executed",
        Executed::Yes => "executed",
    };
    let details = match Form::Json.decode(status.details().clone()) {
        Ok(Printed(json)) => format!(": {}", String::from_utf8_lossy(&json)),
        Err(_) => String::new(),
    };
    let text = format!("{:?}: {}{details} ({executed})", status.code(), status.message());
    plain(&text)
}

/// Replaces what is no text, such as the end of a line, in a text of the peer.
pub fn plain(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line() {
        let status = Status::not_found("no\nroom\x1b[2J").with_executed(Executed::Maybe);
        assert_eq!(describe(&status), "NotFound: no room [2J (perhaps executed)");
        let status = Status::aborted("why").with_details("{\"a\": 1}".into());
        assert_eq!(describe(&status), "Aborted: why: {\"a\":1} (executed)");
        let status = Status::aborted("why").with_details("\x08\x01".into());
        assert_eq!(describe(&status), "Aborted: why (executed)");
    }
}
