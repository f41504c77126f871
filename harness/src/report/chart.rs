//! The chart of a run: recovery time and entries lost per cycle, as one inline SVG.
//!
//! Three paths, whatever the number of cycles, so that a thousand of them cost some twenty
//! kilobytes.

use super::text::{number, quantile};
use ninelives_evidence::record::CycleRecord;
use std::fmt::Write;

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 58.0;
/// Top and height of the recovery-time band, then of the entries-lost band.
const TIME: (f64, f64) = (10.0, 130.0);
const LOST: (f64, f64) = (166.0, 84.0);
const HEIGHT: f64 = 274.0;

/// The `<figure>`; empty if there is no cycle.
pub fn render(cycles: &[CycleRecord]) -> String {
    if cycles.is_empty() {
        return String::new();
    }
    let time_max = cycles.iter().map(|cycle| cycle.recovery.serving_ms).max().unwrap_or(0).max(1);
    let lost_max = cycles.iter().map(|cycle| cycle.recovery.lost_entries).max().unwrap_or(0).max(1);
    let step = (WIDTH - LEFT - 8.0) / cycles.len() as f64;
    let (mut dots, mut bars, mut odd) = (String::new(), String::new(), String::new());
    for (at, cycle) in cycles.iter().enumerate() {
        let x = LEFT + step * (at as f64 + 0.5);
        // Writing into a String cannot fail.
        if cycle.landed() {
            let _ = write!(dots, "M{x:.1} {:.1}h0", y(TIME, cycle.recovery.serving_ms, time_max));
            let _ =
                write!(bars, "M{x:.1} {:.1}V{:.1}", LOST.0 + LOST.1, y(LOST, cycle.recovery.lost_entries, lost_max));
        }
        if cycle.findings > 0 {
            let _ = write!(odd, "M{x:.1} {:.1}V{:.1}", TIME.0, LOST.0 + LOST.1);
        }
    }
    let width = (step * 0.8).clamp(0.6, 14.0);
    format!(
        "<figure><svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{summary}\">\
         {time_axis}{lost_axis}<path class=\"odd\" d=\"{odd}\"/><path class=\"dots\" d=\"{dots}\"/>\
         <path class=\"bars\" stroke-width=\"{width:.1}\" d=\"{bars}\"/>\
         <text x=\"{LEFT}\" y=\"{below}\">cycle {first}</text>\
         <text x=\"{right}\" y=\"{below}\" text-anchor=\"end\">{last}</text></svg>\
         <figcaption>{summary}. Above: kill until serving again, milliseconds. Below: applied entries taken out of \
         memtables. A red line marks a cycle with findings.</figcaption></figure>",
        summary = summary(cycles),
        time_axis = axis(TIME, time_max, "ms"),
        lost_axis = axis(LOST, lost_max, "lost"),
        below = HEIGHT - 6.0,
        right = WIDTH - 8.0,
        first = cycles[0].cycle,
        last = cycles[cycles.len() - 1].cycle,
    )
}

fn y(band: (f64, f64), value: u64, max: u64) -> f64 {
    band.0 + band.1 * (1.0 - value as f64 / max as f64)
}

fn axis(band: (f64, f64), max: u64, unit: &str) -> String {
    let (top, bottom) = (band.0, band.0 + band.1);
    format!(
        "<path class=\"rule\" d=\"M{LEFT} {top}H{WIDTH}M{LEFT} {bottom}H{WIDTH}\"/>\
         <text x=\"{x}\" y=\"{}\" text-anchor=\"end\">{}</text><text x=\"{x}\" y=\"{}\" text-anchor=\"end\">{unit}</text>\
         <text x=\"{x}\" y=\"{bottom}\" text-anchor=\"end\">0</text>",
        top + 8.0,
        number(max),
        top + 22.0,
        x = LEFT - 6.0,
    )
}

fn summary(cycles: &[CycleRecord]) -> String {
    let mut times: Vec<u64> =
        cycles.iter().filter(|cycle| cycle.landed()).map(|cycle| cycle.recovery.serving_ms).collect();
    times.sort_unstable();
    let at = |share| number(quantile(&times, share));
    format!("Recovery: median {} ms, 95 % within {} ms, longest {} ms", at(0.5), at(0.95), at(1.0))
}
