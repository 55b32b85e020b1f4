//! Load generators, and what stands behind the proxies. All of it runs on CPU 1.

pub(crate) mod dns;
pub(crate) mod h2load;
pub(crate) mod handshake;
pub(crate) mod origin;
pub(crate) mod paced;
pub(crate) mod probe;
pub(crate) mod questions;
pub(crate) mod relay;
pub(crate) mod sink;
pub(crate) mod wrk;
