//! Replays the seeds of fuzzing: each as it is, cut short at many places, and with single octets changed.

use std::path::Path;

pub(super) fn replay(target: &str, entry: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = std::fs::read_dir(folder).unwrap();
    let seeds: Vec<Vec<u8>> = files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
    assert!(!seeds.is_empty(), "the corpus of {target} is not there");
    for seed in seeds {
        entry(&seed);
        for at in (0..seed.len()).step_by(1 + seed.len() / 397) {
            entry(&seed[..at]);
            for by in [1, 7, 128] {
                let mut changed = seed.clone();
                changed[at] = changed[at].wrapping_add(by);
                entry(&changed);
            }
        }
    }
}
