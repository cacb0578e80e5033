use super::*;
use crate::artifact::TensorMap;
use crate::nn::{LstmParams, quiet};
use foreglow_core::{Forecaster, History, QUANTILE_LEVELS, Seed, Step, Timestamp};
use proptest::prelude::*;
use rand::Rng;
use std::f64::consts::TAU;

const START: Timestamp = Timestamp(1_767_225_600_000);

fn step() -> Step {
    "1h".parse().unwrap()
}

fn history(values: &[f64]) -> History<'_> {
    History { values, last: START.plus((values.len() as i64 - 1) * step().ms()), step: step() }
}

fn noise(rng: &mut impl Rng) -> f64 {
    (0..12).map(|_| rng.gen_range(0.0..1.0)).sum::<f64>() - 6.0
}

fn days(n: usize, seed: u64, sd: f64) -> Vec<f64> {
    let mut rng = Seed(seed).rng();
    (0..n).map(|i| 10.0 + 3.0 * (TAU * i as f64 / 24.0).sin() + sd * noise(&mut rng)).collect()
}

fn walk(n: usize, seed: u64) -> Vec<f64> {
    let mut rng = Seed(seed).rng();
    let mut x = 0.0;
    (0..n)
        .map(|_| {
            x += noise(&mut rng);
            x
        })
        .collect()
}

fn ready(spec: &ForecasterSpec, season: Option<usize>) -> FittedForecaster {
    fit(spec, &[], season, Seed(1), &quiet).unwrap().forecaster
}

fn locals(season: Option<usize>) -> Vec<FittedForecaster> {
    vec![
        ready(&ForecasterSpec::Naive, season),
        ready(&ForecasterSpec::SeasonalNaive { season: None }, season),
        ready(&ForecasterSpec::RidgeLags(RidgeLagsParams::default()), season),
        ready(&ForecasterSpec::RidgeDirect { season: None }, season),
        ready(&ForecasterSpec::SeasonalMedian { season: None }, season),
        ready(&ForecasterSpec::Theta { season: None }, season),
        ready(&ForecasterSpec::Holt { season: None }, season),
        ready(&ForecasterSpec::AutoLocal(AutoLocalParams::default()), season),
        ready(&ForecasterSpec::Ensemble(EnsembleParams { network: false, ..EnsembleParams::default() }), season),
        ready(&ForecasterSpec::Random, season),
    ]
}

fn check(f: &FittedForecaster, values: &[f64], horizon: usize) {
    let q = f.forecast(&history(values), horizon, &QUANTILE_LEVELS);
    assert_eq!(q.dim(), (horizon, QUANTILE_LEVELS.len()));
    for row in q.rows() {
        assert!(row.iter().all(|v| v.is_finite()), "{} {row}", f.name());
        assert!(row.windows(2).into_iter().all(|w| w[0] <= w[1]), "{} {row}", f.name());
    }
}

#[test]
fn seasonal_naive_is_the_value_a_season_back() {
    let x: Vec<f64> = (0..50).map(f64::from).collect();
    let q = SeasonalNaive { season: 24 }.forecast(&history(&x), 30, &[0.5]);
    assert_eq!(q[[0, 0]], 26.0);
    assert_eq!(q[[23, 0]], 49.0);
    assert_eq!(q[[24, 0]], 26.0);
    assert_eq!(Naive.forecast(&history(&x), 3, &[0.5])[[2, 0]], 49.0);
}

#[test]
fn random_walk_intervals_cover() {
    let (mut inside, mut count) = (0, 0);
    for seed in 0..200 {
        let x = walk(210, seed);
        let q = Naive.forecast(&history(&x[..200]), 10, &[0.1, 0.9]);
        for k in 0..10 {
            inside += usize::from(q[[k, 0]] <= x[200 + k] && x[200 + k] <= q[[k, 1]]);
            count += 1;
        }
    }
    let cover = inside as f64 / count as f64;
    assert!((0.76..0.84).contains(&cover), "{cover}");
}

#[test]
fn ridge_uses_what_naive_cannot() {
    // An autoregression with coefficient 0.7 around 5: the best forecast returns to the mean.
    let (mut ridge, mut naive, mut inside, mut count) = (0.0, 0.0, 0, 0);
    for seed in 0..30 {
        let mut rng = Seed(seed).rng();
        let mut x = vec![5.0];
        for i in 1..608 {
            let e = noise(&mut rng);
            x.push(5.0 + 0.7 * (x[i - 1] - 5.0) + e);
        }
        let f = RidgeLags { params: RidgeLagsParams::default(), season: 1, second: 0 };
        let q = f.forecast(&history(&x[..600]), 8, &[0.1, 0.5, 0.9]);
        for k in 0..8 {
            ridge += (q[[k, 1]] - x[600 + k]).abs();
            naive += (x[599] - x[600 + k]).abs();
            inside += usize::from(q[[k, 0]] <= x[600 + k] && x[600 + k] <= q[[k, 2]]);
            count += 1;
        }
    }
    assert!(ridge < 0.9 * naive, "{ridge} {naive}");
    let cover = inside as f64 / count as f64;
    assert!((0.7..0.9).contains(&cover), "{cover}");
}

/// Daily waves: the season is found and used, and the 80 % band holds what comes.
fn knows_days(f: &impl Forecaster) {
    let (mut ours, mut last, mut inside) = (0.0, 0.0, 0);
    for seed in 0..10 {
        let x = days(624, seed, 0.5);
        let q = f.forecast(&history(&x[..600]), 24, &[0.1, 0.5, 0.9]);
        for k in 0..24 {
            ours += (q[[k, 1]] - x[600 + k]).abs();
            last += (x[599] - x[600 + k]).abs();
            inside += usize::from(q[[k, 0]] <= x[600 + k] && x[600 + k] <= q[[k, 2]]);
        }
    }
    assert!(ours < 0.4 * last, "{ours} {last}");
    let cover = f64::from(inside as u32) / 240.0;
    assert!((0.68..0.92).contains(&cover), "{cover}");
}

#[test]
fn automatic_choice_finds_the_season() {
    let auto = AutoLocal { params: AutoLocalParams::default(), season: None };
    let x = days(600, 3, 0.3);
    assert_eq!(auto.season_of(&history(&x)), 24);
    assert_ne!(auto.chosen(&history(&x), 24), "naive");
    assert_eq!(auto.chosen(&history(&walk(600, 4)), 24), "naive");
    knows_days(&auto);
}

#[test]
fn the_company_costs_little_where_nothing_is_to_be_had() {
    let company = |season| {
        let params = EnsembleParams { network: false, ..EnsembleParams::default() };
        ready(&ForecasterSpec::Ensemble(params), season)
    };
    // Nothing beats the last value of a random walk; what is added to it may not cost much.
    let (mut walked, mut stood) = (0.0, 0.0);
    for seed in 0..20 {
        let x = walk(624, 50 + seed);
        let q = company(None).forecast(&history(&x[..600]), 24, &[0.5]);
        walked += (0..24).map(|k| (q[[k, 0]] - x[600 + k]).abs()).sum::<f64>();
        stood += x[600..].iter().map(|v| (v - x[599]).abs()).sum::<f64>();
    }
    assert!(walked < 1.1 * stood, "{walked} {stood}");
    knows_days(&company(None));
}

#[test]
fn hard_histories_give_finite_ascending_quantiles() {
    let mut gaps = days(300, 1, 0.5);
    gaps.iter_mut().skip(2).step_by(5).for_each(|v| *v = f64::NAN);
    gaps[290..].fill(f64::NAN);
    let wild: Vec<f64> = (0..300).map(|i| if i % 3 == 0 { f64::MAX } else { f64::MIN }).collect();
    let tiny: Vec<f64> = (0..300).map(|i| if i % 3 == 0 { 1e-310 } else { 0.0 }).collect();
    let infinite: Vec<f64> = (0..300).map(|i| if i % 9 == 0 { f64::INFINITY } else { f64::from(i) }).collect();
    for season in [None, Some(24), Some(5000)] {
        for f in locals(season) {
            for x in [&gaps[..], &wild, &tiny, &infinite, &[], &[1.0], &[1.0, 2.0], &[f64::NAN; 50], &[4.0; 300]] {
                check(&f, x, 40);
                check(&f, x, 1);
                assert_eq!(f.forecast(&history(x), 0, &QUANTILE_LEVELS).nrows(), 0);
            }
            assert_eq!(f.forecast(&history(&[f64::NAN; 40]), 2, &[0.1, 0.5]), ndarray::Array2::<f64>::zeros((2, 2)));
            assert!(f.forecast(&history(&[4.0; 300]), 9, &[0.01, 0.5, 0.99]).iter().all(|v| *v == 4.0), "{}", f.name());
        }
    }
}

#[test]
fn a_plan_serves_its_own_history_and_the_next() {
    let x = days(620, 9, 0.5);
    let planned: Vec<_> = locals(Some(24)).into_iter().filter(FittedForecaster::plans).collect();
    assert_eq!(planned.iter().map(FittedForecaster::kind).collect::<Vec<_>>(), ["auto_local", "ensemble"]);
    for f in &planned {
        let (first, later) = (history(&x[..600]), history(&x[..606]));
        let plan = f.plan(&first, 12).unwrap();
        assert_eq!(f.follow(&plan, &first, 12, &[0.1, 0.5, 0.9]), f.forecast(&first, 12, &[0.1, 0.5, 0.9]));
        let q = f.follow(&plan, &later, 12, &[0.5]);
        let error: f64 = (0..12).map(|k| (q[[k, 0]] - x[606 + k]).abs()).sum::<f64>() / 12.0;
        assert!(error < 1.0, "{error}");
        // Another unit than the plan's: the estimates are renewed.
        let grown: Vec<f64> = x[..600].iter().chain([&64.0]).copied().collect();
        assert!(f.follow(&plan, &history(&grown), 12, &[0.5]).iter().all(|v| v.is_finite()));
    }
}

/// A net is a member only where it is not clearly worse: one that has learned nothing but noise must not serve.
#[test]
fn the_gate_keeps_a_bad_net_out() {
    let data: Vec<Vec<f64>> = (0..6).map(|s| days(480, s, 0.05)).collect();
    let all: Vec<TrainSeries<'_>> =
        data.iter().map(|v| TrainSeries { values: v, start: START, step: step() }).collect();
    let bad = LstmParams { hidden: 8, steps: 2, batch: 4, learning_rate: 1.0, patches: 8, ..LstmParams::default() };
    let with = EnsembleParams { lstm: bad, ..EnsembleParams::default() };
    let without = EnsembleParams { network: false, ..EnsembleParams::default() };
    let [with, without] =
        [with, without].map(|p| fit(&ForecasterSpec::Ensemble(p), &all, Some(24), Seed(1), &quiet).unwrap().forecaster);
    for v in &data {
        let error = |f: &FittedForecaster| -> f64 {
            let q = f.forecast(&history(&v[..456]), 24, &[0.5]);
            (0..24).map(|k| (q[[k, 0]] - v[456 + k]).abs()).sum()
        };
        assert!(error(&with) < 1.2 * error(&without), "{} {}", error(&with), error(&without));
    }
}

/// What was held out of training judges the net; what it learned from does not.
#[test]
fn a_net_is_judged_only_where_it_did_not_learn() {
    let data: Vec<Vec<f64>> = (0..4).map(|s| days(400, s, 0.3)).collect();
    let all: Vec<TrainSeries<'_>> =
        data.iter().map(|v| TrainSeries { values: v, start: START, step: step() }).collect();
    let params = LstmParams { hidden: 8, steps: 3, batch: 8, patches: 8, horizon_block: 24, ..LstmParams::default() };
    let FittedForecaster::Lstm(f) =
        fit(&ForecasterSpec::Lstm(params), &all, Some(24), Seed(1), &quiet).unwrap().forecaster
    else {
        panic!("an lstm")
    };
    assert_eq!(f.unseen_from(&history(&data[0])), 400 - 24);
    let longer: Vec<f64> = data[1].iter().chain(&data[2][..50]).copied().collect();
    assert_eq!(f.unseen_from(&history(&longer)), 400 - 24);
    let stranger = days(450, 99, 0.3);
    assert_eq!(f.unseen_from(&history(&stranger)), 0);
    assert_eq!(f.unseen_from(&history(&stranger[..300])), 300);
}

#[test]
fn ensemble_bands_cover_series_it_has_not_seen() {
    let data: Vec<Vec<f64>> = (0..30).map(|s| days(480, s, 0.5)).collect();
    let all: Vec<TrainSeries<'_>> =
        data.iter().map(|v| TrainSeries { values: v, start: START, step: step() }).collect();
    let params = EnsembleParams { network: false, ..EnsembleParams::default() };
    let f = fit(&ForecasterSpec::Ensemble(params), &all, Some(24), Seed(1), &quiet).unwrap().forecaster;
    let (mut inside, mut wide, mut count) = (0, 0, 0);
    for seed in 100..140 {
        let x = days(504, seed, 0.5);
        let q = f.forecast(&history(&x[..480]), 24, &[0.01, 0.1, 0.9, 0.99]);
        for k in 0..24 {
            inside += usize::from(q[[k, 1]] <= x[480 + k] && x[480 + k] <= q[[k, 2]]);
            wide += usize::from(q[[k, 0]] <= x[480 + k] && x[480 + k] <= q[[k, 3]]);
            count += 1;
        }
    }
    let (cover, tails) = (inside as f64 / f64::from(count), wide as f64 / f64::from(count));
    assert!((0.76..0.84).contains(&cover) && tails > 0.95, "{cover} {tails}");
}

#[test]
fn saved_forecasters_come_back() {
    let data = [days(300, 1, 0.4), days(300, 2, 0.4)];
    let all: Vec<TrainSeries<'_>> =
        data.iter().map(|v| TrainSeries { values: v, start: START, step: step() }).collect();
    let params = LstmParams { hidden: 8, steps: 3, batch: 8, patches: 8, ..LstmParams::default() };
    let lstm = fit(&ForecasterSpec::Lstm(params.clone()), &all, Some(24), Seed(1), &quiet).unwrap();
    let mut every = locals(Some(24));
    every.push(lstm.forecaster.clone());
    let both = EnsembleParams { lstm: params.clone(), ..EnsembleParams::default() };
    every.push(fit(&ForecasterSpec::Ensemble(both), &all, Some(24), Seed(1), &quiet).unwrap().forecaster);
    for f in every {
        let mut map = TensorMap::default();
        f.save(&mut map, "m/").unwrap();
        let back = FittedForecaster::load(&TensorMap::decode("t", &map.encode().unwrap()).unwrap(), "m/").unwrap();
        assert_eq!(back, f);
        let h = history(&data[0]);
        assert_eq!(back.forecast(&h, 70, &QUANTILE_LEVELS), f.forecast(&h, 70, &QUANTILE_LEVELS));
    }
    let optimizer = &lstm.training.as_ref().unwrap().1;
    let warm = |spec: &ForecasterSpec| {
        fit_from(&lstm.forecaster, Some(optimizer), spec, &all, Some(24), Seed(2), &quiet)
            .map(|f| f.training.unwrap().1.step)
    };
    assert_eq!(warm(&ForecasterSpec::Lstm(params)).unwrap(), 3 + 1);
    assert!(warm(&ForecasterSpec::Naive).unwrap_err().to_string().contains("lstm forecaster"));
}

#[test]
fn specs_are_strict() {
    let read = |t: &str| toml::from_str::<ForecasterSpec>(t);
    assert_eq!(
        read("kind = \"seasonal_naive\"\nseason = 7").unwrap(),
        ForecasterSpec::SeasonalNaive { season: Some(7) }
    );
    assert_eq!(read("kind = \"lstm\"").unwrap(), ForecasterSpec::Lstm(LstmParams::default()));
    assert!(read("kind = \"lstm\"\nhiden = 3").is_err());
    assert!(read("kind = \"prophet\"").is_err());
    let e = read("kind = \"ridge_lags\"\nlags = 0").unwrap().check().unwrap_err().to_string();
    assert!(e.contains("ridge_lags.lags = 0") && e.contains("1 to 256"), "{e}");
    assert!(fit(&ForecasterSpec::Naive, &[], Some(0), Seed(1), &quiet).is_err());
}

#[test]
fn levels_between_are_interpolated() {
    let known: Vec<f64> = (0..13).map(f64::from).collect();
    let mut out = [0.0; 5];
    at_levels(&known, &[0.001, 0.01, 0.15, 0.5, 0.999], |i, v| out[i] = v);
    assert_eq!((out[0], out[1], out[3], out[4]), (0.0, 0.0, 6.0, 12.0));
    assert!((out[2] - 2.5).abs() < 1e-12);
    at_levels(&known, &QUANTILE_LEVELS, |i, v| assert_eq!(v, i as f64));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn shift_and_scale_move_the_forecast_along(seed in 0u64..1000, shift in -50.0f64..50.0, scale in 0.1f64..20.0) {
        let x = days(200, seed, 0.7);
        let y: Vec<f64> = x.iter().map(|v| shift + scale * v).collect();
        let linear = ["naive", "seasonal_naive", "seasonal_median", "ridge_lags", "ridge_direct", "auto_local", "random"];
        for f in locals(Some(24)).into_iter().filter(|f| linear.contains(&f.kind())) {
            let (a, b) = (f.forecast(&history(&x), 10, &[0.1, 0.5, 0.9]), f.forecast(&history(&y), 10, &[0.1, 0.5, 0.9]));
            for (u, v) in a.iter().zip(&b) {
                prop_assert!((shift + scale * u - v).abs() < 1e-6 * (1.0 + v.abs() + shift.abs()), "{} {u} {v}", f.name());
            }
        }
    }

    /// A season that multiplies is none that adds, so these do not follow a shift; the unit may be any.
    #[test]
    fn the_unit_does_not_matter(seed in 0u64..1000, power in -300i32..300) {
        let x = days(200, seed, 0.7);
        let unit = 2.0f64.powi(power);
        let y: Vec<f64> = x.iter().map(|v| unit * v).collect();
        for f in locals(Some(24)).into_iter().filter(|f| f.kind() != "random") {
            let (a, b) = (f.forecast(&history(&x), 10, &[0.1, 0.5, 0.9]), f.forecast(&history(&y), 10, &[0.1, 0.5, 0.9]));
            for (u, v) in a.iter().zip(&b) {
                prop_assert!((unit * u - v).abs() <= 1e-9 * v.abs(), "{} {u} {v}", f.name());
            }
        }
    }
}
