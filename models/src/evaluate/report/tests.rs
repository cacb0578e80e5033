use super::*;
use crate::evaluate::report::{Alert, Alerts, DetectorReport, ForecastEntry, ModelReport, SeriesDetection};
use crate::evaluate::{WindowInput, event_measures, rank_measures, window_measures};
use foreglow_core::{QUANTILE_LEVELS, Seed, Timestamp};
use rand::Rng;

fn provenance(protocol: Protocol) -> Provenance {
    Provenance {
        data: "a <made> & small set".into(),
        model: "default".into(),
        protocol,
        seeds: vec![1, 2, 3],
        version: "0.1.0".into(),
        settings: vec![("horizon".into(), "48".into())],
    }
}

fn cost() -> Cost {
    Cost { fit_seconds: 12.5, score_seconds: 1.25, peak_memory_bytes: Some(300 << 20), threads: 2 }
}

fn times(n: usize) -> Vec<Timestamp> {
    (0..n).map(|i| Timestamp(1_767_225_600_000 + i as i64 * 60_000)).collect()
}

fn anomaly() -> (AnomalyReport, Vec<ScorePlot>) {
    let n = 4000;
    let labels: Vec<bool> = (0..n).map(|i| (900..960).contains(&i) || (2500..2520).contains(&i)).collect();
    let mut plots = Vec::new();
    let mut rows = Vec::new();
    for (name, role, lift) in
        [("random", Role::Baseline, 0.0), ("ensemble", Role::Subject, 3.0), ("autoencoder", Role::Member, 1.2)]
    {
        let mut series = Vec::new();
        for k in 0..3u64 {
            let mut rng = Seed(k).child(name).rng();
            let scores: Vec<f64> = labels
                .iter()
                .map(|l| rng.r#gen::<f64>().powi(2) * 1.003 + if *l { rng.r#gen::<f64>() * lift } else { 0.0 })
                .collect();
            let alerts: Vec<bool> = scores.iter().map(|s| *s >= 1.0).collect();
            series.push(SeriesDetection {
                series: format!("machine-{k}"),
                rank: rank_measures(&scores, &labels, 60),
                events: (role != Role::Baseline).then(|| event_measures(&alerts, &labels, 60_000.0)),
                blame: None,
            });
            if role == Role::Subject && k < 2 {
                let load =
                    (0..n).map(|i| 40.0 + 10.0 * (i as f64 / 229.0).sin() + f64::from(u8::from(labels[i])) * 15.0);
                plots.push(ScorePlot {
                    title: format!("machine-{k}, ensemble"),
                    times: times(n),
                    scores: scores.iter().enumerate().map(|(i, s)| if i < 60 { f64::NAN } else { *s }).collect(),
                    labels: labels.clone(),
                    alerts,
                    metric: (k == 0).then(|| ("cpu, %".into(), load.collect())),
                });
            }
        }
        rows.push(DetectorReport::new(name, role, series));
    }
    (AnomalyReport::new(provenance(Protocol::Causal), 1.0, rows, alerts(), cost(), Seed(1)), plots)
}

fn alerts() -> Alerts {
    let t = times(20);
    let alert = |series: &str, from: usize, to: usize, peak_score| Alert {
        series: series.to_owned(),
        start: t[from],
        end: t[to],
        peak_score,
        labelled: (to > 5).then_some(true),
        metric: (to > 5).then(|| ("cpu".to_owned(), Some(91.25), None)),
    };
    let mut out = Alerts::default();
    out.extend(vec![alert("m<0>", 3, 3, 1.5), alert("m<0>", 9, 13, 4.25)], 1440, "1m".parse().ok());
    out.extend((0..300).map(|i| alert("m1", 1, 2, 1.0 + 0.001 * f64::from(i))).collect(), 1440, "1m".parse().ok());
    out
}

fn forecast() -> (ForecastReport, Vec<FanPlot>) {
    let mut plots = Vec::new();
    let mut rows = Vec::new();
    for (name, role, error) in [("seasonal_naive", Role::Baseline, 2.0), ("ensemble", Role::Subject, 0.7)] {
        let mut entries = Vec::new();
        for window in (0..6usize).rev() {
            let mut rng = Seed(window as u64).rng();
            let y: Vec<f64> =
                (0..192).map(|i| 100.0 + 20.0 * (i as f64 * 0.13).sin() + 6.0 * (rng.r#gen::<f64>() - 0.5)).collect();
            let (past, actual) = y.split_at(144);
            let quantiles: Vec<Vec<f64>> = (0..48)
                .map(|i| {
                    let centre = 100.0 + 20.0 * ((144 + i) as f64 * 0.13).sin() + error;
                    QUANTILE_LEVELS.iter().map(|l| centre + (l - 0.5) * (6.0 + 0.2 * i as f64)).collect()
                })
                .collect();
            let input = WindowInput { actual, quantiles: &quantiles, levels: &QUANTILE_LEVELS, past, season: 48 };
            entries.push(ForecastEntry {
                series: "h1".into(),
                metric: "load".into(),
                window,
                measures: window_measures(&input).expect("fits"),
            });
            if role == Role::Subject && window == 0 {
                plots.push(FanPlot {
                    title: "h1, load, ensemble".into(),
                    times: times(192),
                    past: past.to_vec(),
                    actual: actual.to_vec(),
                    levels: QUANTILE_LEVELS.to_vec(),
                    quantiles,
                });
            }
        }
        rows.push(ModelReport::new(name, role, entries));
    }
    (ForecastReport::new(provenance(Protocol::RollingOrigin), rows, cost(), Seed(1)), plots)
}

/// Every element that opens also closes, in order.
fn balanced(html: &str) {
    let mut stack: Vec<&str> = Vec::new();
    for part in html.split('<').skip(1) {
        let tag = part.split('>').next().expect("a tag");
        let name = tag.trim_start_matches('/').split([' ', '\n']).next().expect("a name");
        if tag.starts_with('!') || tag.ends_with('/') || name == "meta" {
            continue;
        }
        if tag.starts_with('/') {
            assert_eq!(stack.pop(), Some(name));
        } else {
            stack.push(name);
        }
    }
    assert!(stack.is_empty(), "{stack:?} left open");
}

#[test]
fn anomaly_report_compares_and_survives_json() {
    let (report, plots) = anomaly();
    let order: Vec<&str> = report.detectors.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(order, ["ensemble", "autoencoder", "random"]);
    assert_eq!(report.comparisons.len(), 4);
    let random = report.comparisons.iter().find(|c| c.against == "random" && c.measure == "vus_pr").expect("compared");
    assert!(random.difference.lower > 0.3 && random.difference.wins == 3, "{random:?}");
    let text = serde_json::to_string(&report).expect("serialises");
    let back: AnomalyReport = serde_json::from_str(&text).expect("parses");
    assert_eq!(back, report);

    let html = anomaly_html(&report, &plots);
    balanced(&html);
    assert!(html.contains("a &lt;made&gt; &amp; small set") && !html.contains("<made>"));
    assert_eq!(html.matches("class=\"label\"").count(), 4);
    assert_eq!(html.matches("class=\"alert\"").count(), 2);
    assert!(!html.contains("NaN") && !html.contains("<script") && !html.contains("http"));
    assert_eq!(html, anomaly_html(&report, &plots));

    let listed = &report.alerts;
    assert_eq!((listed.count, listed.highest.len(), listed.highest[0].peak_score), (302, 200, 4.25));
    assert!(html.contains("302 alerts in 2.0 days of scored rows, 151.00 a day; listed: 200"), "{html}");
    assert!(html.contains("91.25, expected missing") && html.contains("m&lt;0&gt;"));
}

/// Data that nobody labelled: no table of figures that cannot be, but what was raised, and the scores.
#[test]
fn an_unlabelled_report_shows_what_was_raised() {
    let (labelled, plots) = anomaly();
    let report = AnomalyReport { detectors: Vec::new(), comparisons: Vec::new(), ..labelled };
    let html = anomaly_html(&report, &plots[..1]);
    balanced(&html);
    assert!(html.contains("nothing is judged") && html.contains("<svg") && html.contains("<details open>"), "{html}");
    assert!(!html.contains("VUS-PR") && !html.contains("<h2>Series"));
}

#[test]
fn forecast_report_pairs_windows() {
    let (report, plots) = forecast();
    assert_eq!(report.models[0].name, "ensemble");
    assert_eq!(report.models[0].measures.windows, 6);
    let mase = report.comparisons.iter().find(|c| c.measure == "mase").expect("compared");
    assert!(mase.difference.wins == 6 && mase.difference.upper < 0.0, "{mase:?}");
    let text = serde_json::to_string(&report).expect("serialises");
    let back: ForecastReport = serde_json::from_str(&text).expect("parses");
    assert_eq!(serde_json::to_string(&back).expect("serialises"), text);

    let html = forecast_html(&report, &plots);
    balanced(&html);
    assert_eq!(html.matches("class=\"band\"").count(), 6);
    assert!(!html.contains("NaN") && !html.contains("<script"));
}

#[test]
fn odd_plots_still_draw() {
    let empty = ScorePlot {
        title: String::new(),
        times: vec![],
        scores: vec![],
        labels: vec![],
        alerts: vec![],
        metric: Some(("flat".into(), vec![])),
    };
    balanced(&empty.svg());
    let wild = FanPlot {
        title: "wild".into(),
        times: times(3),
        past: vec![1e308, -1e308],
        actual: vec![f64::NAN],
        levels: vec![0.1, 0.5, 0.9],
        quantiles: vec![vec![f64::INFINITY; 3]],
    };
    let svg = wild.svg();
    balanced(&svg);
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
}
