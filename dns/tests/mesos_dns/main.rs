//! The schema `mesos-dns` from the outside: a state put into the table, records and answers read back. Cases that
//! several projects share run where their folder lies beside this one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod answers;
mod following;
mod records;
mod site;
mod state;
