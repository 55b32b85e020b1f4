//! Goes through the parts: sets one up, loads its servers in turn, takes it down.

use std::time::Duration;

use super::parts::{ALL, Part, Place, Trial, matches};
use super::report::{Report, Table};
use super::trouble::Trouble;
use super::{install, namespace, processor};

/// What is asked for on the command line.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) repetitions: usize,
    pub(crate) seconds: u64,
    pub(crate) only: Option<Vec<String>>,
    /// Names of the large DNS table.
    pub(crate) names: usize,
}

impl Options {
    fn wants(&self, part: &Part) -> bool {
        self.only.as_ref().is_none_or(|only| only.iter().any(|wanted| matches(part.key, wanted)))
    }
}

/// Everything that is wanted, inside the namespace. Figures never make it fail; a part that breaks does.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let settings = namespace::settle()?;
    processor::pin(&[1])?;
    let mut report = Report::new(options, &settings, &install::versions());
    let mut broken = Vec::new();
    for part in ALL.iter().filter(|part| options.wants(part)) {
        eprintln!("{}: {}", part.key, part.title);
        let mut table = Table::new(part);
        if let Err(trouble) = measure(part, options, &mut table) {
            let text = match trouble {
                Trouble::Skip(text) => format!("not measured: {text}"),
                Trouble::Fail(text) => {
                    broken.push(part.key);
                    format!("broken off: {text}")
                }
            };
            eprintln!("  {text}");
            table.note(text);
        }
        println!("{}", table.markdown());
        report.add(table);
        // After every part, so that a run which is ended has what it had.
        report.write()?;
    }
    if broken.is_empty() { Ok(()) } else { Err(format!("broken off: {}", broken.join(", "))) }
}

fn measure(part: &Part, options: &Options, table: &mut Table) -> Result<(), Trouble> {
    let place = Place { directory: namespace::fresh(part.key)?, names: options.names };
    let Trial { servers, helpers, load, notes } = (part.prepare)(&place)?;
    notes.into_iter().for_each(|note| table.note(note));
    let mut failed: Vec<&str> = Vec::new();
    for round in 0..options.repetitions {
        // Every other round goes backwards, so that what drifts hits all alike.
        let mut order: Vec<_> = servers.iter().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for server in order {
            if failed.contains(&server.name.as_str()) {
                continue;
            }
            match server.measure(Duration::from_secs(options.seconds), &helpers, &load) {
                Ok(sample) => {
                    let (cost, outcome) = (sample.cost(), sample.outcome);
                    eprintln!("  {round} {} {cost:.4} µs, errors {}", server.name, outcome.errors);
                    table.add(&server.name, round, sample);
                }
                Err(complaint) => {
                    failed.push(&server.name);
                    table.note(format!("{} failed: {complaint}", server.name));
                }
            }
        }
    }
    if failed.contains(&"portolan") {
        Err(Trouble::Fail("portolan failed under load".to_owned()))
    } else {
        Ok(())
    }
}
