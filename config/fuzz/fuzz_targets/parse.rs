//! Any file is read or refused: no panic, no hang, and every mistake has a place inside the file.
//!
//! `cargo +nightly fuzz run parse` in `config/`. What it finds joins `corpus/parse`, which the crate's tests replay.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_config::{Config, Environment, render};

fuzz_target!(|text: &str| {
    let environment = Environment { host_name: "edge-1".into(), ..Environment::default() };
    if let Err(told) = Config::parse(text, "p.toml", &environment) {
        assert!(!told.list().is_empty());
        let lines = text.split('\n').count();
        assert!(told.list().iter().all(|mistake| (1..=lines).contains(&mistake.line) && mistake.column >= 1));
        assert!(render(told.list(), true).len() >= render(told.list(), false).len());
    }
});
