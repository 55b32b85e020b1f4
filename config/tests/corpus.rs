//! The fuzz corpus, replayed: nothing in it makes the reader panic, and its mistakes have places.

use std::path::Path;

use portolan_config::{Config, Environment, render};

#[test]
fn the_corpus_of_parse_is_read_or_refused() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/parse");
    let environment = Environment { host_name: "edge-1".into(), ..Environment::default() };
    let (mut read, mut refused) = (0, 0);
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let Ok(text) = String::from_utf8(bytes) else { continue };
        match Config::parse(&text, "p.toml", &environment) {
            Ok(_) => read += 1,
            Err(told) => {
                refused += 1;
                let lines = text.split('\n').count();
                let inside = |mistake: &portolan_config::Mistake| (1..=lines).contains(&mistake.line);
                assert!(told.list().iter().all(inside), "{}: {told}", path.display());
                assert!(!render(told.list(), true).is_empty());
            }
        }
    }
    assert!(read > 0 && refused > 10, "{read} read, {refused} refused");
}
