//! Why a name or a URL is answered as it is: every rule considered, from one snapshot.

mod mesos_dns;
mod name;
mod url;

use portolan_table::{Generation, Member, Snapshot, instance_label};
use serde::Serialize;

pub(super) use name::name;
pub(super) use url::url;

use super::api::reason;

/// The answer of `/api/v1/explain`.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    generation: Generation,
    question: String,
    steps: Vec<Step>,
    answer: String,
}

/// One thing that was considered.
#[derive(Debug, Serialize)]
struct Step {
    what: String,
    result: &'static str,
    detail: String,
}

fn step(what: impl Into<String>, result: &'static str, detail: impl Into<String>) -> Step {
    Step { what: what.into(), result, detail: detail.into() }
}

/// An instance, whether it is `inside`, and why.
fn member_step(member: &Member, inside: bool, why: &str) -> Step {
    let addresses: Vec<String> = member
        .instance
        .addresses
        .iter()
        .map(|address| format!("{} ({})", address.ip, address.provenance.as_str()))
        .collect();
    let result = if inside { "in" } else { "out" };
    step(format!("instance {}", member.instance.id), result, format!("{why}; {}", addresses.join(", ")))
}

/// What there is to say of a member whatever it is asked for: why it is out, or that nothing is wrong with it.
fn standing(member: &Member) -> String {
    reason(member.admission).map_or_else(
        || format!("{}, {}", member.instance.state.as_str(), member.instance.health.as_str()),
        str::to_owned,
    )
}

/// The label a member goes by in DNS.
fn label(snapshot: &Snapshot, member: &Member) -> String {
    let source = snapshot.source(member.source).map_or("", |source| &source.name);
    instance_label(source, &member.instance.id)
}
