//! The rules of one host, found by path.

use core::ops::Range;
use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use portolan_table::PathMatch;

use super::order::{self, prefix_key};
use super::{Fields, Query, Route};

/// Paths up to this many are searched one by one; a hash table is smaller and faster only above.
const FEW: usize = 8;

/// Rules of one host (or wildcard, or no host), sorted by [`order::in_host`].
#[derive(Debug)]
pub(super) struct HostRules {
    routes: Box<[Arc<Route>]>,
    exact: Paths,
    prefixes: Paths,
    /// Lengths that prefixes have, longest first: a path is cut at these places and at no other, so what a
    /// lookup costs is decided by the rules and not by the client.
    prefix_lens: Box<[u32]>,
    regexes: Range<u32>,
}

/// Path (or prefix) → its rules, as a range of [`HostRules::routes`].
#[derive(Debug)]
enum Paths {
    Few(Box<[(Arc<str>, Range<u32>)]>),
    Many(HashMap<Arc<str>, Range<u32>, FixedState>),
}

impl HostRules {
    pub(super) fn new(mut routes: Vec<Arc<Route>>) -> Self {
        routes.sort_by(|a, b| order::in_host(&a.spec, &b.spec));
        let exact = groups(&routes, |path| match path {
            PathMatch::Exact(path) => Some(path),
            _ => None,
        });
        let prefixes = groups(&routes, |path| match path {
            PathMatch::Prefix(prefix) => Some(prefix_key(prefix)),
            _ => None,
        });
        let mut prefix_lens: Vec<u32> = prefixes.iter().map(|(prefix, _)| prefix.len() as u32).collect();
        // The groups come in the order of the rules: longest first.
        prefix_lens.dedup();
        let regexes = routes.partition_point(|route| !matches!(route.spec.matches.path, PathMatch::Regex(_)));
        Self {
            regexes: regexes as u32..routes.len() as u32,
            routes: routes.into(),
            exact: Paths::new(exact),
            prefixes: Paths::new(prefixes),
            prefix_lens: prefix_lens.into(),
        }
    }

    pub(super) fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// The first rule whose path, method and headers hold.
    pub(super) fn find<F: Fields + ?Sized>(&self, query: &Query<'_, F>) -> Option<&Arc<Route>> {
        let found = self.exact.get(query.path).and_then(|range| self.first(range, query));
        found.or_else(|| self.by_prefix(query)).or_else(|| self.by_regex(query))
    }

    fn by_prefix<F: Fields + ?Sized>(&self, query: &Query<'_, F>) -> Option<&Arc<Route>> {
        let path = query.path.as_bytes();
        self.prefix_lens.iter().map(|len| *len as usize).find_map(|len| {
            // A prefix ends where a segment ends. The empty one takes every path, `*` included.
            if len > 0 && (len > path.len() || path.get(len).is_some_and(|octet| *octet != b'/')) {
                return None;
            }
            let range = self.prefixes.get(query.path.get(..len)?)?;
            self.first(range, query)
        })
    }

    fn by_regex<F: Fields + ?Sized>(&self, query: &Query<'_, F>) -> Option<&Arc<Route>> {
        let routes = &self.routes[self.regexes.start as usize..self.regexes.end as usize];
        routes.iter().find(|route| {
            route.regex.as_ref().is_some_and(|regex| regex.matches(query.path)) && route.takes(query)
        })
    }

    fn first<F: Fields + ?Sized>(&self, range: &Range<u32>, query: &Query<'_, F>) -> Option<&Arc<Route>> {
        self.routes[range.start as usize..range.end as usize].iter().find(|route| route.takes(query))
    }
}

impl Paths {
    fn new(groups: Vec<(Arc<str>, Range<u32>)>) -> Self {
        if groups.len() <= FEW { Self::Few(groups.into()) } else { Self::Many(groups.into_iter().collect()) }
    }

    fn get(&self, path: &str) -> Option<&Range<u32>> {
        match self {
            Self::Few(paths) => paths.iter().find(|(own, _)| **own == *path).map(|(_, range)| range),
            Self::Many(paths) => paths.get(path),
        }
    }
}

/// Runs of rules with the same path, of the kind that `of` picks.
fn groups<'a>(
    routes: &'a [Arc<Route>],
    of: impl Fn(&'a PathMatch) -> Option<&'a str>,
) -> Vec<(Arc<str>, Range<u32>)> {
    let mut groups: Vec<(Arc<str>, Range<u32>)> = Vec::new();
    for (at, route) in (0u32..).zip(routes) {
        let Some(path) = of(&route.spec.matches.path) else { continue };
        match groups.last_mut() {
            Some((last, range)) if **last == *path => range.end = at + 1,
            _ => groups.push((path.into(), at..at + 1)),
        }
    }
    groups
}

/// A path pattern that must match the whole path.
#[derive(Debug)]
pub(super) enum Pattern {
    /// A table built once: matching takes no lock and no scratch memory.
    Table(Box<regex_automata::dfa::dense::DFA<Vec<u32>>>),
    /// For patterns whose table would be too large, or that look at Unicode word boundaries. Its scratch
    /// memory is shared by threads.
    Engine(regex::Regex),
}

/// Largest table built for one pattern, and largest memory used to build it, in octets.
const TABLE_SIZE_MAX: usize = 1 << 20;
/// Largest compiled form of a pattern without a table, in octets; beyond it the pattern is refused.
const ENGINE_SIZE_MAX: usize = 4 << 20;

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        // Checked on its own: `a)(b` is not a pattern, but becomes one inside the group.
        regex_automata::util::syntax::parse(text).map_err(|error| error.to_string())?;
        let whole = format!(r"^(?:{text})$");
        if let Some(table) = table(&whole) {
            return Ok(Self::Table(Box::new(table)));
        }
        let engine = regex::RegexBuilder::new(&whole).size_limit(ENGINE_SIZE_MAX).build();
        engine.map(Self::Engine).map_err(|error| error.to_string())
    }

    pub(super) fn matches(&self, path: &str) -> bool {
        use regex_automata::{Anchored, Input, dfa::Automaton};
        match self {
            Self::Engine(engine) => engine.is_match(path),
            Self::Table(table) => {
                let input = Input::new(path).anchored(Anchored::Yes).earliest(true);
                table.try_search_fwd(&input).is_ok_and(|found| found.is_some())
            }
        }
    }
}

fn table(pattern: &str) -> Option<regex_automata::dfa::dense::DFA<Vec<u32>>> {
    use regex_automata::{MatchKind, dfa, nfa::thompson};
    let config = dfa::dense::Config::new()
        .match_kind(MatchKind::All)
        .start_kind(dfa::StartKind::Anchored)
        .dfa_size_limit(Some(TABLE_SIZE_MAX))
        .determinize_size_limit(Some(TABLE_SIZE_MAX));
    dfa::dense::Builder::new()
        .configure(config)
        .thompson(thompson::Config::new().nfa_size_limit(Some(TABLE_SIZE_MAX)))
        .build(pattern)
        .ok()
}
