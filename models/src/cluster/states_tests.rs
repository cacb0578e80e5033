use super::super::density::{DensityParams, density_noise};
use super::*;
use rand::Rng;

/// Three states of 4 signals, 60 / 30 / 10 % of the time; signals 0 and 1 move together inside a state.
fn rows(n: usize, seed: u64) -> Vec<f64> {
    let mut rng = Seed(seed).rng();
    let middles = [[0.0, 0.0, 100.0, 5.0], [40.0, 0.0, 300.0, 5.0], [40.0, 50.0, 100.0, 9.0]];
    (0..n)
        .flat_map(|i| {
            let m = middles[[0, 0, 0, 1, 0, 2, 1, 0, 1, 0][i % 10]];
            let mut e = || (0..6).map(|_| rng.gen_range(-1.0..1.0)).sum::<f64>() / 1.41;
            let shared = e();
            [m[0] + 2.0 * shared, m[1] + 2.0 * shared + 0.2 * e(), m[2] + 5.0 * e(), m[3] + 0.3 * e()]
        })
        .collect()
}

fn spec(kind: ClusterKind) -> ClusterSpec {
    ClusterSpec { kind, max_states: 5, ..ClusterSpec::default() }
}

const KINDS: [ClusterKind; 2] = [ClusterKind::Kmeans, ClusterKind::Gmm];

#[test]
fn finds_the_states_by_itself() {
    let data = rows(900, 1);
    for kind in KINDS {
        let s = OperatingStates::fit(&data, 4, &spec(kind), Seed(1)).unwrap();
        assert_eq!(s.count(), 3, "{kind:?}");
        for (share, want) in s.shares().iter().zip([0.6, 0.3, 0.1]) {
            assert!((share - want).abs() < 0.02, "{kind:?} {share}");
        }
        assert!((s.centre(1)[2] - 300.0).abs() < 3.0, "{:?}", s.centre(1));
        assert_eq!(s.state_of(&[0.0, 0.0, 100.0, 5.0]), Some(0));
        assert_eq!(s.state_of(&[40.0, f64::NAN, 300.0, 5.0]), Some(1));
        assert_eq!(s.state_of(&[f64::NAN; 4]), None);
        let near = s.strangeness(&[0.0, 0.0, 100.0, 5.0]);
        assert!(s.strangeness(&[20.0, 25.0, 200.0, 7.0]) > near + 3.0, "{kind:?}");
        assert!(s.strangeness(&[1e308, -1e308, f64::NAN, 0.0]).is_finite());
        assert!(s.strangeness(&[f64::NAN; 4]).is_nan());
        let (row, mut scaled) = ([40.0, f64::NAN, 300.0, 5.0], [0.0; 4]);
        assert_eq!(s.judge(&row, &mut scaled), Some((1, s.strangeness(&row))));
        assert_eq!(s.judge(&[f64::NAN; 4], &mut scaled), None);
        let mut off = [0.0; 4];
        s.deviations(&[0.0, 0.0, 300.0, f64::NAN], 0, &mut off);
        assert!(off[2].abs() > 1.0 && off[3] == 0.0);
    }
}

#[test]
fn only_the_mixture_knows_that_signals_move_together() {
    let data = rows(900, 1);
    let s = OperatingStates::fit(&data, 4, &spec(ClusterKind::Gmm), Seed(1)).unwrap();
    assert!(s.strangeness(&[3.0, -3.0, 100.0, 5.0]) > s.strangeness(&[3.0, 3.0, 100.0, 5.0]) + 20.0);
    assert_eq!(s.log_density(&[3.0, 3.0, 100.0, 5.0]), Some(-s.strangeness(&[3.0, 3.0, 100.0, 5.0])));
}

#[test]
fn density_integrates_to_one() {
    let mut rng = Seed(4).rng();
    let data: Vec<f64> = (0..400).map(|i| f64::from(i % 2) * 6.0 + rng.gen_range(-1.0..1.0)).collect();
    let s = OperatingStates::fit(&data, 1, &spec(ClusterKind::Gmm), Seed(1)).unwrap();
    let unit = s.scaling.spread[0];
    let sum: f64 = (-4000..8000).map(|i| (s.log_density(&[f64::from(i) * 0.005]).unwrap()).exp() * 0.005 / unit).sum();
    assert!((sum - 1.0).abs() < 1e-3, "{sum}");
}

#[test]
fn same_bytes_on_one_and_two_threads_and_after_loading() {
    let data = rows(900, 2);
    for kind in KINDS {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| OperatingStates::fit(&data, 4, &spec(kind), Seed(3)).unwrap())
        };
        let (a, b) = (run(1), run(2));
        assert_eq!(a, b);
        let mut map = TensorMap::default();
        a.save(&mut map, "c/");
        let map = TensorMap::decode("t", &map.encode().unwrap()).unwrap();
        assert_eq!(OperatingStates::load(&map, "c/").unwrap(), a);
    }
    assert!(OperatingStates::load(&TensorMap::default(), "c/").is_err());
}

#[test]
fn hard_tables() {
    let mut wild = rows(200, 1);
    wild[0] = 1e308;
    wild[5] = f64::NAN;
    wild[9] = f64::NEG_INFINITY;
    wild[40..60].fill(f64::NAN);
    let constant = vec![3.0; 400];
    let doubled: Vec<f64> = (0..400).map(|i| f64::from(i / 4 % 2) * 1e-200).collect();
    for kind in KINDS {
        for data in [&wild, &constant, &doubled] {
            let s = OperatingStates::fit(data, 4, &spec(kind), Seed(1)).unwrap();
            assert!(s.count() >= 1 && (s.shares().iter().sum::<f64>() - 1.0).abs() < 1e-9);
            assert!(s.strangeness(&data[4..8]).is_finite() || data[4..8].iter().all(|v| v.is_nan()));
            let fixed = ClusterSpec { states: 4, ..spec(kind) };
            assert!(OperatingStates::fit(data, 4, &fixed, Seed(1)).is_ok());
        }
        let e = OperatingStates::fit(&rows(5, 1), 4, &spec(kind), Seed(1)).unwrap_err().to_string();
        assert!(e.contains("at least 20"), "{e}");
        assert!(OperatingStates::fit(&[f64::NAN; 400], 4, &spec(kind), Seed(1)).is_err());
        assert!(OperatingStates::fit(&[1.0; 9], 4, &spec(kind), Seed(1)).is_err());
    }
    let wrong = ClusterSpec { states: 100, ..ClusterSpec::default() };
    assert!(wrong.check().unwrap_err().to_string().contains("cluster.states = 100"));
}

#[test]
fn density_counts_regions_and_noise() {
    let mut data = rows(600, 1);
    let clean = density_noise(&data, 4, &DensityParams::default()).unwrap();
    assert_eq!(clean.clusters, 3);
    assert!(clean.noise_share < 0.1, "{}", clean.noise_share);
    for i in 0..60 {
        let far = f64::from(i) - 30.0;
        data.extend([20.0 + far, 25.0 - far, 200.0 + 3.0 * far, 7.0]);
    }
    let noisy = density_noise(&data, 4, &DensityParams { radius: clean.radius, ..DensityParams::default() }).unwrap();
    assert!(noisy.noise_share > clean.noise_share + 0.05, "{} {}", noisy.noise_share, clean.noise_share);
    assert_eq!(density_noise(&[1.0; 200], 4, &DensityParams::default()).unwrap().clusters, 1);
    assert!(density_noise(&data, 4, &DensityParams { min_points: 0, ..DensityParams::default() }).is_err());
}
