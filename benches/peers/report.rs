//! Tables of medians and ranges, as Markdown and JSON.

use std::fmt::Write;
use std::fs;

use serde_json::json;

use super::goal::{BARE, BEST, Goal};
use super::parts::{Part, Unit};
use super::run::Options;
use super::sample::{Sample, median};
use super::{namespace, plot};

/// All samples of one comparison.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) part: &'static Part,
    /// By server in the order of their start: round and sample.
    rows: Vec<(String, Vec<(usize, Sample)>)>,
    notes: Vec<String>,
}

/// A ratio of two rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ratio {
    /// Of the medians.
    pub(crate) median: f64,
    /// The least and the greatest of one round.
    pub(crate) range: (f64, f64),
}

impl Table {
    pub(crate) fn new(part: &'static Part) -> Self {
        Self { part, rows: Vec::new(), notes: Vec::new() }
    }

    /// Adds one repetition.
    pub(crate) fn add(&mut self, server: &str, round: usize, sample: Sample) {
        match self.rows.iter_mut().find(|(name, _)| name == server) {
            Some((_, samples)) => samples.push((round, sample)),
            None => self.rows.push((server.to_owned(), vec![(round, sample)])),
        }
    }

    /// Adds what a reader must know.
    pub(crate) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Names of the rows.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().map(|(name, _)| name.as_str())
    }

    /// The figure that this table is about, in its unit.
    fn figure(&self, sample: &Sample) -> f64 {
        match self.part.unit {
            Unit::P99 => sample.outcome.p99.unwrap_or(f64::NAN),
            // Milliseconds a GiB, from microseconds an octet.
            Unit::Gibibyte => sample.cost() * 1e-3 * f64::from(1 << 30),
            Unit::Query | Unit::Request | Unit::Connection => sample.cost(),
        }
    }

    fn unit(&self) -> &'static str {
        match self.part.unit {
            Unit::Query => "CPU µs/query",
            Unit::Request => "CPU µs/request",
            Unit::Connection => "CPU µs/connection",
            Unit::Gibibyte => "CPU ms/GiB",
            Unit::P99 => "p99 µs",
        }
    }

    fn samples(&self, server: &str) -> Option<&[(usize, Sample)]> {
        self.rows.iter().find(|(name, _)| name == server).map(|(_, samples)| samples.as_slice())
    }

    fn median(&self, server: &str) -> Option<f64> {
        Some(median(self.samples(server)?.iter().map(|(_, sample)| self.figure(sample)).collect()))
    }

    /// One row by another, as medians and round by round.
    pub(crate) fn ratio(&self, subject: &str, against: &str) -> Option<Ratio> {
        let (above, below) = (self.samples(subject)?, self.samples(against)?);
        let each = above.iter().filter_map(|(round, sample)| {
            let (_, other) = below.iter().find(|(other, _)| other == round)?;
            Some(self.figure(sample) / self.figure(other))
        });
        let range = each.fold((f64::INFINITY, 0.0_f64), |(low, high), one| (low.min(one), high.max(one)));
        Some(Ratio { median: self.median(subject)? / self.median(against)?, range })
    }

    /// The peer with the lowest figure.
    fn best(&self) -> Option<&str> {
        let peers = self.servers().filter(|name| *name != BARE && !name.starts_with("portolan"));
        let known = peers.filter_map(|name| Some((name, self.median(name)?)));
        known.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(name, _)| name)
    }

    /// A goal with the row it is against and what was found.
    pub(crate) fn judged(&self) -> impl Iterator<Item = (Goal, &str, Ratio)> {
        self.part.goals.iter().filter_map(|goal| {
            let against = if goal.against == BEST { self.best()? } else { goal.against };
            Some((*goal, against, self.ratio(goal.subject, against)?))
        })
    }

    /// What stands in the row of a server: Portolan by it, and its goal.
    fn verdict(&self, server: &str) -> (String, String) {
        let shown = |ratio: Ratio| format!("{:.3} ({:.3}–{:.3})", ratio.median, ratio.range.0, ratio.range.1);
        // A goal of Portolan against itself stands in the row of the one that is to hold it.
        let of_row = |goal: &Goal, against: &str| {
            if goal.against == "portolan" { goal.subject == server } else { against == server }
        };
        match self.judged().find(|(goal, against, _)| of_row(goal, against)) {
            Some((goal, _, ratio)) => {
                let holds = if ratio.median <= goal.at_most { "holds" } else { "does not hold" };
                (shown(ratio), format!("≤ {}: {holds}", goal.at_most))
            }
            None if server.starts_with("portolan") => ("–".to_owned(), String::new()),
            None => (self.ratio("portolan", server).map_or_else(|| "–".to_owned(), shown), String::new()),
        }
    }

    /// The table for people.
    pub(crate) fn markdown(&self) -> String {
        let (unit, reference) = (self.unit(), self.part.reference);
        let mut text = format!("\n### `{}`: {}\n\n", self.part.key, self.part.title);
        if !self.rows.is_empty() {
            let _ = write!(
                text,
                "| server | {unit} median (min–max) | × {reference} | portolan ÷ it (min–max) | goal | rate/s | server CPU | load CPU \
                 | other work | p50 µs | p99 µs | errors | RSS MiB |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n"
            );
        }
        for (server, samples) in &self.rows {
            let of = |value: &dyn Fn(&Sample) -> f64| median(samples.iter().map(|(_, s)| value(s)).collect());
            let figures = || samples.iter().map(|(_, sample)| self.figure(sample));
            let base = self.median(reference).unwrap_or(f64::NAN);
            let figure = of(&|s| self.figure(s));
            let (by, goal) = self.verdict(server);
            let _ = writeln!(
                text,
                "| {server} | {figure:.2} ({:.2}–{:.2}) | {} | {by} | {goal} | {:.0} | {:.2} | {:.2} | {:.2} | {} | {} | {} | {:.0} |",
                figures().fold(f64::INFINITY, f64::min),
                figures().fold(0.0, f64::max),
                number(figure / base, 3),
                of(&|s| s.outcome.operations / s.seconds),
                of(&|s| s.server / s.seconds),
                of(&|s| s.load / s.seconds),
                of(&|s| s.other / s.seconds),
                number(of(&|s| s.outcome.p50.unwrap_or(f64::NAN)), 0),
                number(of(&|s| s.outcome.p99.unwrap_or(f64::NAN)), 0),
                samples.iter().map(|(_, s)| s.outcome.errors).sum::<u64>(),
                of(&|s| s.resident as f64) / f64::from(1 << 20),
            );
        }
        for note in &self.notes {
            let _ = write!(text, "\n- {note}");
        }
        text + "\n"
    }

    fn json(&self) -> serde_json::Value {
        let sample = |(round, s): &(usize, Sample)| {
            json!({
                "round": round, "operations": s.outcome.operations, "errors": s.outcome.errors, "seconds": s.seconds,
                "server_cpu": s.server, "load_cpu": s.load, "other_cpu": s.other, "resident": s.resident,
                "p50_us": s.outcome.p50, "p99_us": s.outcome.p99, "figure": self.figure(s),
            })
        };
        let servers: Vec<_> = self
            .rows
            .iter()
            .map(|(name, all)| json!({"name": name, "median": self.median(name), "samples": all.iter().map(sample).collect::<Vec<_>>()}))
            .collect();
        let goals: Vec<_> = self
            .judged()
            .map(|(goal, against, ratio)| {
                json!({"subject": goal.subject, "against": against, "at_most": goal.at_most, "ratio": ratio.median,
                       "range": [ratio.range.0, ratio.range.1], "holds": ratio.median <= goal.at_most})
            })
            .collect();
        json!({"key": self.part.key, "title": self.part.title, "unit": self.unit(), "reference": self.part.reference,
               "servers": servers, "goals": goals, "notes": self.notes})
    }
}

fn number(value: f64, digits: usize) -> String {
    if value.is_finite() { format!("{value:.digits$}") } else { "–".to_owned() }
}

/// A whole run.
#[derive(Debug)]
pub(crate) struct Report {
    head: String,
    about: serde_json::Value,
    tables: Vec<Table>,
}

impl Report {
    pub(crate) fn new(
        options: &Options,
        settings: &[(String, String)],
        versions: &[(String, String)],
    ) -> Self {
        let (repetitions, seconds) = (options.repetitions, options.seconds);
        let mut head = format!(
            "# Portolan beside its peers\n\nMedians of {repetitions} repetitions of {seconds} s, interleaved; one worker on CPU 0, load and \
             upstreams on CPU 1. Configurations: `configs/`. How to read it: `benches/README.md`.\n\n| program | version |\n|---|---|\n"
        );
        for (name, version) in versions {
            let _ = writeln!(head, "| {name} | {version} |");
        }
        head.push_str("\n| setting of the namespace | value |\n|---|---|\n");
        for (name, value) in settings {
            let _ = writeln!(head, "| {name} | {value} |");
        }
        let about = json!({"repetitions": repetitions, "seconds": seconds, "versions": versions, "settings": settings});
        Self { head, about, tables: Vec::new() }
    }

    pub(crate) fn add(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// Writes `result.md`, `result.json` and `result.svg` in `target/peers`.
    pub(crate) fn write(&self) -> Result<(), String> {
        let parts: Vec<_> = self.tables.iter().map(Table::json).collect();
        let json = json!({"about": self.about, "parts": parts});
        let json = serde_json::to_string_pretty(&json).map_err(|e| e.to_string())?;
        let markdown: String = self.tables.iter().map(Table::markdown).collect();
        let directory = namespace::directory();
        for (name, text) in [
            ("result.md", format!("{}{}{markdown}", self.head, self.summary())),
            ("result.json", json),
            ("result.svg", plot::draw(&self.tables)),
        ] {
            fs::write(directory.join(name), text).map_err(|e| format!("{name}: {e}"))?;
        }
        Ok(())
    }

    /// All goals in one table.
    fn summary(&self) -> String {
        let mut text = String::from(
            "\n## Goals\n\n| part | ratio | goal | found (min–max of one round) | holds |\n|---|---|---|---|---|\n",
        );
        for table in &self.tables {
            for (goal, against, ratio) in table.judged() {
                let _ = writeln!(
                    text,
                    "| {} | {} ÷ {against} | ≤ {} | {:.3} ({:.3}–{:.3}) | {} |",
                    table.part.key,
                    goal.subject,
                    goal.at_most,
                    ratio.median,
                    ratio.range.0,
                    ratio.range.1,
                    if ratio.median <= goal.at_most { "yes" } else { "no" },
                );
            }
        }
        text + "\n## Parts\n"
    }
}
