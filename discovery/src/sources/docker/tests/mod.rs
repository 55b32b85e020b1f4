//! Containers and swarms of a real engine, and what one answered.

mod real;
mod recorded;
mod server;
