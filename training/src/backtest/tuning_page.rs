use super::tuning::TuningReport;
use std::fmt::Write;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 30.0;
/// Regret below this is drawn at the lower edge of the logarithmic axis.
const FLOOR: f64 = 1e-4;
const COLOURS: [&str; 8] = ["#0969da", "#cf222e", "#1a7f37", "#9a6700", "#8250df", "#bf3989", "#57606a", "#0a7b83"];

/// The page of a tuning backtest: one table and the median regret curves, self-contained.
pub(super) fn html(report: &TuningReport) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Tuning backtest: {0}</title>\n<style>\
         :root{{color-scheme:light dark}}body{{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2rem auto;padding:0 1rem}}\
         td,th{{padding:.2rem .8rem;text-align:right}}td:first-child,th:first-child{{text-align:left}}\
         svg{{width:100%;height:auto}}svg text{{fill:currentColor;font-size:12px}}</style></head><body>\n\
         <h1>Tuning backtest</h1>\n<p>{0}, goal {1}: {2} rows of {3} parameters, {4} trials a run, {5} seeds, noise {6}; \
         best in the table {7}, median {8}.</p>\n",
        escape(&report.data),
        escape(&report.goal),
        report.rows,
        report.parameters.len(),
        report.budget,
        report.seeds.len(),
        report.noise,
        report.best_in_table,
        report.median_of_table
    );
    for note in &report.notes {
        let _ = writeln!(out, "<p>{}</p>", escape(note));
    }
    out.push_str(
        "<table><tr><th>designer</th><th>regret</th><th>quartiles</th><th>best</th><th>ms a suggestion</th></tr>\n",
    );
    for d in &report.designers {
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td>{:.4}</td><td>{:.4} … {:.4}</td><td>{}</td><td>{:.2}</td></tr>",
            escape(&d.designer),
            d.regret,
            d.quartiles[0],
            d.quartiles[1],
            d.best,
            d.suggest_ms
        );
    }
    out.push_str("</table>\n<h2>Median regret by trial</h2>\n");
    curves(&mut out, report);
    out.push_str(
        "<p>Regret is (best found - best in table) / (median of table - best in table): 0 the best row, 1 a median row. \
         Under noise, the best found is what the method would recommend, at its true value.</p>\n</body></html>\n",
    );
    out
}

fn curves(out: &mut String, report: &TuningReport) {
    let longest = report.designers.iter().map(|d| d.curve.len()).max().unwrap_or(0).max(2);
    let (low, high) = (FLOOR.log10(), 0.5);
    let x = |n: usize| LEFT + (WIDTH - LEFT - 110.0) * n as f64 / (longest - 1) as f64;
    let y = |r: f64| (HEIGHT - BOTTOM) * (1.0 - (r.max(FLOOR).log10().clamp(low, high) - low) / (high - low));
    let _ = writeln!(out, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"median regret by trial\">");
    for power in -4..=0 {
        let v = 10f64.powi(power);
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{0}\" y1=\"{1:.1}\" y2=\"{1:.1}\" stroke=\"currentColor\" stroke-opacity=\".2\"/>\
             <text x=\"4\" y=\"{2:.1}\">{v}</text>",
            WIDTH - 110.0,
            y(v),
            y(v) + 4.0
        );
    }
    for n in [1, longest.div_ceil(2), longest] {
        let _ = writeln!(out, "<text x=\"{:.1}\" y=\"{HEIGHT}\">{n}</text>", x(n - 1));
    }
    for (k, d) in report.designers.iter().enumerate() {
        let points: Vec<String> =
            d.curve.iter().enumerate().map(|(n, r)| format!("{:.1},{:.1}", x(n), y(*r))).collect();
        let colour = COLOURS[k % COLOURS.len()];
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>\
             <text x=\"{}\" y=\"{}\" style=\"fill:{colour}\">{}</text>",
            points.join(" "),
            WIDTH - 100.0,
            20 + 18 * k,
            escape(&d.designer)
        );
    }
    out.push_str("</svg>\n");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
