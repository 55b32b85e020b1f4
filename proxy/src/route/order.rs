//! The total order of rules: which of two that both match is asked first.

use core::cmp::Ordering;

use portolan_table::{HostMatch, PathMatch, RouteOrigin, RouteSpec};

/// Compares two rules; the one that is asked first is less. Host (exact, then longest wildcard, then none) →
/// path (exact, then longest prefix, then regex) → method → number of headers → origin (file before source) →
/// age → name. What is left (two sources using one name) goes by the whole origin, so that the order is total.
pub(super) fn compare(a: &RouteSpec, b: &RouteSpec) -> Ordering {
    host(a).cmp(&host(b)).then_with(|| in_host(a, b))
}

/// [`compare`] for rules of one host.
pub(super) fn in_host(a: &RouteSpec, b: &RouteSpec) -> Ordering {
    path(a)
        .cmp(&path(b))
        .then_with(|| a.matches.methods.is_empty().cmp(&b.matches.methods.is_empty()))
        .then_with(|| b.matches.headers.len().cmp(&a.matches.headers.len()))
        .then_with(|| origin(a).cmp(&origin(b)))
        .then_with(|| a.created_ms.cmp(&b.created_ms))
        .then_with(|| a.name.cmp(&b.name))
        .then_with(|| a.origin.cmp(&b.origin))
}

type Rank<'a> = (u8, core::cmp::Reverse<usize>, &'a str);

fn host(spec: &RouteSpec) -> Rank<'_> {
    match &spec.matches.host {
        HostMatch::Exact(host) => (0, core::cmp::Reverse(0), host),
        HostMatch::Below(domain) => (1, core::cmp::Reverse(domain.len()), domain),
        HostMatch::Any => (2, core::cmp::Reverse(0), ""),
    }
}

/// Regular expressions rank alike whatever their text: neither is the more specific.
fn path(spec: &RouteSpec) -> Rank<'_> {
    match &spec.matches.path {
        PathMatch::Exact(path) => (0, core::cmp::Reverse(0), path),
        PathMatch::Prefix(prefix) => {
            let prefix = prefix_key(prefix);
            (1, core::cmp::Reverse(prefix.len()), prefix)
        }
        PathMatch::Regex(_) => (2, core::cmp::Reverse(0), ""),
    }
}

fn origin(spec: &RouteSpec) -> bool {
    matches!(spec.origin, RouteOrigin::Source(..))
}

/// A prefix as it is compared: a slash at the end says nothing more, as prefixes go by whole segments.
pub(super) fn prefix_key(prefix: &str) -> &str {
    prefix.trim_end_matches('/')
}

/// True if only origin, age and name tell the rules apart in the order of one host.
pub(super) fn same_rank(a: &RouteSpec, b: &RouteSpec) -> bool {
    path(a) == path(b)
        && a.matches.methods.is_empty() == b.matches.methods.is_empty()
        && a.matches.headers.len() == b.matches.headers.len()
}

/// True if two rules of one host and of [`same_rank`] match the same requests, as far as their text shows.
pub(super) fn same_conditions(a: &RouteSpec, b: &RouteSpec) -> bool {
    let (a, b) = (&a.matches, &b.matches);
    let regex = |path: &PathMatch| matches!(path, PathMatch::Regex(_));
    let within = |a: &[_], b: &[_]| a.iter().all(|x| b.contains(x));
    (a.path == b.path || !regex(&a.path) && !regex(&b.path))
        && within(&a.methods, &b.methods)
        && within(&b.methods, &a.methods)
        && a.headers.iter().all(|x| b.headers.contains(x))
        && b.headers.iter().all(|x| a.headers.contains(x))
}
