//! What one repetition gives.

/// What a load has seen.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    /// Operations done (queries, requests, connections, octets).
    pub(crate) operations: f64,
    /// Operations whose answer was wrong or missing.
    pub(crate) errors: u64,
    /// Latency in µs that half of the operations kept below, where the load takes it.
    pub(crate) p50: Option<f64>,
    /// And 99 of 100.
    pub(crate) p99: Option<f64>,
}

/// One repetition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) outcome: Outcome,
    /// Wall time.
    pub(crate) seconds: f64,
    /// CPU time of the server.
    pub(crate) server: f64,
    /// CPU time of everything that belongs to the load (generator and upstreams).
    pub(crate) load: f64,
    /// CPU time of the machine that belongs to neither.
    pub(crate) other: f64,
    /// Octets of resident memory of the server afterwards.
    pub(crate) resident: u64,
}

impl Sample {
    /// CPU microseconds per operation.
    pub(crate) fn cost(&self) -> f64 {
        self.server * 1e6 / self.outcome.operations
    }
}

/// The middle one; of an even number the lower of the two.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// Latencies of one repetition, in µs.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<u32>);

impl Latencies {
    /// Adds one.
    pub(crate) fn add(&mut self, time: std::time::Duration) {
        self.0.push(u32::try_from(time.as_nanos() / 100).unwrap_or(u32::MAX));
    }

    /// The value that `share` of them keep below, in µs.
    pub(crate) fn at(&mut self, share: f64) -> Option<f64> {
        let index = ((self.0.len() as f64 * share).ceil() as usize).checked_sub(1)?;
        Some(f64::from(*self.0.select_nth_unstable(index).1) / 10.0)
    }
}
