//! The source against a scripted Marathon on loopback, and conversion against tables.

mod conformance;
mod conversion;
mod crossing;
mod fake;
mod faults;
mod follow;
mod harness;

use super::super::told::endpoints;
