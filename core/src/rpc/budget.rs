//! [`Budget`]: how much useless work a peer may cause.

use crate::rpc::config::Config;
use crate::time::Timestamp;

const SECOND: u64 = 1_000_000_000;

/// A bucket of tokens: one is taken for each piece of useless work. It is full at first and fills with time,
/// and with every call that is answered.
#[derive(Debug)]
pub(crate) struct Budget {
    tokens: u32,
    /// The time up to which tokens were added.
    filled: Timestamp,
}

impl Budget {
    pub(crate) fn new(config: &Config, now: Timestamp) -> Self {
        Budget { tokens: config.reset_burst(), filled: now }
    }

    /// Takes a token. Returns false if there is none.
    pub(crate) fn take(&mut self, config: &Config, now: Timestamp) -> bool {
        let burst = config.reset_burst();
        // Nanoseconds for one token. A rate of 0 brings none.
        if let Some(period) = SECOND.checked_div(config.reset_rate().into()).map(|period| period.max(1)) {
            let passed = now.as_nanos().saturating_sub(self.filled.as_nanos());
            let tokens = u32::try_from(passed / period).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(tokens).min(burst);
            self.filled = if self.tokens == burst {
                self.filled.max(now)
            } else {
                Timestamp::from_nanos(self.filled.as_nanos() + u64::from(tokens) * period)
            };
        }
        let left = self.tokens.checked_sub(1);
        self.tokens = left.unwrap_or(0);
        left.is_some()
    }

    /// Returns a token for a call that was answered.
    pub(crate) fn refund(&mut self, config: &Config) {
        self.tokens = self.tokens.saturating_add(1).min(config.reset_burst());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn budget(burst: u32, rate: u32) -> (Budget, Arc<Config>) {
        let config = Config::builder().resets(burst, rate).build().unwrap();
        (Budget::new(&config, Timestamp::ORIGIN), config)
    }

    /// The number of tokens that can be taken at `nanos`.
    fn all((budget, config): &mut (Budget, Arc<Config>), nanos: u64) -> u32 {
        let mut taken = 0;
        while budget.take(config, Timestamp::from_nanos(nanos)) {
            taken += 1;
        }
        taken
    }

    #[test]
    fn tokens_come_with_time_up_to_the_burst() {
        let mut budget = budget(10, 4);
        assert_eq!(all(&mut budget, 0), 10);
        assert_eq!(all(&mut budget, SECOND / 4 - 1), 0);
        assert_eq!(all(&mut budget, SECOND / 4), 1, "the part of a token that had come is not lost");
        assert_eq!(all(&mut budget, SECOND), 3);
        assert_eq!(all(&mut budget, u64::MAX - 1), 10);
        assert_eq!(all(&mut budget, 0), 0, "a clock that goes back brings nothing");
    }

    #[test]
    fn answers_bring_tokens_up_to_the_burst() {
        let mut budget = budget(2, 0);
        budget.0.refund(&budget.1);
        assert_eq!(all(&mut budget, SECOND), 2);
        budget.0.refund(&budget.1);
        assert_eq!(all(&mut budget, SECOND), 1);
    }
}
