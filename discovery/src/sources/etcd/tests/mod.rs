//! Layouts by tables, and the source against real etcd.

mod layouts;
mod real;
mod recorded;
mod server;
