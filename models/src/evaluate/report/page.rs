use super::table::{Better, Cell, Table, duration, escape, fixed};
use super::{AnomalyReport, Comparison, Cost, FanPlot, ForecastReport, Protocol, Provenance, Role, ScorePlot, alerts};
use crate::evaluate::ForecastMeasures;
use std::fmt::Write;

const STYLE: &str = include_str!("style.css");

/// The page of an anomaly backtest: means, comparisons, plots, figures a series.
pub fn anomaly_html(report: &AnomalyReport, plots: &[ScorePlot]) -> String {
    let mut out = open("Anomaly backtest", &report.provenance, &report.cost);
    if report.is_unlabelled() {
        out.push_str(
            "<p class=\"note\">No row is labelled, so nothing is judged: what follows is what was raised, and the scores.</p>\n",
        );
    } else {
        means(&mut out, report);
    }
    comparisons(&mut out, &report.comparisons);
    if !plots.is_empty() {
        out.push_str(
            "<h2>Scores</h2>\n<p class=\"note\">Shaded: labelled anomalies. Dashed: the alert line at 1; marks below it: \
             alerts. The score axis is logarithmic.</p>\n",
        );
        for p in plots {
            out.push_str(&p.svg());
        }
    }
    let raised = &report.alerts;
    let _ =
        writeln!(out, "<h2>Alerts</h2>\n<p class=\"note\">{}; listed: {}.</p>", raised.summary(), raised.highest.len());
    if !raised.highest.is_empty() {
        details(&mut out, "highest first", report.is_unlabelled(), &alerts::table(raised));
    }
    if !report.is_unlabelled() {
        out.push_str("<h2>Series</h2>\n");
    }
    for d in &report.detectors {
        let mut table = Table::new(
            "series",
            &[
                ("VUS-PR", Better::Neither),
                ("AUC-PR", Better::Neither),
                ("window", Better::Neither),
                ("events", Better::Neither),
                ("found", Better::Neither),
                ("false", Better::Neither),
                ("F1", Better::Neither),
                ("delay", Better::Neither),
                ("Hit@100", Better::Neither),
            ],
        );
        for s in &d.series {
            let count = |v: Option<usize>| Cell::number(v.map(|n| n as f64), 0);
            let events = s.events.as_ref();
            table.row(
                &s.series,
                "",
                vec![
                    Cell::number(s.rank.map(|r| r.vus_pr), 3),
                    Cell::number(s.rank.map(|r| r.auc_pr), 3),
                    count(s.rank.map(|r| r.window)),
                    count(events.map(|e| e.events)),
                    count(events.map(|e| e.found)),
                    count(events.map(|e| e.false_alerts)),
                    Cell::number(events.and_then(|e| e.f1), 2),
                    Cell::text(events.and_then(|e| e.median_delay_ms).map_or_else(|| "–".into(), duration)),
                    Cell::number(s.blame.map(|b| b.hit_100), 2),
                ],
            );
        }
        details(&mut out, &d.name, d.role == Role::Subject, &table);
    }
    close(out)
}

fn means(out: &mut String, report: &AnomalyReport) {
    out.push_str("<h2>Means over series</h2>\n");
    let mut table = Table::new(
        "detector",
        &[
            ("VUS-PR", Better::Higher),
            ("VUS-ROC", Better::Higher),
            ("AUC-PR", Better::Higher),
            ("precision", Better::Higher),
            ("recall", Better::Higher),
            ("F1", Better::Higher),
            ("delay", Better::Neither),
            ("false/day", Better::Neither),
            ("Hit@100", Better::Higher),
            ("Hit@150", Better::Higher),
            ("NDCG", Better::Higher),
        ],
    );
    for d in &report.detectors {
        let m = &d.means;
        table.row(
            &d.name,
            class(d.role),
            vec![
                Cell::number(m.vus_pr, 3),
                Cell::number(m.vus_roc, 3),
                Cell::number(m.auc_pr, 3),
                Cell::number(m.precision, 2),
                Cell::number(m.recall, 2),
                Cell::number(m.f1, 2),
                Cell::text(m.median_delay_ms.map_or_else(|| "–".into(), duration)),
                Cell::number(m.false_alerts_per_day, 2),
                Cell::number(m.hit_100, 2),
                Cell::number(m.hit_150, 2),
                Cell::number(m.ndcg, 2),
            ],
        );
    }
    out.push_str(&table.html());
    let _ = writeln!(
        out,
        "<p class=\"note\">Precision, recall and F1 count events at the alert line, without point adjustment; the line is \
         set for a budget of {} false alerts a day a group. Delay is the median from the start of a found event to its first alert.</p>",
        report.budget_per_day
    );
}

/// The page of a forecast backtest: means, comparisons, coverage, fans, figures a series.
pub fn forecast_html(report: &ForecastReport, plots: &[FanPlot]) -> String {
    let mut out = open("Forecast backtest", &report.provenance, &report.cost);
    out.push_str("<h2>Means over windows</h2>\n");
    let head = [
        ("MASE", Better::Lower),
        ("sMAPE", Better::Lower),
        ("SQL", Better::Lower),
        ("WQL", Better::Lower),
        ("MAE", Better::Lower),
        ("MSE", Better::Lower),
        ("windows", Better::Neither),
        ("near-constant", Better::Neither),
        ("failed", Better::Neither),
    ];
    let cells = |m: &ForecastMeasures| {
        vec![
            Cell::number(m.mase, 3),
            Cell::number(m.smape, 2),
            Cell::number(m.sql, 3),
            Cell::number(m.wql, 3),
            Cell::number(m.mae, 3),
            Cell::number(m.mse, 3),
            Cell::number(Some(m.windows as f64), 0),
            Cell::number(Some(m.near_constant as f64), 0),
            Cell::number(Some(m.failed as f64), 0),
        ]
    };
    let mut table = Table::new("model", &head);
    for m in &report.models {
        table.row(&m.name, class(m.role), cells(&m.measures));
    }
    out.push_str(&table.html());
    out.push_str(
        "<p class=\"note\">MASE and SQL are scaled by the seasonal error of each window's past; near-constant windows are \
         left out of both. WQL is the mean over deciles of twice the pinball loss over the sum of absolute values.</p>\n",
    );
    comparisons(&mut out, &report.comparisons);
    coverage(&mut out, report);
    if !plots.is_empty() {
        out.push_str("<h2>Windows</h2>\n<p class=\"note\">Line: what happened. Dashed: the median; bands: symmetric quantiles.</p>\n");
        for p in plots {
            out.push_str(&p.svg());
        }
    }
    out.push_str("<h2>Series</h2>\n");
    let plain: Vec<(&str, Better)> = head.iter().map(|h| (h.0, Better::Neither)).collect();
    for m in &report.models {
        let mut table = Table::new("series, metric", &plain);
        for s in &m.series {
            table.row(&format!("{}, {}", s.series, s.metric), "", cells(&s.measures));
        }
        details(&mut out, &m.name, false, &table);
    }
    close(out)
}

fn coverage(out: &mut String, report: &ForecastReport) {
    let Some(first) = report.models.first().filter(|m| !m.measures.bands.is_empty()) else { return };
    let titles: Vec<String> = first.measures.bands.iter().map(|b| format!("{:.0} %", b.nominal * 100.0)).collect();
    let head: Vec<(&str, Better)> = titles.iter().map(|t| (t.as_str(), Better::Neither)).collect();
    let mut table = Table::new("share inside the band", &head);
    for m in &report.models {
        let row = first.measures.bands.iter().map(|want| {
            let got = m.measures.bands.iter().find(|b| (b.nominal - want.nominal).abs() < 1e-9);
            Cell::text(got.map_or_else(|| "–".into(), |b| format!("{} %", fixed(b.measured * 100.0, 1))))
        });
        table.row(&m.name, class(m.role), row.collect());
    }
    out.push_str("<h2>Coverage</h2>\n");
    out.push_str(&table.html());
}

fn comparisons(out: &mut String, rows: &[Comparison]) {
    if rows.is_empty() {
        return;
    }
    let head = ["measure", "difference", "95 % interval", "wins", "losses", "ties"].map(|h| (h, Better::Neither));
    let mut table = Table::new("against", &head);
    for c in rows {
        let d = &c.difference;
        table.row(
            &c.against,
            "",
            vec![
                Cell::text(c.measure.replace('_', "-").to_uppercase()),
                Cell::text(signed(d.mean)),
                Cell::text(format!("{} … {}", signed(d.lower), signed(d.upper))),
                Cell::text(d.wins.to_string()),
                Cell::text(d.losses.to_string()),
                Cell::text(d.ties.to_string()),
            ],
        );
    }
    out.push_str("<h2>Paired differences</h2>\n");
    out.push_str(&table.html());
}

fn signed(v: f64) -> String {
    if v > 0.0 { format!("+{}", fixed(v, 3)) } else { fixed(v, 3).replace('-', "−") }
}

fn class(role: Role) -> &'static str {
    match role {
        Role::Subject => "subject",
        Role::Member => "",
        Role::Baseline => "baseline",
    }
}

fn details(out: &mut String, name: &str, show: bool, table: &Table) {
    let state = if show { " open" } else { "" };
    let _ = write!(out, "<details{state}><summary>{}</summary>\n{}</details>\n", escape(name), table.html());
}

fn open(title: &str, from: &Provenance, cost: &Cost) -> String {
    let protocol = match from.protocol {
        Protocol::Causal => {
            "causal: fitted and calibrated on train rows, each score uses rows up to its own, test rows judged"
        }
        Protocol::Tsb => "tsb: as TSB-AD runs it; the whole range is scored and judged, members may look ahead",
        Protocol::RollingOrigin => {
            "rolling origin: windows count back from the last row, models fitted before the first"
        }
        Protocol::Ltsf => "ltsf: stride 1 over the test range, z-scored by train",
    };
    let seeds: Vec<String> = from.seeds.iter().map(u64::to_string).collect();
    let mut facts: Vec<(String, String)> = vec![
        ("data".into(), from.data.clone()),
        ("model".into(), from.model.clone()),
        ("protocol".into(), protocol.into()),
        ("seeds".into(), seeds.join(", ")),
    ];
    facts.extend(from.settings.iter().cloned());
    let memory = cost.peak_memory_bytes.map_or_else(String::new, |b| format!(", peak memory {} MiB", b / 1_048_576));
    facts.push((
        "cost".into(),
        format!("fit {:.1} s, score {:.1} s on {} threads{memory}", cost.fit_seconds, cost.score_seconds, cost.threads),
    ));
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{0}: {1}</title>\n<style>\n{STYLE}</style></head>\n<body><main>\n<h1>{0}</h1>\n<dl>",
        escape(title),
        escape(&from.data)
    );
    for (name, value) in facts {
        let _ = write!(out, "<dt>{}</dt><dd>{}</dd>", escape(&name), escape(&value));
    }
    let _ = write!(out, "</dl>\n<!-- foreglow {} -->\n", escape(&from.version).replace("--", "- -"));
    out
}

fn close(mut out: String) -> String {
    out.push_str("</main></body></html>\n");
    out
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
