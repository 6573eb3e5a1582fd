//! A bar chart of the figure that counts, as SVG that reads in light and in dark.

use std::fmt::Write as _;

use crate::results::Table;
use crate::workload::Workload;

/// Lengths in the units of the drawing.
const WIDTH: usize = 640;
const LETTER: usize = 7;
const VALUES: usize = 80;
const ROW: usize = 28;
const TOP: usize = 44;

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#1f2328}.head{font-weight:600}.bar{fill:#9aa4b2}\
                     .ours{fill:#2f6fdb}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.bar{fill:#6b7684}\
                     .ours{fill:#58a6ff}}";

/// One bar for each subject.
pub fn bars(workload: Workload, table: &Table) -> String {
    let column = table.columns.first();
    let (unit, digits) = column.map_or(("", 0), |column| (column.name.as_str(), column.digits));
    let rows: Vec<(&str, f64)> =
        table.rows.iter().filter_map(|row| Some((row.label.as_str(), row.median(0)?))).collect();
    let greatest = rows.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let labels = LETTER * rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0) + 20;
    let height = TOP + ROW * rows.len() + 8;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-label=\"{name}: {unit}\">\n<style>{STYLE}</style>\n\
         <text class=\"head\" x=\"8\" y=\"24\">{name}: {unit} (less is better)</text>\n",
        name = workload.name()
    );
    for (number, (label, value)) in rows.iter().enumerate() {
        let (y, text) = (TOP + ROW * number, TOP + ROW * number + 15);
        let length = value / greatest * (WIDTH.saturating_sub(labels + VALUES)) as f64;
        let class = if label.starts_with("svidecar") || label.ends_with("rules") { "ours" } else { "bar" };
        // Writing to a string does not fail.
        let _ = writeln!(
            svg,
            "<text x=\"{x}\" y=\"{text}\" text-anchor=\"end\">{label}</text>\
             <rect class=\"{class}\" x=\"{labels}\" y=\"{y}\" width=\"{length:.1}\" height=\"20\" rx=\"3\"/>\
             <text x=\"{end:.1}\" y=\"{text}\">{value:.digits$}</text>",
            x = labels - 10,
            end = labels as f64 + length + 8.0,
        );
    }
    svg + "</svg>\n"
}
