//! A fake Consul that blocks as the real one does, held to what a real one answered.

mod fake;
mod follow;
mod recorded;
