//! Keeps the tree as the house plan says: edges of the crate graph, file sizes, names, what the docs promise.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines without tests above which a file must be argued for, see `EXEMPT`.
const FILE_LINES_MAX: usize = 700;
/// Flat tables and the like.
const EXEMPT: &[&str] = &[];
/// Module names that say nothing.
const BANNED_STEMS: &[&str] = &["utils", "util", "helpers", "helper", "common", "misc", "manager"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(directory: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                files(&path, extension, found);
            }
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(&root(), "rs", &mut found);
    assert!(found.len() > 50, "the walk found only {} files", found.len());
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// The workspace crates a manifest depends on outside its tests.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(manifest)).unwrap();
    let table: toml::Table = text.parse().unwrap();
    let dependencies = table["dependencies"].as_table().unwrap();
    dependencies.keys().filter_map(|name| name.strip_prefix("portolan-")).map(str::to_owned).collect()
}

#[test]
fn dependencies_point_down_only() {
    let expect = |manifest, names: &[&str]| {
        assert_eq!(dependencies(manifest), names.iter().map(|n| (*n).to_owned()).collect(), "{manifest}");
    };
    expect("discovery/table/Cargo.toml", &[]);
    expect("discovery/Cargo.toml", &["table"]);
    expect("dns/Cargo.toml", &["table"]);
    expect("proxy/Cargo.toml", &["table"]);
    expect("config/Cargo.toml", &["table", "discovery", "dns", "proxy"]);
    expect("Cargo.toml", &["table", "discovery", "dns", "proxy", "config"]);
}

#[test]
fn versions_stand_in_the_root_manifest_alone() {
    for manifest in ["discovery/table", "discovery", "dns", "proxy", "config"] {
        let text = fs::read_to_string(root().join(manifest).join("Cargo.toml")).unwrap();
        let table: toml::Table = text.parse().unwrap();
        for section in ["dependencies", "dev-dependencies"] {
            for (name, value) in table.get(section).and_then(toml::Value::as_table).into_iter().flatten() {
                let from_workspace = value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
                assert!(from_workspace, "{manifest}: {name} has a version of its own");
            }
        }
    }
}

#[test]
fn files_stay_small() {
    let mut large = Vec::new();
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        let body = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let tests = shown(&path).contains("tests");
        if !tests && body.lines().count() > FILE_LINES_MAX && !EXEMPT.contains(&shown(&path).as_str()) {
            large.push(format!("{}: {} lines", shown(&path), body.lines().count()));
        }
    }
    assert!(large.is_empty(), "too large:\n{}", large.join("\n"));
}

#[test]
fn modules_have_names() {
    let nameless: Vec<_> = sources()
        .into_iter()
        .filter(|path| BANNED_STEMS.contains(&path.file_stem().unwrap().to_string_lossy().as_ref()))
        .map(|path| shown(&path))
        .collect();
    assert!(nameless.is_empty(), "{nameless:?}");
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|path| !path.components().any(|c| c.as_os_str() == "fuzz"))
        .filter(|path| !fs::read_to_string(path).unwrap().starts_with("//!"))
        .map(|path| shown(&path))
        .collect();
    assert!(silent.is_empty(), "without a module comment: {silent:?}");
}

#[test]
fn the_project_speaks_of_itself_alone() {
    let mut all = sources();
    for extension in ["md", "toml", "yml", "yaml", "sh", "py"] {
        files(&root(), extension, &mut all);
    }
    // Spelt in two halves, so that this file does not hold them.
    let banned =
        [concat!("/wo", "rk/"), concat!("/tm", "p/tgt"), concat!("crates", ".io"), concat!("pypi", ".org")];
    let mut found = Vec::new();
    for path in all {
        let text = fs::read_to_string(&path).unwrap();
        for word in banned {
            if text.contains(word) {
                found.push(format!("{}: {word}", shown(&path)));
            }
        }
    }
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn benches_that_documents_name_are_there() {
    let manifest: toml::Table = fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let benches: BTreeSet<&str> =
        manifest["bench"].as_array().unwrap().iter().filter_map(|bench| bench["name"].as_str()).collect();
    let mut documents = Vec::new();
    files(&root(), "md", &mut documents);
    let (mut named, mut missing) = (0, Vec::new());
    for path in documents {
        let text = fs::read_to_string(&path).unwrap();
        for rest in text.split("--bench ").skip(1) {
            let name: String =
                rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
            named += 1;
            if !benches.contains(&*name) {
                missing.push(format!("{}: {name}", shown(&path)));
            }
        }
    }
    assert!(named >= benches.len(), "the documents name only {named} benches");
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut documents = Vec::new();
    files(&root(), "md", &mut documents);
    let mut broken = Vec::new();
    for path in documents {
        let text = fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            if !path.parent().unwrap().join(target).exists() {
                broken.push(format!("{} -> {link}", shown(&path)));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:?}");
}
