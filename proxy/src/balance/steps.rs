//! What a pick costs, counted: cells of endpoints that are touched, and places of tables that are read. Tests hold
//! every policy to a number that does not grow with the endpoints; outside of tests nothing is counted.

#[cfg(test)]
std::thread_local! {
    static STEPS: core::cell::Cell<u64> = const { core::cell::Cell::new(0) };
}

/// Counts one step.
#[inline]
pub(crate) fn step() {
    #[cfg(test)]
    STEPS.with(|steps| steps.set(steps.get() + 1));
}

/// The steps of this thread while `run` runs.
#[cfg(test)]
pub(crate) fn counted<T>(run: impl FnOnce() -> T) -> (T, u64) {
    let before = STEPS.with(core::cell::Cell::get);
    let result = run();
    (result, STEPS.with(core::cell::Cell::get) - before)
}
