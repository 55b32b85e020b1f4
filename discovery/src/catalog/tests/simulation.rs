//! Random sequences against a small model, on a clock of their own. A failure prints its seed.
