use super::*;
use crate::ModelError;
use crate::artifact::TensorMap;
use crate::detect::{
    AmplitudeParams, AutoencoderMember, BaselineParams, ClusterParams, DetectorSpec, Judge, PcaParams,
    PersistenceParams, ResidualParams, ShiftParams,
};
use crate::forecast::ForecasterSpec;
use crate::nn::AutoencoderParams;
use crate::spec::WeightSharing;
use foreglow_core::{Seed, Timestamp};
use ndarray::Array2;
use rand::Rng;

const ROWS: usize = 1500;
const FIT: usize = 900;
const CALIBRATE: usize = 1200;

fn noise(rng: &mut impl Rng) -> f64 {
    (0..12).map(|_| rng.r#gen::<f64>()).sum::<f64>() - 6.0
}

/// Five signals of one load with noise, the last one missing.
fn table(seed: u64, scale: f64) -> Array2<f64> {
    let mut rng = Seed(seed).rng();
    let mut load = 0.0;
    let mut out = Array2::zeros((ROWS, 5));
    for t in 0..ROWS {
        load = 0.9 * load + 0.4 * noise(&mut rng);
        for (i, weight) in [1.0, 2.0, -1.0, 0.5].into_iter().enumerate() {
            out[[t, i]] = scale * (10.0 + weight * load + 0.2 * noise(&mut rng));
        }
        out[[t, 4]] = f64::NAN;
    }
    out
}

fn signals() -> Vec<PipelineSignal> {
    ["a", "b", "c", "d", "gone"]
        .map(|n| PipelineSignal { key: MetricKey::new(n, Labels::default()), required: true })
        .to_vec()
}

fn label(i: usize) -> Labels {
    Labels::new([("host", format!("h{i}"))])
}

fn start() -> Timestamp {
    "2026-01-05T00:00:00Z".parse().unwrap()
}

fn history(i: usize, values: &Array2<f64>) -> GroupHistory<'_> {
    GroupHistory {
        group: label(i),
        start: start(),
        step: "1m".parse().unwrap(),
        values: values.view(),
        fit: 0..FIT,
        calibrate: FIT..CALIBRATE,
    }
}

fn small_net(judge: Judge) -> DetectorSpec {
    let net = AutoencoderParams { epochs: 15, batch: 64, ..AutoencoderParams::default() };
    DetectorSpec::Autoencoder(AutoencoderMember { net, judge, adapt: 500 })
}

fn every_member() -> Recipe {
    let residual = ResidualParams { forecaster: ForecasterSpec::Naive, every: 4, context: 64 };
    Recipe {
        detectors: vec![
            DetectorSpec::Pca(PcaParams { judge: Judge::Signals, ..PcaParams::default() }),
            DetectorSpec::Pca(PcaParams::default()),
            small_net(Judge::Signals),
            DetectorSpec::Cluster(ClusterParams::default()),
            DetectorSpec::Residual(residual),
            DetectorSpec::Amplitude(AmplitudeParams { judge: Judge::Signals, ..AmplitudeParams::default() }),
            DetectorSpec::Shift(ShiftParams { short: 5, long: 300 }),
            DetectorSpec::Baseline(BaselineParams { up_to: 100 }),
            DetectorSpec::Persistence(PersistenceParams::default()),
        ],
        forecaster: Some(ForecasterSpec::Naive),
        ..Recipe::default()
    }
}

fn fit(recipe: &Recipe, tables: &[Array2<f64>], rules: &Signals) -> Result<PipelineFit, ModelError> {
    let groups: Vec<_> = tables.iter().enumerate().map(|(i, t)| history(i, t)).collect();
    fit_pipeline("test", recipe, &signals(), rules, &groups, None, Seed(5), &|_| {})
}

/// Scores of all rows of a table behind the fit, and the last row's full answer.
fn run(pipeline: &Pipeline, group: &Labels, values: &Array2<f64>) -> (Vec<f64>, Vec<RowScore>) {
    let step = pipeline.step().unwrap();
    let mut state = pipeline.new_state(group, 5, step);
    let line = pipeline.alert_line(group, step);
    let mut out = RowScore::default();
    let mut all = Vec::new();
    let scores = (0..values.nrows())
        .map(|t| {
            let row = values.row(t).to_vec();
            let row = Row { time: start().plus(t as i64 * step.ms()), values: &row, gap: 0 };
            pipeline.score(group, &mut state, &row, &mut out);
            all.push(out.clone());
            line.score(out.neg_ln_p)
        })
        .collect();
    (scores, all)
}

fn in_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

#[test]
fn every_member_fits_scores_saves_and_repeats() {
    let tables = [table(1, 1.0), table(2, 100.0)];
    let recipe = every_member();
    let make = || fit(&recipe, &tables, &Signals::default()).unwrap();
    let (one, two) = (in_pool(1, make), in_pool(2, make));
    assert_eq!(one.pipeline, two.pipeline);
    assert_eq!(one.optimizer, two.optimizer);
    assert_eq!(
        one.pipeline.member_names(),
        ["pca", "pca_2", "autoencoder", "cluster", "residual", "amplitude", "shift", "baseline", "persistence"]
    );
    let (mut w, mut c) = (TensorMap::default(), TensorMap::default());
    one.pipeline.save(&mut w, &mut c).unwrap();
    let w = TensorMap::decode("w", &w.encode().unwrap()).unwrap();
    let c = TensorMap::decode("c", &c.encode().unwrap()).unwrap();
    let loaded = Pipeline::load(&w, &c).unwrap();
    assert_eq!(loaded, one.pipeline);

    let mut broken = tables[1].clone();
    for t in 1400..1420 {
        // Only the relation breaks: b stays inside its range.
        broken[[t, 1]] = 2000.0 - broken[[t, 1]];
    }
    let (scores, rows) = run(&loaded, &label(1), &broken);
    assert_eq!(scores, run(&one.pipeline, &label(1), &broken).0);
    let quiet = scores[CALIBRATE..1400].iter().filter(|s| **s >= 1.0).count();
    assert!(quiet <= 4, "{quiet} false alarms in 200 rows");
    let found = scores[1400..1420].iter().filter(|s| **s >= 1.0).count();
    assert!(found >= 8, "{found} of 20: {:?}", &scores[1400..1420]);
    let strongest = (1400..1420).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap();
    let row = &rows[strongest];
    let top = (0..5).max_by(|a, b| row.signals[*a].share.total_cmp(&row.signals[*b].share)).unwrap();
    assert_eq!(top, 1, "{:?}", row.signals);
    assert!(row.signals[4].share == 0.0 && row.signals[4].neg_ln_p.is_nan());
    for r in &rows[100..] {
        assert!((r.signals.iter().map(|s| s.share).sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(r.members.iter().all(|m| m.is_nan() || (0.0..=691.0).contains(m)), "{:?}", r.members);
    }
    let inside = rows[CALIBRATE..1400]
        .iter()
        .zip(CALIBRATE..)
        .filter(|(r, t)| (r.signals[0].lower..=r.signals[0].upper).contains(&broken[[*t, 0]]))
        .count();
    assert!(inside >= 188, "{inside} of 200 in the band of 98 %");
}

#[test]
fn unknown_groups_and_shared_weights() {
    let tables = [table(1, 1.0), table(2, 1.0), table(3, 1.0)];
    let recipe = Recipe { weights: WeightSharing::Shared, forecaster: None, ..every_member() };
    let p = fit(&recipe, &tables, &Signals::default()).unwrap().pipeline;
    let stranger = label(9);
    assert!(p.knows(&label(2)) && !p.knows(&stranger) && p.groups().count() == 3);
    let (scores, _) = run(&p, &stranger, &table(7, 1.0));
    let alarms = scores[300..].iter().filter(|s| **s >= 1.0).count();
    assert!(alarms < 20, "{alarms} alarms in 1200 rows of a group like the others");
    let (mut w, mut c) = (TensorMap::default(), TensorMap::default());
    p.save(&mut w, &mut c).unwrap();
    assert!(w.names().filter(|n| n.ends_with("sizes")).count() == 1, "one net for all");
    assert_eq!(Pipeline::load(&w, &c).unwrap(), p);
}

#[test]
fn wild_missing_and_short_input() {
    let tables = [table(1, 1.0)];
    let p = fit(&every_member(), &tables, &Signals::default()).unwrap().pipeline;
    let mut wild = tables[0].clone();
    for t in 1300..1310 {
        wild.row_mut(t).fill([f64::NAN, 1e308, -1e308, f64::INFINITY, f64::NEG_INFINITY][t % 5]);
    }
    for (t, s) in run(&p, &label(0), &wild).0.iter().enumerate() {
        assert!(s.is_finite() || (s.is_nan() && wild.row(t).iter().all(|v| !v.is_finite())) || t < 70, "{t}: {s}");
    }
    // A dozen rows: members that need more are left out, and the fit says so.
    let short = GroupHistory { fit: 0..12, calibrate: 12..20, ..history(0, &tables[0]) };
    let f =
        fit_pipeline("t", &every_member(), &signals(), &Signals::default(), &[short], None, Seed(1), &|_| {}).unwrap();
    assert!(f.notes.iter().any(|n| n.contains("without autoencoder")), "{:?}", f.notes);
    run(&f.pipeline, &label(0), &tables[0]);
    let constant = Array2::from_elem((ROWS, 5), 3.0);
    let f = fit(&every_member(), std::slice::from_ref(&constant), &Signals::default()).unwrap();
    let scores = run(&f.pipeline, &label(0), &constant).0;
    assert!(scores[100..].iter().all(|s| *s < 1.0));

    let e = |g: GroupHistory<'_>| {
        fit_pipeline("t", &Recipe::default(), &signals(), &Signals::default(), &[g], None, Seed(1), &|_| {})
            .unwrap_err()
            .to_string()
    };
    let nothing = Array2::from_elem((ROWS, 5), f64::NAN);
    assert!(e(history(3, &nothing)).contains("missing"));
    assert!(e(GroupHistory { calibrate: 10..20, ..history(3, &tables[0]) }).contains("h3"));
    let two = Array2::zeros((ROWS, 2));
    assert!(e(history(3, &two)).contains("2 columns for 5 signals"));
}

#[test]
fn rules_hold_for_fitted_pipelines() {
    let rules = Signals::parse(
        "[[signal]]\nname = \"a\"\nmatch = \"a\"\nworse = \"up\"\nlimit = 30.0\nmin_change = { abs = 8.0 }\n\
         [[signal]]\nname = \"b\"\nmatch = \"b\"\nmin_change = { abs = 1000.0 }\n\
         [[signal]]\nname = \"c\"\nmatch = \"c\"\nmin_change = { abs = 1000.0 }\n\
         [[signal]]\nname = \"d\"\nmatch = \"d\"\nmin_change = { abs = 1000.0 }\n",
    )
    .unwrap();
    let mut t = table(1, 1.0);
    let p = fit(&every_member(), &[t.clone()], &rules).unwrap().pipeline;
    t[[1400, 0]] += 6.0;
    t[[1430, 1]] += 100.0;
    t[[1450, 0]] = 30.0;
    let (scores, _) = run(&p, &label(0), &t);
    assert!(scores[1400] < 1.0 && scores[1430] < 1.0, "{} {}", scores[1400], scores[1430]);
    assert!(scores[1450] >= 1.0, "{}", scores[1450]);
}

#[test]
fn one_signal_and_a_warm_start() {
    let t = table(4, 1.0);
    let recipe = Recipe::default();
    let one = t.slice(ndarray::s![.., ..1]).to_owned();
    let only = [PipelineSignal { key: MetricKey::new("a", Labels::default()), required: true }];
    let f =
        fit_pipeline("one", &recipe, &only, &Signals::default(), &[history(0, &one)], None, Seed(1), &|_| {}).unwrap();
    assert!(!f.pipeline.member_names().is_empty() && !f.pipeline.member_names().contains(&"pca".to_owned()));

    let recipe = Recipe {
        detectors: vec![small_net(Judge::Signals), DetectorSpec::Amplitude(AmplitudeParams::default())],
        forecaster: None,
        ..Recipe::default()
    };
    let groups = [history(0, &t)];
    let fit =
        |warm| fit_pipeline("w", &recipe, &signals(), &Signals::default(), &groups, warm, Seed(2), &|_| {}).unwrap();
    let first = fit(None);
    assert!(!first.optimizer.is_empty());
    let second = fit(Some((&first.pipeline, &first.optimizer)));
    assert!(second.notes.iter().all(|n| !n.contains("not taken")), "{:?}", second.notes);
    assert_ne!(first.pipeline, second.pipeline);
    let other = Recipe { detectors: vec![DetectorSpec::Amplitude(AmplitudeParams::default())], ..recipe.clone() };
    let third = fit_pipeline(
        "w",
        &other,
        &signals(),
        &Signals::default(),
        &groups,
        Some((&first.pipeline, &first.optimizer)),
        Seed(2),
        &|_| {},
    )
    .unwrap();
    assert!(third.notes[0].contains("warm start not taken"), "{:?}", third.notes);
}
