//! A fake API server with versions, pages, watches and refusals, held to what a real one answered.

mod fake;
mod follow;
mod recorded;
