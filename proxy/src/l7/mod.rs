//! HTTP: an HTTP/1.1 engine of our own on the raw head, and HTTP/2 in front of it and behind it.
//!
//! ```text
//!  Connection ── head judged raw (request) ── route ── Exchange ──┬─ pool / connect ─ head written
//!      ▲                                                          ├─ head of the response judged (response)
//!      │  keep-alive                                              ├─ content both ways (pump, chunked)
//!      └──────────────────────────────────────────────────────────┴─ or a tunnel (l4), after 101
//! ```
//!
//! One task per downstream connection does everything: reads the request, picks an endpoint, relays both
//! directions. No byte crosses a thread, no request needs a channel, a lock, a timer or a task of its own.

mod buffer;
mod chunked;
mod clock;
mod connection;
mod exchange;
mod head;
mod http2;
mod link;
mod multiplex;
pub(crate) mod oracle;
mod origin;
mod pool;
mod pump;
mod refusal;
mod request;
mod response;

pub(crate) use buffer::{Buffer, LARGE, SMALL, Stock, WIRE};
pub(crate) use clock::{Clock, TICK};
pub(crate) use connection::Connection;
pub(crate) use multiplex::Multiplex;
pub(crate) use origin::ListenerState;
pub(crate) use pool::Pool;
pub(crate) use refusal::{OVERLOADED, PLAIN_HTTP, Refusal};
