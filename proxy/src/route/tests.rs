//! The order of rules, the lookup against its plain meaning, and what a change rebuilds.

use core::cmp::Reverse;
use std::sync::Arc;

use portolan_table::{
    ChangeSet, HeaderMatch, HostMatch, PathMatch, RouteOrigin, RouteSpec, RouteTarget, ServiceName, SourceId,
};
use proptest::prelude::*;

use super::*;
use crate::fixture::{self, World, rule};
use crate::{Balance, HashKey};

type Headers = &'static [(&'static str, &'static str)];

fn host(text: &str) -> HostMatch {
    match text {
        "" => HostMatch::Any,
        _ => match text.strip_prefix("*.") {
            Some(domain) => HostMatch::Below(domain.into()),
            None => HostMatch::Exact(text.into()),
        },
    }
}

fn path(text: &str) -> PathMatch {
    if let Some(exact) = text.strip_prefix('=') {
        PathMatch::Exact(exact.into())
    } else if let Some(regex) = text.strip_prefix('~') {
        PathMatch::Regex(regex.into())
    } else {
        PathMatch::Prefix(text.into())
    }
}

/// `name host path METHOD header=value`, absent parts as `-`.
fn written(text: &str) -> RouteSpec {
    let part: Vec<&str> = text.split_whitespace().map(|part| if part == "-" { "" } else { part }).collect();
    let mut spec = rule(part[0], "x");
    spec.matches.host = host(part[1]);
    spec.matches.path = path(part[2]);
    spec.matches.methods = part.get(3).into_iter().filter(|m| !m.is_empty()).map(|m| Arc::from(*m)).collect();
    for header in part.get(4..).unwrap_or_default() {
        let (name, value) = header.split_once('=').map_or((*header, None), |(n, v)| (n, Some(v.into())));
        spec.matches.headers.push(HeaderMatch { name: name.into(), value });
    }
    spec
}

fn routes(rules: &[&str]) -> Routes {
    let specs = rules.iter().map(|text| written(text)).collect();
    RouteBuilder::new(&fixture::config(specs)).build(&portolan_table::Core::default())
}

fn find<'a>(routes: &'a Routes, host: &str, path: &str, method: &str, fields: Headers) -> &'a str {
    let query = Query { listener: "web", host: Some(host.as_bytes()), path, method, fields };
    let found = routes.find(&query);
    let explained = routes.explain(&query).into_iter().find(|step| step.verdict == Verdict::Chosen);
    assert_eq!(
        found.map(|route| &route.spec),
        explained.as_ref().map(|step| &step.route.spec),
        "explain tells another story"
    );
    found.map_or("none", |route| &route.spec.name)
}

use portolan_table::ViewBuilder;

#[test]
fn precedence() {
    let routes = routes(&[
        "exact-host shop.example.com /",
        "exact-host-exact-path shop.example.com =/a",
        "exact-host-prefix shop.example.com /a",
        "exact-host-long-prefix shop.example.com /a/b/c",
        "exact-host-regex shop.example.com ~/r[0-9]+",
        "wildcard-long *.shop.example.com /",
        "wildcard *.example.com /",
        "wildcard-exact-path *.example.com =/only-there",
        "post shop.example.com /m POST",
        "any-method shop.example.com /m",
        "get-or-head shop.example.com /h GET",
        "two-headers shop.example.com /h - x-a=1 x-b",
        "one-header shop.example.com /h - x-a=1",
        "no-header shop.example.com /h",
        "any-host-exact - =/a",
        "any-host-admin - /admin",
    ]);
    for (host, path, method, fields, want) in [
        ("shop.example.com", "/", "GET", &[] as Headers, "exact-host"),
        ("SHOP.Example.com:8080", "/zzz", "GET", &[], "exact-host"),
        ("shop.example.com.", "/a", "GET", &[], "exact-host-exact-path"),
        ("shop.example.com", "/a/", "GET", &[], "exact-host-prefix"),
        ("shop.example.com", "/a/x", "GET", &[], "exact-host-prefix"),
        ("shop.example.com", "/ab", "GET", &[], "exact-host"),
        ("shop.example.com", "/a/b/c", "GET", &[], "exact-host-long-prefix"),
        ("shop.example.com", "/a/b/c/d", "GET", &[], "exact-host-long-prefix"),
        ("shop.example.com", "/a/b/cd", "GET", &[], "exact-host-prefix"),
        // A prefix comes before every regular expression.
        ("shop.example.com", "/r12", "GET", &[], "exact-host"),
        ("a.shop.example.com", "/", "GET", &[], "wildcard-long"),
        ("a.b.shop.example.com", "/", "GET", &[], "wildcard-long"),
        ("b.example.com", "/", "GET", &[], "wildcard"),
        ("b.example.com", "/only-there", "GET", &[], "wildcard-exact-path"),
        ("a.shop.example.com", "/only-there", "GET", &[], "wildcard-long"),
        ("example.com", "/", "GET", &[], "none"),
        (".example.com", "/", "GET", &[], "none"),
        ("example.com", "/a", "GET", &[], "any-host-exact"),
        ("", "/a", "GET", &[], "any-host-exact"),
        ("[::1]:80", "/admin/x", "GET", &[], "any-host-admin"),
        ("notexample.com", "/", "GET", &[], "none"),
        ("shop.example.com", "/m", "POST", &[], "post"),
        ("shop.example.com", "/m", "GET", &[], "any-method"),
        ("shop.example.com", "/h", "GET", &[("x-a", "1"), ("x-b", "")], "get-or-head"),
        ("shop.example.com", "/h", "PUT", &[("X-A", "1"), ("X-B", "")], "two-headers"),
        ("shop.example.com", "/h", "PUT", &[("x-a", "1")], "one-header"),
        ("shop.example.com", "/h", "PUT", &[("x-a", "2"), ("x-b", "")], "no-header"),
        ("shop.example.com", "*", "OPTIONS", &[], "exact-host"),
    ] {
        assert_eq!(find(&routes, host, path, method, fields), want, "{method} {host}{path} {fields:?}");
    }
}

#[test]
fn a_rule_less_exact_is_asked_when_the_exact_ones_do_not_match() {
    let routes = routes(&["exact a.example =/x", "wild *.example /y", "all - /"]);
    assert_eq!(find(&routes, "a.example", "/x", "GET", &[]), "exact");
    assert_eq!(find(&routes, "a.example", "/y", "GET", &[]), "wild");
    assert_eq!(find(&routes, "a.example", "/z", "GET", &[]), "all");
}

#[test]
fn a_regular_expression_matches_the_whole_path() {
    let routes = routes(&[
        "number - ~/item/[0-9]+",
        "either - ~/a|/b",
        r"word - ~/w/\b.*",
        "wrong - ~/(",
        "sly - ~a)(b",
    ]);
    for (path, want) in [
        ("/item/12", "number"),
        ("/item/12/", "none"),
        ("/x/item/12", "none"),
        ("/a", "either"),
        ("/ab", "none"),
        ("/w/größe", "word"),
        ("/", "none"),
    ] {
        assert_eq!(find(&routes, "h", path, "GET", &[]), want, "{path}");
    }
    let wrong: Vec<_> = routes.iter().filter(|r| r.problem().is_some()).map(|r| &*r.spec.name).collect();
    assert_eq!(wrong, ["sly", "wrong"]);
}

#[test]
fn a_pattern_too_large_for_a_table_still_matches() {
    let text = r"(/\w{1,20}){1,3}";
    assert!(matches!(path::Pattern::new(text), Ok(path::Pattern::Engine(_))));
    let routes = routes(&[&format!("large - ~{text}")]);
    assert_eq!(find(&routes, "h", "/größe/x", "GET", &[]), "large");
    assert_eq!(find(&routes, "h", "/a/b/c/d", "GET", &[]), "none");
    assert!(path::Pattern::new(r"(\w{1,100}){1,100}").is_err(), "there is a limit");
}

#[test]
fn ties_go_by_origin_then_age_then_name() {
    let made = |name: &str, origin: RouteOrigin, created_ms: u64| RouteSpec {
        origin,
        created_ms,
        ..written(&format!("{name} h /"))
    };
    let source = |name: &str| RouteOrigin::Source(name.into(), "/app".into());
    let mut specs = vec![
        made("old", source("s"), 10),
        made("a-older", source("s"), 5),
        made("b-older", source("a"), 5),
        made("b-older", source("s"), 5),
        made("z-file", RouteOrigin::File(0), 99),
        made("y-file", RouteOrigin::File(1), 99),
    ];
    let want = ["y-file", "z-file", "a-older", "b-older", "b-older", "old"];
    for _ in 0..want.len() {
        specs.rotate_left(1);
        let routes =
            RouteBuilder::new(&fixture::config(specs.clone())).build(&portolan_table::Core::default());
        let query = Query { listener: "web", host: Some(b"h"), path: "/", method: "GET", fields: NONE };
        let order: Vec<_> =
            routes.explain(&query).into_iter().map(|step| step.route.spec.name.clone()).collect();
        assert_eq!(order.iter().map(|name| &**name).collect::<Vec<_>>(), want);
        assert_eq!(find(&routes, "h", "/", "GET", &[]), "y-file");
        let losers = routes.losers();
        assert_eq!(losers.len(), 5);
        assert!(losers.iter().all(|loser| &*loser.winner.spec.name == "y-file"));
    }
}

const NONE: &[(&str, &str)] = &[];

#[test]
fn losers_are_those_with_the_same_conditions() {
    let routes = routes(&[
        "a h /x GET",
        "b h /x/ GET",
        "c h /x POST",
        "d h /x",
        "e h /x - x-a=1",
        "f h /x - x-b=1",
        "g h /x - x-a=1",
    ]);
    let losers = routes.losers();
    let mut pairs: Vec<_> = losers.iter().map(|l| (&*l.route.spec.name, &*l.winner.spec.name)).collect();
    pairs.sort_unstable();
    assert_eq!(pairs, [("b", "a"), ("g", "e")]);
}

#[test]
fn a_rule_of_another_listener_does_not_count() {
    let mut specs: Vec<_> =
        ["mine h /", "theirs h /", "both h /", "relay - /"].iter().map(|text| written(text)).collect();
    specs[0].matches.listener = Some("web".into());
    specs[1].matches.listener = Some("other".into());
    specs[3].matches.listener = Some("db".into());
    let routes = RouteBuilder::new(&fixture::config(specs)).build(&portolan_table::Core::default());
    assert_eq!(find(&routes, "h", "/", "GET", &[]), "both");
    let on = |listener| {
        let query = Query { listener, host: Some(b"h"), path: "/", method: "GET", fields: NONE };
        routes.find(&query).map(|route| route.spec.name.to_string())
    };
    assert_eq!(on("third").as_deref(), Some("both"));
    assert_eq!(routes.tcp("db").map(|route| &*route.spec.name), Some("relay"));
    assert!(routes.tcp("web").is_none(), "a rule with a host is not for connections");
    let losers = routes.losers();
    let mut pairs: Vec<_> =
        losers.iter().map(|l| (l.listener.as_deref().unwrap(), &*l.route.spec.name)).collect();
    pairs.sort_unstable();
    assert_eq!(pairs, [("other", "theirs"), ("web", "mine")]);
}

#[test]
fn conflicts_and_broken_rules_are_counted() {
    let rules = ["a h /", "b h /", "c h ~/(", "d h /x"].iter().map(|text| written(text)).collect();
    let world = World::new(&fixture::config(rules));
    let registry = prometheus::Registry::new();
    register(world.table.clone(), world.routes, &registry).unwrap();
    let figures: Vec<_> = registry
        .gather()
        .iter()
        .map(|family| (family.name().to_owned(), family.get_metric()[0].get_gauge().get_value()))
        .collect();
    let figure = |name: &str, value: f64| (format!("portolan_proxy_{name}"), value);
    assert_eq!(
        figures,
        [figure("route_conflicts", 1.0), figure("routes", 4.0), figure("routes_broken", 1.0)]
    );
}

#[test]
fn targets_are_chosen_by_weight() {
    let mut spec = rule("split", "a");
    let target =
        |name: &str, weight| RouteTarget { service: ServiceName::parse(name).unwrap(), port: None, weight };
    spec.targets = vec![target("a", 1), target("b", 0), target("c", 3)];
    let route = Route::new(spec.clone(), |_| Arc::default());
    let mut random = fastrand::Rng::with_seed(1);
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..40_000 {
        *counts.entry(route.target(random.u64(..)).unwrap().service.to_string()).or_insert(0u32) += 1;
    }
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["a", "c"]);
    assert!((9_500..10_500).contains(&counts["a"]), "{counts:?}");
    spec.targets.iter_mut().for_each(|target| target.weight = 0);
    assert!(Route::new(spec, |_| Arc::default()).target(0).is_none());
}

#[test]
fn rules_of_services_come_and_go_with_them() {
    let mut world = World::new(&fixture::config(vec![written("file h /")]));
    let chosen = |world: &World, path: &str| {
        let snapshot = world.table.load();
        find(snapshot.view(world.routes), "h", path, "GET", &[]).to_owned()
    };
    let with = |paths: &[&str]| {
        let from_source = |text: &&str| RouteSpec {
            origin: RouteOrigin::Source("s".into(), "/app".into()),
            ..written(&format!("from-app h {text}"))
        };
        let mut service = fixture::service("app", &fixture::endpoints(1));
        let rules = paths.iter().map(from_source).collect();
        service.specs = Box::new([(SourceId(0), fixture::spec("/app", "app", rules))]);
        service
    };
    world.put(with(&["/", "/a"]));
    assert_eq!(chosen(&world, "/"), "file", "the file wins");
    assert_eq!(chosen(&world, "/a"), "from-app");
    world.put(with(&["/b"]));
    assert_eq!(chosen(&world, "/a"), "file");
    assert_eq!(chosen(&world, "/b"), "from-app");
    world.remove("app");
    assert_eq!(chosen(&world, "/b"), "file");
    assert_eq!(world.table.load().view(world.routes).iter().count(), 1);
}

#[test]
fn a_change_of_endpoints_alone_keeps_the_view() {
    let view = |world: &World| {
        let snapshot = world.table.snapshot();
        core::ptr::from_ref(snapshot.view(world.routes)) as usize
    };
    let mut config = fixture::config(vec![written("file h /")]);
    let ring =
        UpstreamConfig { balance: Balance::ConsistentHash(HashKey::Path), ..UpstreamConfig::default() };
    config.services.push((ServiceName::parse("hashed").unwrap(), ring));
    let mut world = World::new(&config);
    world.put(fixture::service("plain", &fixture::endpoints(2)));
    let before = view(&world);
    world.put(fixture::service("plain", &fixture::endpoints(3)));
    assert_eq!(view(&world), before);
    world.put(fixture::service("hashed", &fixture::endpoints(3)));
    assert_ne!(view(&world), before);
    let before = view(&world);
    let mut change = ChangeSet::default();
    change.upsert(Arc::new(fixture::service("hashed", &fixture::endpoints(4))));
    world.publisher.apply(change);
    assert_ne!(view(&world), before, "its ring is another");
}

/// The order as the design states it, written down a second time.
fn stated_order(spec: &RouteSpec) -> impl Ord + use<> {
    let host = match &spec.matches.host {
        HostMatch::Exact(_) => (0, Reverse(0)),
        HostMatch::Below(domain) => (1, Reverse(domain.len())),
        HostMatch::Any => (2, Reverse(0)),
    };
    let path = match &spec.matches.path {
        PathMatch::Exact(_) => (0, Reverse(0)),
        PathMatch::Prefix(prefix) => (1, Reverse(prefix.trim_end_matches('/').len())),
        PathMatch::Regex(_) => (2, Reverse(0)),
    };
    (
        host,
        path,
        spec.matches.methods.is_empty(),
        Reverse(spec.matches.headers.len()),
        matches!(spec.origin, RouteOrigin::Source(..)),
        spec.created_ms,
        spec.name.to_string(),
    )
}

/// What the conditions mean, one by one, by other means than the code under test.
fn stated_match(spec: &RouteSpec, host: &str, path: &str, method: &str, headers: &[(&str, &str)]) -> bool {
    let m = &spec.matches;
    let host_fits = match &m.host {
        HostMatch::Exact(own) => **own == *host,
        HostMatch::Below(domain) => host.ends_with(&format!(".{domain}")) && host.len() > domain.len() + 1,
        HostMatch::Any => true,
    };
    let segments = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
    let path_fits = match &m.path {
        PathMatch::Exact(own) => **own == *path,
        PathMatch::Prefix(prefix) => {
            &**prefix == "/" || segments(path).starts_with(&segments(prefix.trim_end_matches('/')))
        }
        PathMatch::Regex(regex) => {
            regex::Regex::new(regex).unwrap().find_iter(path).any(|found| found.range() == (0..path.len()))
        }
    };
    let value_fits = |header: &HeaderMatch| {
        headers
            .iter()
            .any(|(n, v)| *n == &*header.name && header.value.as_deref().is_none_or(|own| own == *v))
    };
    m.listener.as_deref().is_none_or(|listener| listener == "web")
        && host_fits
        && path_fits
        && (m.methods.is_empty() || m.methods.iter().any(|own| **own == *method))
        && m.headers.iter().all(value_fits)
}

fn any_spec() -> impl Strategy<Value = RouteSpec> {
    let hosts = prop::sample::select(vec!["", "a.x", "b.a.x", "*.x", "*.a.x", "*.b.a.x", "x"]);
    let paths = prop::sample::select(vec![
        "/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "=/", "=/a", "=/a/b", "~/a/.*", "~/[ab]+", "~/a",
    ]);
    let methods = prop::sample::subsequence(vec!["GET", "POST"], 0..=2);
    let headers = prop::sample::subsequence(vec![("p", None), ("p", Some("1")), ("q", Some("2"))], 0..=2);
    let listener = prop::sample::select(vec![None, Some("web"), Some("other")]);
    let origin = (any::<bool>(), 0u64..3, 0u32..1_000_000);
    (hosts, paths, methods, headers, listener, origin).prop_map(
        |(h, p, methods, headers, listener, (file, created_ms, name))| {
            let mut spec = rule(&name.to_string(), "x");
            spec.created_ms = created_ms;
            if !file {
                spec.origin = RouteOrigin::Source("s".into(), "/app".into());
            }
            spec.matches.listener = listener.map(Arc::from);
            spec.matches.host = host(h);
            spec.matches.path = path(p);
            spec.matches.methods = methods.into_iter().map(Arc::from).collect();
            spec.matches.headers = headers
                .into_iter()
                .map(|(name, value)| HeaderMatch { name: name.into(), value: value.map(Arc::from) })
                .collect();
            spec
        },
    )
}

proptest! {
    #[test]
    fn find_is_the_first_in_the_stated_order(
        specs in prop::collection::vec(any_spec(), 0..40),
        host in prop::sample::select(vec!["", "x", "a.x", "b.a.x", "c.b.a.x", "z.x", "ax", "A.X:80"]),
        path in prop::sample::select(vec!["/", "/a", "/a/", "/a/b", "/a/b/c", "/a/b/c/d", "/ab", "/abc", "/b", "*"]),
        method in prop::sample::select(vec!["GET", "POST", "PUT"]),
        headers in prop::sample::subsequence(vec![("p", "1"), ("p", "3"), ("q", "2")], 0..=3),
    ) {
        let routes = RouteBuilder::new(&fixture::config(specs.clone())).build(&portolan_table::Core::default());
        let query = Query { listener: "web", host: Some(host.as_bytes()), path, method, fields: &headers[..] };
        let plain = host.split(':').next().unwrap().to_ascii_lowercase();
        let want = specs.iter().filter(|spec| stated_match(spec, &plain, path, method, &headers)).min_by_key(|spec| stated_order(spec));
        prop_assert_eq!(routes.find(&query).map(|route| &route.spec), want);
        let explained = routes.explain(&query);
        prop_assert_eq!(explained.len(), specs.len());
        let chosen = explained.iter().find(|step| step.verdict == Verdict::Chosen).map(|step| &step.route.spec);
        prop_assert_eq!(chosen, want);
        // A loser is never chosen, whatever is asked.
        for loser in routes.losers() {
            prop_assert!(want.is_none_or(|want| loser.listener.is_some_and(|l| *l != *"web") || *want != loser.route.spec || loser.winner.spec == *want));
        }
    }

    #[test]
    fn changing_step_by_step_gives_what_building_anew_gives(
        steps in prop::collection::vec((0usize..3, prop::collection::vec(any_spec(), 0..5)), 1..12),
        host in prop::sample::select(vec!["", "x", "a.x", "b.a.x", "z.x"]),
        path in prop::sample::select(vec!["/", "/a", "/a/b", "/ab"]),
    ) {
        let config = fixture::config(Vec::new());
        let mut world = World::new(&config);
        for (which, rules) in steps {
            let name = format!("app{which}");
            if rules.is_empty() {
                world.remove(&name);
            } else {
                let mut service = fixture::service(&name, &fixture::endpoints(1));
                service.specs = Box::new([(SourceId(0), fixture::spec(&name, &name, rules))]);
                world.put(service);
            }
            let snapshot = world.table.load();
            let stepped = snapshot.view(world.routes);
            let anew = RouteBuilder::new(&config).build(&snapshot);
            prop_assert_eq!(stepped.iter().count(), anew.iter().count());
            let query = Query { listener: "web", host: Some(host.as_bytes()), path, method: "GET", fields: NONE };
            prop_assert_eq!(stepped.find(&query).map(|r| &r.spec), anew.find(&query).map(|r| &r.spec));
        }
    }
}
