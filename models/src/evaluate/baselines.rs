use crate::ModelError;
use crate::detect::principal_directions;
use foreglow_core::Seed;
use foreglow_core::stats::{mean, median};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2};
use rand::Rng;

/// z-scores are clipped here, so that one wild value of a metric that hardly moved in train does not decide alone.
const CLIP: f64 = 50.0;
/// Share of variance that the kept components explain at least.
const VARIANCE: f64 = 0.95;

/// The scores of the rows that stand beside every detector.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectionBaselines {
    /// Uniform random numbers.
    pub random: Vec<f64>,
    /// `|x - median|` of the first metric that is not constant on the judged rows, see [`median_distance_scores`].
    pub median_distance: Vec<f64>,
    /// Squared residual of a linear PCA per row; absent for a single metric.
    pub pca: Option<Vec<f64>>,
}

/// Scores test rows by the three baselines. `train` and `test` have one row a step, one column a metric, the same
/// columns; `NaN` is missing.
///
/// Errors when the columns differ or train has fewer than two rows.
pub fn detection_baselines(
    train: ArrayView2<f64>,
    test: ArrayView2<f64>,
    seed: Seed,
) -> Result<DetectionBaselines, ModelError> {
    if train.ncols() != test.ncols() || test.ncols() == 0 {
        return Err(ModelError::data(
            "baselines",
            format!("train has {} metrics, test {}: give both the same, at least one", train.ncols(), test.ncols()),
        ));
    }
    let column = first_varying_column(test).unwrap_or(0);
    let pca = if test.ncols() > 1 { Some(PcaBaseline::fit(train)?.scores(test)?) } else { None };
    Ok(DetectionBaselines {
        random: random_scores(test.nrows(), seed),
        median_distance: median_distance_scores(test.column(column)),
        pca,
    })
}

/// `n` uniform numbers in 0..1.
pub fn random_scores(n: usize, seed: Seed) -> Vec<f64> {
    let mut rng = seed.child("random baseline").rng();
    (0..n).map(|_| rng.r#gen()).collect()
}

/// First column with two different present values; `None` when every column is constant.
pub fn first_varying_column(rows: ArrayView2<f64>) -> Option<usize> {
    (0..rows.ncols()).find(|&c| {
        let mut present = rows.column(c).into_iter().filter(|v| !v.is_nan());
        present.next().is_some_and(|first| present.any(|v| v != first))
    })
}

/// `|x - median|` with the median of the judged rows themselves; a missing value scores `NaN`.
///
/// This row looks ahead, which a causal detector may not: it is a yardstick that every result has to pass, and it is the
/// one behind the published comparison figures.
pub fn median_distance_scores(rows: ArrayView1<f64>) -> Vec<f64> {
    let centre = median(&rows.to_vec());
    rows.iter().map(|v| (v - centre).abs()).collect()
}

/// Linear PCA of rows as a baseline detector: z-scored by train, as many components as explain 95 % of the variance, the
/// score is the squared length of what they leave over, with z clipped at ±50.
///
/// A missing value counts as the train mean; a metric that is constant in train is only centred.
#[derive(Debug, Clone, PartialEq)]
pub struct PcaBaseline {
    centre: Array1<f64>,
    scale: Array1<f64>,
    /// Kept directions, one a column.
    components: Array2<f64>,
}

impl PcaBaseline {
    /// Fits on train rows. Errors below two rows, or when a value is infinite. O(rows metrics²).
    pub fn fit(train: ArrayView2<f64>) -> Result<Self, ModelError> {
        if train.nrows() < 2 || train.ncols() == 0 {
            return Err(ModelError::data(
                "the PCA baseline",
                format!("{} rows of {} metrics: give at least 2 rows of 1", train.nrows(), train.ncols()),
            ));
        }
        if train.iter().any(|v| v.is_infinite()) {
            return Err(ModelError::data("the PCA baseline", "a train value is infinite: make it missing (NaN)"));
        }
        let columns: Vec<Vec<f64>> = train.columns().into_iter().map(|c| c.to_vec()).collect();
        let centre: Array1<f64> =
            columns.iter().map(|c| Some(mean(c)).filter(|m| m.is_finite()).unwrap_or(0.0)).collect();
        let scale: Array1<f64> = columns
            .iter()
            .zip(&centre)
            .map(|(c, m)| {
                let spread = mean(&c.iter().map(|v| (v - m) * (v - m)).collect::<Vec<_>>()).sqrt();
                if spread.is_finite() && spread > 1e-12 * m.abs() && spread > 0.0 { spread } else { 1.0 }
            })
            .collect();
        let mut fitted = Self { centre, scale, components: Array2::zeros((train.ncols(), 0)) };
        let z = fitted.scaled(train);
        let covariance = z.t().dot(&z) / train.nrows() as f64;
        fitted.components = principal_directions(&covariance, VARIANCE)?;
        Ok(fitted)
    }

    /// Squared residual of each row. Errors when the number of metrics differs from train's.
    pub fn scores(&self, rows: ArrayView2<f64>) -> Result<Vec<f64>, ModelError> {
        if rows.ncols() != self.centre.len() {
            return Err(ModelError::data(
                "the PCA baseline",
                format!("{} metrics in a row, fitted on {}", rows.ncols(), self.centre.len()),
            ));
        }
        let z = self.scaled(rows).mapv(|v| v.clamp(-CLIP, CLIP));
        let rest = &z - &z.dot(&self.components).dot(&self.components.t());
        Ok(rest.rows().into_iter().map(|r| r.iter().map(|v| v * v).sum()).collect())
    }

    /// Number of kept components.
    pub fn rank(&self) -> usize {
        self.components.ncols()
    }

    fn scaled(&self, rows: ArrayView2<f64>) -> Array2<f64> {
        let mut z = (&rows - &self.centre) / &self.scale;
        z.mapv_inplace(|v| if v.is_nan() { 0.0 } else { v });
        z
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::Rng;

    fn plane(n: usize) -> Array2<f64> {
        let mut rng = Seed(4).rng();
        Array2::from_shape_fn((n, 1), |_| rng.r#gen::<f64>() - 0.5).dot(&ndarray::array![[1.0, 2.0, -1.0]])
    }

    #[test]
    fn residual_sees_what_leaves_the_plane() {
        let train = plane(300);
        let fitted = PcaBaseline::fit(train.view()).expect("rows");
        assert_eq!(fitted.rank(), 1);
        let inside = fitted.scores(train.view()).expect("same metrics");
        assert!(inside.iter().all(|s| *s < 1e-18));
        // One standard deviation off in one of three equal directions leaves 2/3 of its square.
        let mut off = train.slice(ndarray::s![..1, ..]).to_owned();
        off[[0, 0]] += fitted.scale[0];
        let score = fitted.scores(off.view()).expect("same metrics")[0];
        assert!((score - 2.0 / 3.0).abs() < 1e-9, "{score}");
    }

    #[test]
    fn constants_gaps_and_wild_values() {
        let mut train = Array2::from_shape_fn((50, 2), |(i, j)| if j == 0 { (i % 7) as f64 } else { 3.0 });
        train[[3, 0]] = f64::NAN;
        let fitted = PcaBaseline::fit(train.view()).expect("rows");
        let test = ndarray::array![[2.0, 3.0], [2.0, 1e308], [f64::NAN, 3.0], [2.0, f64::INFINITY]];
        let s = fitted.scores(test.view()).expect("same metrics");
        assert!(s[0] < 1e-12 && s[2] < 1e-12);
        assert!((s[1] - CLIP * CLIP).abs() < 1e-6 && (s[3] - CLIP * CLIP).abs() < 1e-6);
        assert!(PcaBaseline::fit(train.slice(ndarray::s![..1, ..])).is_err());
        assert!(fitted.scores(Array2::zeros((1, 3)).view()).is_err());
    }

    #[test]
    fn rows_beside_a_report() {
        let train = ndarray::array![[5.0, 1.0], [5.0, 3.0], [5.0, 2.0]];
        let test = ndarray::array![[5.0, 2.0], [5.0, 7.0]];
        let b = detection_baselines(train.view(), test.view(), Seed(1)).expect("fits");
        assert_eq!(b.median_distance, [2.5, 2.5]);
        assert_eq!(b.random, random_scores(2, Seed(1)));
        assert!(b.pca.is_some());
        let one = detection_baselines(train.slice(ndarray::s![.., ..1]), test.slice(ndarray::s![.., 1..]), Seed(1))
            .expect("fits");
        assert!(one.pca.is_none());
        assert!(detection_baselines(train.view(), test.slice(ndarray::s![.., ..1]), Seed(1)).is_err());
        assert_eq!(first_varying_column(test.view()), Some(1));
        assert_eq!(first_varying_column(test.slice(ndarray::s![.., ..1])), None);
    }

    proptest! {
        #[test]
        fn scores_ignore_units(values in prop::collection::vec(-5.0f64..5.0, 30), factor in 0.5f64..20.0, shift in -9.0f64..9.0) {
            let rows = Array2::from_shape_vec((10, 3), values).expect("ten rows");
            let moved = rows.mapv(|v| v * factor + shift);
            let a = PcaBaseline::fit(rows.view()).expect("fits").scores(rows.view()).expect("fits");
            let b = PcaBaseline::fit(moved.view()).expect("fits").scores(moved.view()).expect("fits");
            for (x, y) in a.iter().zip(&b) {
                prop_assert!((x - y).abs() < 1e-6, "{} {}", x, y);
            }
        }
    }
}
