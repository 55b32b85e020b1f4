//! The ratios as a picture: a bar for each server, by the reference of its part, with the range of single rounds.

use std::fmt::Write;

use super::goal::BARE;
use super::report::{Ratio, Table};

const WIDTH: f64 = 900.0;
const LEFT: f64 = 170.0;
const RIGHT: f64 = 90.0;
const BAR: f64 = 16.0;
const HEAD: f64 = 34.0;
/// Bars that are longer are cut; their number says by how much.
const RATIO_MAX: f64 = 4.0;

/// An SVG of all tables.
pub(crate) fn draw(tables: &[Table]) -> String {
    let mut body = String::new();
    let mut top = 10.0;
    for table in tables {
        let rows: Vec<(&str, Ratio)> = table
            .servers()
            .filter_map(|name| Some((name, table.ratio(name, table.part.reference)?)))
            .filter(|(_, ratio)| ratio.median.is_finite())
            .collect();
        if !rows.is_empty() {
            top = group(&mut body, top, table, &rows);
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{top:.0}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

/// One part; returns where the next may begin.
fn group(body: &mut String, top: f64, table: &Table, rows: &[(&str, Ratio)]) -> f64 {
    let greatest = rows.iter().map(|(_, ratio)| ratio.range.1.max(ratio.median)).fold(1.0, f64::max);
    let scale = (WIDTH - LEFT - RIGHT) / greatest.min(RATIO_MAX);
    let x = |ratio: f64| LEFT + ratio.min(RATIO_MAX) * scale;
    let bottom = top + HEAD + BAR * rows.len() as f64;
    let _ = writeln!(
        body,
        "<text x=\"10\" y=\"{:.0}\" font-weight=\"bold\">{}: {} (× {})</text>",
        top + 20.0,
        escaped(table.part.key),
        escaped(table.part.title),
        table.part.reference
    );
    for (place, (name, ratio)) in rows.iter().enumerate() {
        let y = top + HEAD + BAR * place as f64;
        let middle = y + BAR / 2.0 - 1.0;
        let _ = writeln!(
            body,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{name}</text>\
             <rect x=\"{LEFT}\" y=\"{y:.0}\" width=\"{:.1}\" height=\"{:.0}\" fill=\"{}\"/>\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.0}\" y2=\"{middle:.0}\" stroke=\"black\"/>\
             <text x=\"{:.0}\" y=\"{:.0}\">{:.2}</text>",
            LEFT - 6.0,
            y + 11.0,
            x(ratio.median) - LEFT,
            BAR - 3.0,
            colour(name),
            x(ratio.range.0),
            x(ratio.range.1),
            x(ratio.range.1.max(ratio.median)) + 5.0,
            y + 11.0,
            ratio.median
        );
    }
    let _ = writeln!(
        body,
        "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{1:.0}\" y2=\"{bottom:.0}\" stroke=\"grey\" stroke-dasharray=\"3\"/>",
        x(1.0),
        top + HEAD - 4.0
    );
    bottom + 12.0
}

fn colour(name: &str) -> &'static str {
    match name {
        BARE => "#c8c8c8",
        own if own.starts_with("portolan") => "#2a7ab8",
        _ => "#e0a458",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
