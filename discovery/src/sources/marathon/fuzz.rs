//! What any octets go through that come from a Marathon.

use std::time::Instant as Received;

use tokio::time::Instant;

use super::api::{Found, Kind, Listed};
use super::convert::{self, Context, Converted, Interned};
use super::elements::{Elements, Place};
use super::known::Moment;
use super::pod::{self, Older};
use super::sse::{Item, Parser};
use super::state::State;
use super::wire;
use crate::hosts::{Addresses, Hosts};

struct OneHost;

impl Hosts for OneHost {
    fn addresses(&self, name: &str) -> Addresses {
        name.len().is_multiple_of(2).then(|| [10, 0, 0, 1].into()).into_iter().collect()
    }
}

/// Takes `octets` for an answer to `/v2/apps` and for one to `/v2/pods/::status`.
///
/// # Panics
/// When an endpoint points outside its service's ports or its instance's addresses, instances are not sorted, or
/// the way the answer is cut makes a difference: each is a defect.
pub fn marathon_apps(octets: &[u8]) {
    let names = Interned::default();
    let mut context = Context { hosts: &OneHost, names: &names, problems: Vec::new() };
    for element in cut_two_ways(Place::Member("apps"), octets) {
        if let Ok(app) = serde_json::from_slice(&element)
            && let Ok(converted) = convert::app(&app, &mut context)
        {
            check(&converted);
        }
    }
    for element in cut_two_ways(Place::Root, octets) {
        let Ok(status) = serde_json::from_slice(&element) else { continue };
        let older: Older =
            pod::older_versions(&status).into_iter().map(|version| (version, element.clone())).collect();
        if let Ok(converted) = pod::pod(&status, &older, &mut context) {
            check(&converted);
        }
    }
}

fn cut_two_ways(place: Place, octets: &[u8]) -> Vec<Vec<u8>> {
    let cut = |size: usize| {
        let mut elements = Elements::new(place, 1 << 20);
        let mut all = Vec::new();
        let pushed = octets
            .chunks(size)
            .try_for_each(|chunk| elements.push(chunk, |element| all.push(element.to_vec())));
        (pushed.and_then(|()| elements.finish()), all)
    };
    let (whole, in_one) = cut(octets.len().max(1));
    let (pieces, in_pieces) = cut(3);
    assert_eq!((whole, &in_one), (pieces, &in_pieces), "the cut makes a difference");
    in_one
}

fn check(converted: &Converted) {
    assert!(converted.instances.is_sorted_by(|a, b| a.id < b.id), "instances are not sorted");
    for instance in &converted.instances {
        for endpoint in &instance.endpoints {
            assert!(usize::from(endpoint.port_index) < converted.spec.ports.len(), "no such port");
            assert!(usize::from(endpoint.address_index) < instance.addresses.len(), "no such address");
            assert_ne!(endpoint.number, 0, "port 0 cannot be reached");
        }
    }
}

/// Takes `octets` for an event stream about one app, `/a`, with one task.
///
/// # Panics
/// When the way the stream is cut makes a difference: a defect.
pub fn sse(octets: &[u8]) {
    let items = |size: usize| {
        let mut parser = Parser::new(4096);
        octets.chunks(size).for_each(|chunk| parser.push(chunk));
        core::iter::from_fn(|| parser.next()).collect::<Vec<_>>()
    };
    let all = items(octets.len().max(1));
    assert_eq!(all, items(3), "the cut makes a difference");
    let (names, now) = (Interned::default(), Instant::now());
    let mut state = State::new();
    if let Some(converted) = sample(&names) {
        state.take_read(
            Listed::Found(Box::new(Found { kind: Kind::App, converted, problems: Vec::new() })),
            now,
        );
    }
    for item in all {
        let Item::Event { name, data } = item else { continue };
        for event in serde_json::Deserializer::from_slice(&data).into_iter::<wire::Event<'_>>() {
            let Ok(event) = event else { break };
            let at = Moment { now, received: Received::now(), hosts: &OneHost, names: &names };
            state.event(&name, &event, &at);
        }
    }
    // Whatever was said, an answer can still be taken in.
    if let Some(converted) = sample(&names) {
        let key = converted.spec.key.clone();
        state.take_read(
            Listed::Found(Box::new(Found { kind: Kind::App, converted, problems: Vec::new() })),
            now,
        );
        state.absent(&key, now);
    }
}

fn sample(names: &Interned) -> Option<Converted> {
    let text = r#"{"id": "/a", "version": "1", "networks": [{"mode": "host"}], "portDefinitions": [{"port": 80}],
        "tasks": [{"id": "a.instance-1._app.1", "host": "10.0.0.1", "ports": [80], "state": "TASK_RUNNING"}]}"#;
    let app = serde_json::from_str(text).ok()?;
    let mut context = Context { hosts: &OneHost, names, problems: Vec::new() };
    convert::app(&app, &mut context).ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    fn corpus(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        std::fs::read_dir(folder).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
    }

    /// Every seed as it is, cut short at many places, and with single octets changed.
    fn replay(target: &str, entry: fn(&[u8])) {
        let seeds = corpus(target);
        assert!(seeds.len() >= 3, "the corpus of {target} is not there");
        for seed in seeds {
            entry(&seed);
            for at in (0..seed.len()).step_by(1 + seed.len() / 97) {
                entry(&seed[..at]);
                let mut changed = seed.clone();
                changed[at] = changed[at].wrapping_add(1);
                entry(&changed);
            }
        }
    }

    #[test]
    fn the_corpus_of_answers_is_survived() {
        replay("marathon_apps", super::marathon_apps);
    }

    #[test]
    fn the_corpus_of_streams_is_survived() {
        replay("sse", super::sse);
    }

    proptest! {
        #[test]
        fn no_octets_upset_it(octets in prop::collection::vec(any::<u8>(), 0..200)) {
            super::marathon_apps(&octets);
            super::sse(&octets);
        }
    }
}
