//! Tables of medians and ranges, as Markdown and JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::json;

use super::measure::Sample;

/// All samples of one comparison.
#[derive(Debug)]
pub(crate) struct Table {
    title: &'static str,
    reference: &'static str,
    key: &'static str,
    samples: BTreeMap<String, Vec<Sample>>,
}

impl Table {
    /// An empty one; costs are shown as ratios to `reference`.
    pub(crate) fn new(title: &'static str, reference: &'static str, key: &'static str) -> Self {
        Self { title, reference, key, samples: BTreeMap::new() }
    }

    /// Adds one repetition.
    pub(crate) fn add(&mut self, server: &str, sample: Sample) {
        self.samples.entry(server.to_owned()).or_default().push(sample);
    }

    fn unit(&self) -> (&'static str, f64) {
        if self.key == "tcp" { ("CPU ms/GiB", 1e-3 * 1024.0 * 1024.0 * 1024.0) } else { ("CPU µs/op", 1.0) }
    }

    fn median(&self, server: &str, of: impl Fn(&Sample) -> f64) -> Option<f64> {
        let mut values: Vec<f64> = self.samples.get(server)?.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    /// The table for people.
    pub(crate) fn markdown(&self) -> String {
        let (unit, scale) = self.unit();
        let mut text = format!("\n### {}\n\n", self.title);
        let _ = writeln!(
            text,
            "| server | {unit} median (min–max) | × {} | rate/s | server CPU | load CPU | errors | RSS MiB |",
            self.reference
        );
        text.push_str("|---|---|---|---|---|---|---|---|\n");
        let base = self.median(self.reference, Sample::cost).unwrap_or(f64::NAN);
        for (server, samples) in &self.samples {
            let of = |value: fn(&Sample) -> f64| self.median(server, value).unwrap_or(f64::NAN);
            let cost = of(Sample::cost);
            let costs = || samples.iter().map(Sample::cost);
            let _ = writeln!(
                text,
                "| {server} | {:.2} ({:.2}–{:.2}) | {:.3} | {:.0} | {:.2} | {:.2} | {} | {:.0} |",
                cost * scale,
                costs().fold(f64::INFINITY, f64::min) * scale,
                costs().fold(0.0, f64::max) * scale,
                cost / base,
                of(|s| s.operations / s.seconds),
                of(|s| s.server / s.seconds),
                of(|s| s.load / s.seconds),
                samples.iter().map(|s| s.errors).sum::<u64>(),
                of(|s| s.resident as f64) / (1024.0 * 1024.0),
            );
        }
        text
    }

    fn json(&self) -> serde_json::Value {
        let samples = |samples: &[Sample]| -> Vec<_> {
            samples
                .iter()
                .map(|s| {
                    json!({"operations": s.operations, "errors": s.errors, "seconds": s.seconds,
                    "server_cpu": s.server, "load_cpu": s.load, "resident": s.resident})
                })
                .collect()
        };
        let servers: BTreeMap<_, _> = self.samples.iter().map(|(name, s)| (name, samples(s))).collect();
        json!({"title": self.title, "reference": self.reference, "servers": servers})
    }
}

/// Writes `target/peers/result.md` and `result.json`.
pub(crate) fn write(tables: &[Table]) -> Result<(), String> {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    let markdown: String = tables.iter().map(Table::markdown).collect();
    let json: BTreeMap<_, _> = tables.iter().map(|table| (table.key, table.json())).collect();
    let json = serde_json::to_string_pretty(&json).map_err(|e| e.to_string())?;
    std::fs::write(directory.join("result.md"), markdown).map_err(|e| e.to_string())?;
    std::fs::write(directory.join("result.json"), json).map_err(|e| e.to_string())
}
