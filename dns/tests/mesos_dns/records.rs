//! State and configuration → the complete record set, as the shared cases have them, in both profiles.

use std::collections::{BTreeMap, BTreeSet};

use portolan_dns::mesos_dns::{Compat, Profile};
use serde_json::Value;

use crate::site::{Site, cases, settings, shared, state_of};
use crate::state::changes;

type Zone = BTreeMap<(String, String), BTreeSet<String>>;

fn expected(case: &Value, profile: &str) -> Zone {
    let mut zone = Zone::new();
    let rows = [&case["expect"], &case["expect_profile"][profile]];
    for row in rows.into_iter().filter_map(Value::as_array).flatten() {
        let key = (row["name"].as_str().unwrap().to_owned(), row["type"].as_str().unwrap().to_owned());
        let data = row["data"].as_array().unwrap().iter().map(|data| data.as_str().unwrap().to_owned());
        zone.entry(key).or_default().extend(data);
    }
    zone
}

/// The zone as `/v1/axfr` gives it, with the PTR records beside it as `/v1/enumerate` does.
fn served(site: &Site) -> Zone {
    let mut zone = Zone::new();
    let table = site.publisher.table();
    let snapshot = table.load();
    let of = &snapshot.view(site.key).zones()[0];
    let transfer = of.transfer(&snapshot).unwrap();
    for (rtype, names) in [("A", transfer.a), ("AAAA", transfer.aaaa)] {
        zone.extend(names.into_iter().map(|(name, data)| ((name, rtype.to_owned()), data)));
    }
    for (name, data) in transfer.srv {
        let rows = data.iter().map(|data| {
            let (target, port) = data.rsplit_once(':').unwrap();
            format!("0 1 {port} {target}")
        });
        zone.insert((name, "SRV".to_owned()), rows.collect());
    }
    for record in
        of.enumerate(&snapshot).unwrap().frameworks.iter().flat_map(|f| &f.tasks).flat_map(|t| &t.records)
    {
        if record.rtype == "PTR" {
            let reverse = portolan_dns::wire::reverse_name(record.host.parse().unwrap());
            let key = (portolan_dns::wire::name_to_text(&reverse), "PTR".to_owned());
            zone.entry(key).or_default().insert(record.name.clone());
        }
    }
    zone
}

#[test]
fn shared_cases_hold_in_both_profiles() {
    let (mut wrong, mut rows) = (Vec::new(), 0);
    for (path, case) in cases("records") {
        for (word, profile) in [("0.7", Profile::V0_7), ("0.8", Profile::V0_8)] {
            let (domain, settings) = settings(&case["config"], profile, Compat::Strict);
            let mut site = Site::new(&domain, settings);
            let masters: Vec<String> = case["config"]["masters"]
                .as_array()
                .map_or_else(Vec::new, |list| list.iter().map(|m| m.as_str().unwrap().to_owned()).collect());
            site.publisher.apply(changes(
                &state_of(&path, &case),
                &masters,
                case["leader_override"].as_str(),
            ));
            rows += expected(&case, word).len();
            compare(
                &case,
                &expected(&case, word),
                &served(&site),
                &format!("{} {word}", path.display()),
                &mut wrong,
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows > 1000 || shared("records").is_none(), "only {rows} record sets");
}

fn compare(case: &Value, expected: &Zone, served: &Zone, label: &str, wrong: &mut Vec<String>) {
    let unspecified: BTreeSet<&str> = case["unspecified_names"]
        .as_array()
        .map_or_else(BTreeSet::new, |names| names.iter().filter_map(Value::as_str).collect());
    // Without a profile of its own a case says nothing of PTR.
    let asserts_pointers = case["expect_profile"].is_object();
    for (key, data) in expected.iter().filter(|((name, _), _)| !unspecified.contains(&**name)) {
        if served.get(key) != Some(data) {
            wrong.push(format!("{label}: {key:?}\n  expected {data:?}\n  served   {:?}", served.get(key)));
        }
    }
    if case["complete"] == true {
        for (key, data) in served {
            let extra = !expected.contains_key(key) && !unspecified.contains(&*key.0);
            let names_odd = data.iter().any(|name| unspecified.contains(&**name));
            if extra && !names_odd && (key.1 != "PTR" || asserts_pointers) {
                wrong.push(format!("{label}: {key:?} {data:?} is too much"));
            }
        }
    }
    for row in case["absent"].as_array().into_iter().flatten() {
        let key = (row["name"].as_str().unwrap().to_owned(), row["type"].as_str().unwrap().to_owned());
        if served.contains_key(&key) {
            wrong.push(format!("{label}: {key:?} is there"));
        }
    }
}
