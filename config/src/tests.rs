//! Defaults, documents and examples hold together.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::select;

use crate::keys::{Absent, Keys, SECTIONS};
use crate::{Config, Environment, KnownKey, known_keys, render};

fn environment() -> Environment {
    Environment { host_name: "edge-1".into(), ..Environment::default() }
}

/// `[dns]` → `dns`.
fn path(keys: &Keys) -> &str {
    keys.title.trim_matches(['[', ']'])
}

/// Every default, written out, changes nothing.
#[test]
fn written_defaults_are_the_defaults() {
    let required = |title| match title {
        "[[source]]" => "type = \"marathon\"\nurls = [\"http://h\"]\n",
        "[source.auth]" => "type = \"none\"\n",
        "[[dns.zone]]" => "name = \"svc.cluster\"\n",
        "[[dns.key]]" => "name = \"transfer.example\"\nsecret_file = \"key\"\n",
        "[[dns.forward_zone]]" => "name = \"example.com\"\nforward = [\"192.0.2.53:53\"]\n",
        "[[proxy.certificate]]" => "path = \"a.pem\"\n",
        "[[proxy.route]]" => "service = \"web\"\n",
        "[[proxy.service]]" => "name = \"web\"\n",
        _ => "",
    };
    let (mut bare, mut full) = (String::new(), String::new());
    for keys in SECTIONS {
        if keys.title == "targets" {
            continue;
        }
        for text in [&mut bare, &mut full] {
            let _ = writeln!(text, "{}\n{}", keys.title, required(keys.title));
        }
        for key in keys.keys.iter().chain(keys.shared) {
            if let Absent::Toml(default) = key.default {
                let _ = writeln!(full, "{} = {default}", key.name);
            }
        }
        // An active check without a type is a mistake, not a default.
        if path(keys) == "proxy.upstream.check" {
            bare.push_str("type = \"none\"\n");
        }
    }
    let parse =
        |text: &str| Config::parse(text, "x.toml", &environment()).map_err(|e| format!("{e}\n{text}"));
    let (bare, full) = (parse(&bare).unwrap(), parse(&full).unwrap());
    assert_eq!(bare, full);
    assert!(full.discovery.sources.len() == 1 && full.dns.is_some() && !full.proxy.listeners.is_empty());
}

/// The same of a zone of the schema `mesos-dns`, which the one above is not.
#[test]
fn written_defaults_of_a_mesos_dns_zone_are_the_defaults() {
    let zone = |keys: &str| {
        let text = format!("[dns]\n[[dns.zone]]\nname = \"mesos\"\nschema = \"mesos-dns\"\n{keys}");
        Config::parse(&text, "x.toml", &environment()).unwrap_or_else(|told| panic!("{told}")).dns
    };
    let mut written = "[dns.zone.mesos_dns]\n".to_owned();
    for key in known_keys().filter(|key| key.section == "[dns.zone.mesos_dns]") {
        if let Some(default) = key.default {
            let _ = writeln!(written, "{} = {default}", key.name);
        }
    }
    assert!(written.lines().count() > 10);
    assert_eq!(zone(""), zone(&written));
}

fn crate_file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Section, key and default of every known key, as the document writes them.
fn expected_rows() -> BTreeSet<(String, String, String)> {
    let row = |key: KnownKey| {
        let default =
            key.default.map_or_else(|| key.default_words.to_owned(), |default| format!("`{default}`"));
        (key.section.to_owned(), key.name.to_owned(), default)
    };
    known_keys().map(row).collect()
}

/// `docs/configuration.md` holds every key with its default, and no other.
#[test]
fn the_document_and_the_keys_agree() {
    let mut rows = BTreeSet::new();
    let mut section = String::new();
    for line in crate_file("../docs/configuration.md").lines() {
        if let Some(title) = line.strip_prefix("## `") {
            section = title.trim_end_matches('`').to_owned();
        }
        if let Some(row) = line.strip_prefix("| `") {
            let cells: Vec<&str> = row.trim_end_matches(" |").split(" | ").collect();
            let [key, default, meaning] = cells[..] else { panic!("three cells: {line}") };
            assert!(meaning.ends_with('.'), "a meaning: {line}");
            rows.insert((section.clone(), key.trim_end_matches('`').to_owned(), default.to_owned()));
        }
    }
    let expected = expected_rows();
    let missing: Vec<_> = expected.difference(&rows).collect();
    let strange: Vec<_> = rows.difference(&expected).collect();
    assert!(missing.is_empty() && strange.is_empty(), "missing: {missing:#?}\nnot known: {strange:#?}");
}

/// `docs/sources.md` has a row for every type that may be written, and names tests that are there.
#[test]
fn the_table_of_sources_and_the_types_agree() {
    let mut rows = BTreeSet::new();
    let text = crate_file("../docs/sources.md");
    let table = text.lines().skip_while(|line| !line.starts_with("| type")).skip(2);
    for row in table.take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [kind, read, permission, failure, tested] = cells[..] else { panic!("five cells: {row}") };
        assert!([read, permission, failure].iter().all(|cell| !cell.is_empty()), "{row}");
        let places: Vec<&str> = tested.split('`').skip(1).step_by(2).collect();
        assert!(!places.is_empty(), "names no test: {row}");
        for place in places {
            crate_file(&format!("../{place}"));
        }
        rows.insert(kind.split('`').nth(1).unwrap_or_else(|| panic!("no type: {row}")).to_owned());
    }
    let types: BTreeSet<String> = crate::source::TYPES.iter().map(|(word, _)| (*word).to_owned()).collect();
    assert_eq!(rows, types);
}

/// `portolan.toml` holds every key: with its default where that is a value, else (or as a sample) behind `# `.
#[test]
fn the_reference_file_holds_every_key() {
    let text = crate_file("examples/portolan.toml");
    for key in known_keys().filter(|key| key.section != "targets") {
        let (_, rest) =
            text.split_once(&format!("\n{}\n", key.section)).unwrap_or_else(|| panic!("{}", key.section));
        let body = rest.split("\n[").next().unwrap_or("");
        let line = body.lines().find_map(|line| {
            let line = line.strip_prefix("# ").unwrap_or(line);
            line.strip_prefix(key.name)?.strip_prefix(" = ")
        });
        assert!(line.is_some(), "{} {}", key.section, key.name);
    }
}

/// The values of the reference file are the defaults: without the lines that say so, it means the same.
#[test]
fn the_reference_file_holds_the_defaults() {
    let parse =
        |text: &str| Config::parse(text, "x.toml", &environment()).unwrap_or_else(|told| panic!("{told}"));
    let text = crate_file("examples/portolan.toml");
    let mut section = "";
    let mut bare = String::new();
    let mut inside_list = false;
    for line in text.lines() {
        if line.starts_with('[') {
            section = line;
        }
        let name = line.split_once(" = ").map_or("", |(name, _)| name);
        let known = known_keys().find(|key| key.section == section && key.name == name);
        // `type = "none"` of a check must be said; a list over several lines goes as a whole.
        let stays = known.is_none_or(|key| key.default.is_none())
            || (section, name) == ("[proxy.upstream.check]", "type");
        if inside_list || !stays {
            inside_list = if inside_list { line != "]" } else { line.ends_with('[') };
            continue;
        }
        bare.push_str(line);
        bare.push('\n');
    }
    assert!(bare.lines().count() < text.lines().count() - 50, "defaults were taken out");
    let (written, bare) = (parse(&text), parse(&bare));
    assert_eq!(written, bare);
}

#[test]
fn every_example_parses() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let config = Config::load(&path, &environment()).unwrap_or_else(|told| panic!("{told}"));
        assert!(!config.discovery.sources.is_empty(), "{}", path.display());
        names.insert(path.file_stem().unwrap().to_string_lossy().into_owned());
    }
    let expected = [
        "dcos",
        "docker",
        "edge",
        "file",
        "https",
        "kubernetes",
        "marathon",
        "marathon-tls",
        "mesos",
        "portolan",
        "registries",
        "secondaries",
    ]
    .map(str::to_owned);
    assert_eq!(names, BTreeSet::from(expected));
}

proptest! {
    /// No text makes the reader panic, and what it says about a text always has a place inside it.
    #[test]
    fn any_text_is_read_or_refused(text in any_text()) {
        if let Err(told) = Config::parse(&text, "p.toml", &environment()) {
            let lines = text.split('\n').count();
            prop_assert!(!told.list().is_empty());
            for mistake in told.list() {
                prop_assert!((1..=lines).contains(&mistake.line) && mistake.column >= 1);
                prop_assert!(!mistake.message.contains('\n'));
            }
            let places: Vec<_> = told.list().iter().map(|mistake| (mistake.line, mistake.column)).collect();
            prop_assert!(places.is_sorted());
            let _ = render(told.list(), true);
        }
    }

    /// Times and sizes: what is written with units means their sum.
    #[test]
    fn times_are_the_sum_of_their_parts(h in 0_u64..1000, m in 0_u64..1000, s in 0_u64..1000, ms in 0_u64..1000) {
        let time = crate::value::parse_time(&format!("{h}h{m}m{s}s{ms}ms"));
        prop_assert_eq!(time, Some(std::time::Duration::from_millis(((h * 60 + m) * 60 + s) * 1000 + ms)));
        let shown = crate::value::show_time(time.unwrap());
        prop_assert_eq!(crate::value::parse_time(&shown), time);
    }
}

/// Arbitrary characters, and pieces of real files with damage, which get further.
fn any_text() -> impl Strategy<Value = String> {
    let whole =
        ["portolan", "edge", "dcos"].map(|name| crate_file(&format!("examples/{name}.toml"))).concat();
    let pieces: Vec<String> = whole
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .flat_map(|line| [line.to_owned() + "\n", line.chars().take(line.chars().count() / 2).collect()])
        .chain(
            ["\"", "[", "]]", "{", "= 1\n", "\n", "\u{0}", "é", "'''", "a.b = ", "-1", "9e99", "\r"]
                .map(str::to_owned),
        )
        .collect();
    prop_oneof![
        any::<String>(),
        proptest::collection::vec(select(pieces), 0..40).prop_map(|pieces| pieces.concat())
    ]
}
