//! [`Terms`]: the options of every call.

use std::time::Instant;

use getty_driver::rpc::{Calling, Metadata};

/// The time limit and the metadata of calls.
pub struct Terms<'a> {
    pub deadline: Option<Instant>,
    pub metadata: &'a [(String, String)],
}

impl Terms<'_> {
    pub fn apply<S>(&self, calling: Calling<S>) -> Calling<S> {
        let calling = match self.deadline {
            Some(deadline) => calling.timeout(deadline.saturating_duration_since(Instant::now())),
            None => calling,
        };
        self.metadata.iter().fold(calling, |calling, (key, value)| calling.metadata(key, value))
    }
}

/// Parses `KEY=VALUE`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    let Some((key, value)) = text.split_once('=') else { return Err("expected KEY=VALUE".to_owned()) };
    Metadata::new().insert(key, value).map_err(|error| error.to_string())?;
    Ok((key.to_owned(), value.to_owned()))
}
