//! Portolan binary.
fn main() {}
