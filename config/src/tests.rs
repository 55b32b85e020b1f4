//! Defaults, documents and examples hold together.

use std::fmt::Write as _;

use crate::keys::{Absent, Keys, SECTIONS};
use crate::{Config, Environment};

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
