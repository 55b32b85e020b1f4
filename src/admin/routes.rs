//! `/api/v1/routes`: every rule in the order in which rules are asked.

use portolan_proxy::Routes as RoutesView;
use portolan_proxy::route::{Loser, Route};
use portolan_table::{Generation, HostMatch, PathMatch, RouteOrigin, Snapshot};
use serde::Serialize;

use super::State;

#[derive(Debug, Serialize)]
pub(super) struct Routes<'a> {
    generation: Generation,
    routes: Vec<Row<'a>>,
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    name: &'a str,
    listener: Option<&'a str>,
    host: Option<String>,
    path: &'a str,
    path_match: &'static str,
    methods: Vec<&'a str>,
    headers: Vec<String>,
    targets: Vec<Target<'a>>,
    origin: String,
    shadowed_by: Option<String>,
    problem: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Target<'a> {
    service: &'a str,
    port: Option<&'a str>,
    weight: u32,
}

impl<'a> Routes<'a> {
    pub(super) fn of(state: &State, snapshot: &'a Snapshot) -> Self {
        let view: &RoutesView = snapshot.view(state.routes);
        let losers = view.losers();
        let routes = view.iter().map(|route| Row::of(route, &losers)).collect();
        Self { generation: snapshot.generation(), routes }
    }
}

impl<'a> Row<'a> {
    fn of(route: &'a Route, losers: &[Loser]) -> Self {
        let matches = &route.spec.matches;
        let (path_match, path) = match &matches.path {
            PathMatch::Exact(path) => ("exact", path),
            PathMatch::Prefix(path) => ("prefix", path),
            PathMatch::Regex(path) => ("regex", path),
        };
        let winner =
            losers.iter().find(|loser| std::ptr::eq(&*loser.route, route)).map(|loser| &loser.winner);
        Self {
            name: &route.spec.name,
            listener: matches.listener.as_deref(),
            host: match &matches.host {
                HostMatch::Exact(host) => Some(host.as_ref().to_owned()),
                HostMatch::Below(domain) => Some(format!("*.{domain}")),
                HostMatch::Any => None,
            },
            path,
            path_match,
            methods: matches.methods.iter().map(|method| &**method).collect(),
            headers: matches
                .headers
                .iter()
                .map(|header| match &header.value {
                    Some(value) => format!("{}: {value}", header.name),
                    None => header.name.as_ref().to_owned(),
                })
                .collect(),
            targets: route.spec.targets.iter().map(Target::of).collect(),
            origin: match &route.spec.origin {
                RouteOrigin::File(_) => "file".to_owned(),
                RouteOrigin::Source(source, key) => format!("{source} {key}"),
            },
            shadowed_by: winner.map(|winner| winner.spec.name.as_ref().to_owned()),
            problem: route.problem(),
        }
    }
}

impl<'a> Target<'a> {
    fn of(target: &'a portolan_table::RouteTarget) -> Self {
        Self { service: target.service.as_str(), port: target.port.as_deref(), weight: target.weight }
    }
}
