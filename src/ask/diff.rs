//! `diff --against mesos-dns=HOST:PORT`: the answers of an incumbent and of the daemon, name by name.
//!
//! ```text
//!   incumbent /v1/enumerate, /v1/axfr ─┐
//!                                      ├─► names and types ──► both are asked ──► those that differ are asked again
//!   the daemon's own /v1/axfr ─────────┘                                                └─► a row for each that still do
//! ```
//!
//! What is compared is what clients see: records as sets, and the response code where there are none.

use core::time::Duration;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use hickory_proto::rr::{Name, RData, RecordType};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::table::Table;
use super::{Daemon, client, is_coloured, print, resolve};

/// Questions on their way at once, to either side.
const IN_FLIGHT: usize = 64;

/// Arguments of `diff`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  portolan diff --against mesos-dns=10.0.0.2:8123\n  portolan diff --against mesos-dns=10.0.0.2:8123 --dns 127.0.0.1:5353 --again 60"
)]
pub struct DiffArgs {
    /// The incumbent: mesos-dns and where its HTTP API listens
    #[arg(long, value_name = "mesos-dns=HOST:PORT")]
    pub against: Incumbent,
    /// The incumbent's DNS; default: its host, and the port that it says itself
    #[arg(long, value_name = "ADDRESS")]
    pub against_dns: Option<SocketAddr>,
    /// The daemon's DNS; default: as the daemon says
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Option<SocketAddr>,
    /// Wait so many seconds before what differs is asked again: the incumbent may learn of changes late
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub again: u64,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Which daemon.
    #[command(flatten)]
    pub daemon: Daemon,
}

/// Whom to compare with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incumbent {
    host: String,
    port: u16,
}

impl FromStr for Incumbent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write mesos-dns=HOST:PORT, the address of its HTTP API".to_owned();
        let (host, port) =
            text.strip_prefix("mesos-dns=").and_then(|at| at.rsplit_once(':')).ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        if host.is_empty() { Err(wrong()) } else { Ok(Self { host: host.to_owned(), port }) }
    }
}

impl Incumbent {
    fn url(&self) -> String {
        format!("http://{}:{}", self.host, self.port)
    }
}

/// Compares, prints what differs.
///
/// # Errors
/// Something differs, or one side cannot be asked.
pub async fn diff(arguments: &DiffArgs) -> Result<()> {
    let there = Side { name: "there", server: incumbent_dns(arguments).await? };
    let here = match arguments.dns {
        Some(server) => Side { name: "here", server },
        None => Side { name: "here", server: resolve::server_of(&arguments.daemon).await? },
    };
    let listed = questions(arguments).await?;
    let first = compare(&there, &here, listed.questions.iter().cloned().collect()).await?;
    let differing = if first.is_empty() {
        first
    } else {
        tokio::time::sleep(Duration::from_secs(arguments.again)).await;
        compare(&there, &here, first.into_iter().map(|difference| difference.question).collect()).await?
    };
    print(&if arguments.json { as_json(&differing) } else { as_table(&differing) })?;
    let (asked, odd) = (listed.questions.len(), listed.odd);
    let odd =
        if odd > 0 { format!("; {odd} names that are listed cannot be asked for") } else { String::new() };
    if asked == 0 {
        bail!("{} lists no names", arguments.against.url());
    }
    if differing.is_empty() {
        super::say(&format!("{asked} questions, the same answers{odd}"))
    } else {
        bail!("{} of {asked} questions are answered differently{odd}", differing.len())
    }
}

/// Who is asked.
#[derive(Debug, Clone)]
struct Side {
    name: &'static str,
    server: SocketAddr,
}

type Question = (Name, RecordType);

/// What to ask.
#[derive(Debug, Default)]
struct Listed {
    questions: BTreeSet<Question>,
    /// Names that are listed and are none.
    odd: usize,
}

impl Listed {
    fn add(&mut self, name: &str, kind: RecordType) {
        // Questions are asked in lower case, as resolvers mostly do.
        match Name::from_ascii(name.to_ascii_lowercase()) {
            Ok(mut name) => {
                name.set_fqdn(true);
                self.questions.insert((name, kind));
            }
            Err(_) => self.odd += 1,
        }
    }

    fn add_transfer(&mut self, body: &[u8]) -> Result<()> {
        let transfer: Value = serde_json::from_slice(body).context("/v1/axfr is not JSON")?;
        for (list, kind) in [("As", RecordType::A), ("AAAAs", RecordType::AAAA), ("SRVs", RecordType::SRV)] {
            for name in transfer["Records"][list].as_object().into_iter().flat_map(|names| names.keys()) {
                self.add(name, kind);
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Enumerated {
    frameworks: Vec<EnumeratedFramework>,
}

#[derive(Deserialize)]
struct EnumeratedFramework {
    tasks: Option<Vec<EnumeratedTask>>,
}

#[derive(Deserialize)]
struct EnumeratedTask {
    records: Option<Vec<EnumeratedRecord>>,
}

#[derive(Deserialize)]
struct EnumeratedRecord {
    name: String,
    host: String,
    rtype: String,
}

/// The names of both sides. Of tasks `/v1/enumerate` knows all; masters, agents and schedulers stand in `/v1/axfr`.
async fn questions(arguments: &DiffArgs) -> Result<Listed> {
    let base = arguments.against.url();
    let body = client::get(&base, "/v1/enumerate").await?;
    let enumerated: Enumerated = serde_json::from_slice(&body)
        .with_context(|| format!("{base}/v1/enumerate is not what Mesos-DNS says"))?;
    let mut listed = Listed::default();
    let reverse = config(&base).await.is_some_and(|config| config["ReverseDnsOn"] == true);
    let tasks = enumerated.frameworks.into_iter().flat_map(|framework| framework.tasks.unwrap_or_default());
    for record in tasks.flat_map(|task| task.records.unwrap_or_default()) {
        match &*record.rtype {
            "A" => listed.add(&record.name, RecordType::A),
            "AAAA" => listed.add(&record.name, RecordType::AAAA),
            "SRV" => listed.add(&record.name, RecordType::SRV),
            "PTR" if reverse => {
                if let Ok(ip) = record.host.parse::<IpAddr>() {
                    listed.questions.insert((Name::from(ip), RecordType::PTR));
                }
            }
            _ => {}
        }
    }
    listed.add_transfer(&client::get(&base, "/v1/axfr").await?)?;
    for own in own_apis(&arguments.daemon).await {
        match client::get(&own, "/v1/axfr").await {
            Ok(body) => listed.add_transfer(&body)?,
            Err(error) => super::say(&format!("names that only the daemon has are left out: {error:#}"))?,
        }
    }
    Ok(listed)
}

async fn config(base: &str) -> Option<Value> {
    serde_json::from_slice(&client::get(base, "/v1/config").await.ok()?).ok()
}

/// Where the daemon serves the same API, if it can be asked.
async fn own_apis(daemon: &Daemon) -> Vec<String> {
    let Ok(base) = daemon.url() else { return Vec::new() };
    let Ok(body) = client::get(&base, "/api/v1/listeners").await else { return Vec::new() };
    let told: Value = serde_json::from_slice(&body).unwrap_or_default();
    let listeners = told["listeners"].as_array().into_iter().flatten();
    let apis = listeners.filter(|listener| listener["protocol"] == "mesos-dns");
    let address = |listener: &Value| listener["address"].as_str()?.parse::<SocketAddr>().ok();
    apis.filter_map(address).map(|address| format!("http://{}", super::reachable(address))).collect()
}

/// The incumbent's DNS: as told, else on the port that its configuration names.
async fn incumbent_dns(arguments: &DiffArgs) -> Result<SocketAddr> {
    if let Some(address) = arguments.against_dns {
        return Ok(address);
    }
    let against = &arguments.against;
    let config = config(&against.url()).await;
    let port = config.and_then(|config| u16::try_from(config["Port"].as_u64()?).ok()).unwrap_or(53);
    let host = against.host.trim_start_matches('[').trim_end_matches(']');
    let found = tokio::net::lookup_host((host, port)).await;
    found.ok().and_then(|mut found| found.next()).with_context(|| format!("{host} is no host"))
}

/// One answer as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    /// Records, as text.
    Records(BTreeSet<String>),
    /// No records: the response code.
    Code(String),
    /// Nothing came.
    Nothing,
}

/// A question that is answered differently.
#[derive(Debug)]
struct Difference {
    question: Question,
    there: Said,
    here: Said,
}

async fn compare(there: &Side, here: &Side, questions: Vec<Question>) -> Result<Vec<Difference>> {
    reach(there, &questions).await?;
    reach(here, &questions).await?;
    let permits = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut asking = JoinSet::new();
    let mut differing = Vec::new();
    let keep = |joined: Result<Difference, tokio::task::JoinError>, differing: &mut Vec<Difference>| {
        let answered = joined.context("a question was not asked")?;
        if answered.there != answered.here {
            differing.push(answered);
        }
        anyhow::Ok(())
    };
    for question in questions {
        let permit = Arc::clone(&permits).acquire_owned().await?;
        let (there, here) = (there.server, here.server);
        asking.spawn(async move {
            let (there, here) = tokio::join!(said(there, &question), said(here, &question));
            drop(permit);
            Difference { question, there, here }
        });
        while let Some(joined) = asking.try_join_next() {
            keep(joined, &mut differing)?;
        }
    }
    while let Some(joined) = asking.join_next().await {
        keep(joined, &mut differing)?;
    }
    differing.sort_by(|a, b| a.question.cmp(&b.question));
    Ok(differing)
}

/// A side that answers nothing at all is no side: better said once than for every name.
async fn reach(side: &Side, questions: &[Question]) -> Result<()> {
    for question in questions.iter().take(3) {
        if said(side.server, question).await != Said::Nothing {
            return Ok(());
        }
    }
    if questions.is_empty() {
        Ok(())
    } else {
        bail!("no DNS server answers {} at {}", side.name, side.server)
    }
}

async fn said(server: SocketAddr, (name, kind): &Question) -> Said {
    let Ok(answer) = resolve::ask(server, name, *kind).await else { return Said::Nothing };
    let of_kind = answer.answers.iter().filter(|record| record.record_type() == *kind);
    let records: BTreeSet<String> = of_kind.map(|record| data(&record.data)).collect();
    if records.is_empty() {
        return Said::Code(format!("{:?}", answer.metadata.response_code).to_uppercase());
    }
    Said::Records(records)
}

/// The data of a record; names in lower case.
fn data(data: &RData) -> String {
    match data {
        RData::SRV(srv) => {
            let target = srv.target.to_string().to_ascii_lowercase();
            format!("{} {} {} {target}", srv.priority, srv.weight, srv.port)
        }
        RData::PTR(name) => name.to_string().to_ascii_lowercase(),
        other => other.to_string(),
    }
}

impl Difference {
    /// What only one side says, of either.
    fn apart(&self) -> [Vec<String>; 2] {
        let none = BTreeSet::new();
        let records = |said: &'_ Said| match said {
            Said::Records(records) => records.clone(),
            _ => none.clone(),
        };
        let (there, here) = (records(&self.there), records(&self.here));
        let only = |own: &BTreeSet<String>, other: &BTreeSet<String>, said: &Said| match said {
            Said::Records(_) => own.difference(other).cloned().collect(),
            Said::Code(code) => vec![format!("({code})")],
            Said::Nothing => vec!["(no reply)".to_owned()],
        };
        [only(&there, &here, &self.there), only(&here, &there, &self.here)]
    }
}

fn as_table(differing: &[Difference]) -> String {
    if differing.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["NAME", "TYPE", "ONLY THERE", "ONLY HERE"]);
    for difference in differing {
        let [there, here] = difference.apart();
        let (name, kind) = &difference.question;
        table.row(vec![name.to_string(), kind.to_string(), there.join(", "), here.join(", ")]);
    }
    table.render(is_coloured())
}

fn as_json(differing: &[Difference]) -> String {
    let rows: Vec<Value> = differing
        .iter()
        .map(|difference| {
            let [there, here] = difference.apart();
            let (name, kind) = &difference.question;
            json!({"name": name.to_string(), "type": kind.to_string(), "there": there, "here": here})
        })
        .collect();
    format!("{}\n", json!({"differences": rows}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incumbent_is_named_by_kind_and_address() {
        let read = |text: &str| text.parse::<Incumbent>().ok().map(|incumbent| incumbent.url());
        assert_eq!(read("mesos-dns=10.0.0.1:8123").as_deref(), Some("http://10.0.0.1:8123"));
        assert_eq!(read("mesos-dns=[::1]:8123").as_deref(), Some("http://[::1]:8123"));
        for wrong in
            ["10.0.0.1:8123", "mesos-dns=", "mesos-dns=a", "mesos-dns=:1", "mesos-dns=a:b", "consul=a:1"]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
