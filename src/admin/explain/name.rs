//! DNS names: what the zones make of them, and which instances are in the answers.

use portolan_dns::Zones;
use portolan_dns::answer::{Outcome, Terms, answer};
use portolan_dns::wire::{CLASS_IN, Query, Rcode, Request, name_to_text, rtype, text_to_name};
use portolan_dns::zone::{Match, Meaning, Scope, Selection, Zone};
use portolan_table::{Member, Snapshot, sanitise_label};

use super::super::State;
use super::{Explanation, Step, label, member_step, mesos_dns, standing, step};

type Kind = (&'static str, u16);
const A: Kind = ("A", rtype::A);
const AAAA: Kind = ("AAAA", rtype::AAAA);
const SRV: Kind = ("SRV", rtype::SRV);
const TXT: Kind = ("TXT", rtype::TXT);
const PTR: Kind = ("PTR", rtype::PTR);
const SOA: Kind = ("SOA", rtype::SOA);
const NS: Kind = ("NS", rtype::NS);

/// Explains a DNS name.
pub(in crate::admin) fn name(state: &State, snapshot: &Snapshot, question: &str) -> Explanation {
    let zones = snapshot.view(state.zones);
    let explained = text_to_name(question).map(|wire| explain(zones, snapshot, &wire));
    let (steps, answer) = explained.unwrap_or_else(|| {
        let answer = "not a domain name".to_owned();
        (vec![step("name", "none", "a label or the whole of it is empty or too long")], answer)
    });
    Explanation { generation: snapshot.generation(), question: question.to_owned(), steps, answer }
}

fn explain(zones: &Zones, snapshot: &Snapshot, name: &[u8]) -> (Vec<Step>, String) {
    let packet = compose(name, rtype::A);
    let Request::Question(query) = Request::read(&packet) else {
        return (Vec::new(), "not a domain name".to_owned());
    };
    let (steps, kinds) = match zones.explain(query.name()) {
        Match::NotOurs => {
            let why = "in none of our zones, and no address that is served: forwarded if the client may, else REFUSED";
            return (vec![step("zone", "none", why)], "not ours: forwarded, or REFUSED".to_owned());
        }
        Match::Reverse(zone, address, names) => {
            let served = format!("{address} is served in {}", zone.name());
            let mut steps = vec![step("reverse", "found", served)];
            steps.extend(names.into_iter().map(|name| step("name", "in", name)));
            (steps, vec![PTR])
        }
        Match::In(zone, _) if zone.mesos_dns().is_some() => {
            let mut steps = vec![step("zone", "found", format!("{} (mesos-dns)", zone.name()))];
            let asked = name_to_text(query.name().octets());
            steps.extend(mesos_dns::steps(zone, snapshot, &asked));
            (steps, vec![A, AAAA, SRV])
        }
        Match::In(zone, meaning) => {
            let mut steps = vec![step("zone", "found", format!("{} (native)", zone.name()))];
            let kinds = in_zone(zone, &meaning, snapshot, &mut steps, || ask(zones, &query));
            (steps, kinds)
        }
    };
    (steps, answers(zones, name, &kinds))
}

/// The steps of a name in a zone, and which types it may have.
fn in_zone(
    zone: &Zone,
    meaning: &Meaning,
    snapshot: &Snapshot,
    steps: &mut Vec<Step>,
    code: impl FnOnce() -> Option<(Rcode, u16)>,
) -> Vec<Kind> {
    match meaning {
        Meaning::Apex => {
            steps.push(step("apex", "found", "the zone itself: SOA and NS, no address"));
            vec![SOA, NS]
        }
        Meaning::Node { name, addresses, edge } => {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            let kind = if *edge { "this edge node" } else { "a node of the cluster" };
            steps.push(step(format!("node {name}"), "found", format!("{kind}; {}", addresses.join(", "))));
            vec![A, AAAA]
        }
        Meaning::Service(selection) => {
            of_service(snapshot, selection, steps);
            match selection {
                Selection { port: Some(_), .. } => vec![SRV],
                Selection { instance: Some(_), .. } => vec![A, AAAA],
                _ => vec![A, AAAA, TXT],
            }
        }
        Meaning::Empty | Meaning::Missing => {
            let unknown = code().is_some_and(|(code, _)| code == Rcode::ServFail);
            steps.push(match meaning {
                _ if unknown => step("name", "unknown", waiting(snapshot, zone)),
                Meaning::Empty => step("name", "empty", "only names below it: no data of any type"),
                _ => step("name", "none", "no such name in the zone: NXDOMAIN"),
            });
            vec![A]
        }
    }
}

/// Why it is not certain that a name does not exist.
fn waiting(snapshot: &Snapshot, zone: &Zone) -> String {
    let waiting: Vec<&str> =
        snapshot.sources().iter().filter(|s| s.required && !s.has_data).map(|s| &*s.name).collect();
    format!(
        "not known yet in {}: SERVFAIL until {} has given its first list",
        zone.name(),
        waiting.join(", ")
    )
}

fn of_service(snapshot: &Snapshot, selection: &Selection, steps: &mut Vec<Step>) {
    let Some(service) = snapshot.service(&selection.service) else { return };
    let sources: Vec<&str> =
        service.specs.iter().filter_map(|(id, _)| Some(&*snapshot.source(*id)?.name)).collect();
    steps.push(step("service", "found", format!("{} from {}", service.name, sources.join(", "))));
    match &selection.scope {
        Scope::Whole => {}
        Scope::Source(id) => {
            let name = snapshot.source(*id).map_or("", |source| &source.name);
            steps.push(step(format!("source {name}"), "only", "what this source says of the service"));
        }
        Scope::Zone(label) => {
            steps.push(step(format!("fault domain {label}"), "only", "the instances that run in it"));
        }
        Scope::Vip => {
            let why = "the addresses of the edge proxies, which go on to the instances that are in";
            steps.push(step("proxies", "instead", why));
        }
    }
    if let Some(port) = &selection.port {
        steps.push(step(format!("port {port}"), "found", "the instances that have an endpoint for it"));
    }
    let shown = service.members.iter().filter(|member| concerns(snapshot, selection, member));
    steps.extend(shown.map(|member| judged(snapshot, selection, member)));
}

/// True if the name could mean this member at all.
fn concerns(snapshot: &Snapshot, selection: &Selection, member: &Member) -> bool {
    let in_scope = match &selection.scope {
        Scope::Whole | Scope::Vip => true,
        Scope::Source(source) => member.source == *source,
        Scope::Zone(wanted) => {
            member.instance.zone.as_deref().and_then(sanitise_label).as_ref() == Some(wanted)
        }
    };
    in_scope && selection.instance.as_ref().is_none_or(|wanted| *wanted == label(snapshot, member))
}

fn judged(snapshot: &Snapshot, selection: &Selection, member: &Member) -> Step {
    let admitted = member.admission.is_in();
    let answered = match selection.scope {
        Scope::Vip => admitted,
        _ => selection.answered.contains(&label(snapshot, member)),
    };
    let why = match (answered, admitted) {
        (true, false) => format!("answered by this source's own names alone ({})", standing(member)),
        (false, true) => "has no endpoint or no name for this".to_owned(),
        _ => standing(member),
    };
    member_step(member, answered, &why)
}

/// What a client would be answered right now, in short.
fn answers(zones: &Zones, name: &[u8], kinds: &[Kind]) -> String {
    let one = |(kind, number): &Kind| {
        let packet = compose(name, *number);
        let Request::Question(query) = Request::read(&packet) else {
            return format!("{kind}: not a question");
        };
        match ask(zones, &query) {
            Some((code, 1)) => format!("{kind}: {}, 1 record", code.as_str()),
            Some((code, records)) => format!("{kind}: {}, {records} records", code.as_str()),
            None => format!("{kind}: not ours"),
        }
    };
    kinds.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// The code and the number of records of an answer.
fn ask(zones: &Zones, query: &Query<'_>) -> Option<(Rcode, u16)> {
    let mut out = vec![0; 65_535];
    let terms = Terms::tcp(1232);
    match answer(zones, query, &terms, 0, &mut out) {
        Outcome::NotOurs | Outcome::Silence => None,
        Outcome::Reply(written) => Some((written.rcode, u16::from_be_bytes([out[6], out[7]]))),
    }
}

/// A query for a name in wire form.
fn compose(name: &[u8], kind: u16) -> Vec<u8> {
    let mut query = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend_from_slice(name);
    query.extend_from_slice(&kind.to_be_bytes());
    query.extend_from_slice(&CLASS_IN.to_be_bytes());
    query
}
