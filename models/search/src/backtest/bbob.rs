//! Twelve functions of COCO's noiseless BBOB suite, by their published definition (Hansen, Finck, Ros and Auger 2009,
//! INRIA RR-6829), with COCO's instances: the same numbers as the `coco-experiment` package to rounding.
//!
//! Sphere 1, Rastrigin 3, attractive sector 6, step ellipsoid 7, Rosenbrock 8, rotated ellipsoid 10, sharp ridge 13,
//! rotated Rastrigin 15, Schaffer F7 17, Schwefel 20, Gallagher 21, Katsuura 23. All are to be made small in the box
//! `[-5, 5]^d`; the smallest value is [`Problem::optimum`]'s.

use std::f64::consts::TAU;

/// The functions that [`Problem::new`] knows, by their BBOB number.
pub const FUNCTIONS: [u32; 12] = [1, 3, 6, 7, 8, 10, 13, 15, 17, 20, 21, 23];

type Matrix = Vec<Vec<f64>>;

/// One function in one instance and dimension.
#[derive(Debug, Clone)]
pub struct Problem {
    function: u32,
    best: f64,
    at: Vec<f64>,
    /// The maps of the definition, already multiplied where it multiplies them: inner first.
    first: Matrix,
    second: Matrix,
    flips: Vec<f64>,
    peaks: Vec<Peak>,
}

#[derive(Debug, Clone)]
struct Peak {
    centre: Vec<f64>,
    scales: Vec<f64>,
    height: f64,
}

impl Problem {
    /// The problem, or `None` for a function that is not in [`FUNCTIONS`] or fewer than 2 dimensions.
    pub fn new(function: u32, instance: u32, dims: usize) -> Option<Self> {
        if !FUNCTIONS.contains(&function) || dims < 2 {
            return None;
        }
        let seed = i64::from(function) + 10_000 * i64::from(instance);
        let mut p = Self {
            function,
            best: best_value(function, instance),
            at: optimum_at(seed, dims),
            first: Vec::new(),
            second: Vec::new(),
            flips: Vec::new(),
            peaks: Vec::new(),
        };
        let (q, r) = (rotation(seed + 1_000_000, dims), rotation(seed, dims));
        match function {
            6 | 13 => p.first = product(&q, &scaled_rows(&r, 10.0)),
            7 => (p.first, p.second) = (scaled_rows(&r, 10.0), q),
            8 => p.at.iter_mut().for_each(|v| *v *= 0.75),
            10 => p.first = q,
            15 => (p.second, p.first) = (product(&q, &scaled_rows(&r, 10.0)), q),
            // COCO scales the rows of the second rotation, as the definition's Lambda Q says.
            17 => (p.first, p.second) = (q, scaled_rows(&r, 10.0)),
            20 => {
                p.flips = uniform(dims, seed).iter().map(|u| if *u < 0.5 { -1.0 } else { 1.0 }).collect();
                p.at = p.flips.iter().map(|s| s * 0.5 * 4.209_687_463_7).collect();
            }
            21 => p.gallagher(r, seed, dims),
            23 => p.first = product(&q, &scaled_rows(&r, 100.0)),
            _ => {}
        }
        Some(p)
    }

    /// The name of the function.
    pub fn name(&self) -> &'static str {
        match self.function {
            1 => "sphere",
            3 => "rastrigin",
            6 => "attractive sector",
            7 => "step ellipsoid",
            8 => "rosenbrock",
            10 => "ellipsoid rotated",
            13 => "sharp ridge",
            15 => "rastrigin rotated",
            17 => "schaffer f7",
            20 => "schwefel",
            21 => "gallagher 101",
            _ => "katsuura",
        }
    }

    /// Where the smallest value lies, and that value.
    pub fn optimum(&self) -> (&[f64], f64) {
        (&self.at, self.best)
    }

    /// The value at a point of as many coordinates as the problem has dimensions.
    pub fn value(&self, x: &[f64]) -> f64 {
        let d = x.len();
        let last = (d - 1) as f64;
        let share = |i: usize| i as f64 / last;
        let mut z: Vec<f64> = x.iter().zip(&self.at).map(|(a, b)| a - b).collect();
        let outside: f64 = x.iter().map(|v| (v.abs() - 5.0).max(0.0).powi(2)).sum();
        let squares = |z: &[f64]| z.iter().map(|v| v * v).sum::<f64>();
        self.best
            + match self.function {
                1 => squares(&z),
                3 => {
                    for v in &mut z {
                        *v = oscillated(*v);
                    }
                    asymmetric(&mut z, 0.2);
                    z.iter_mut().enumerate().for_each(|(i, v)| *v *= 10f64.powf(0.5 * share(i)));
                    rastrigin(&z)
                }
                6 => {
                    let z = times(&self.first, &z);
                    let sum = z.iter().zip(&self.at).map(|(v, o)| if v * o > 0.0 { 1e4 * v * v } else { v * v }).sum();
                    oscillated(sum).powf(0.9)
                }
                7 => {
                    let inner = times(&self.first, &z);
                    let step = |v: f64| if v.abs() > 0.5 { round(v) } else { round(10.0 * v) / 10.0 };
                    let z = times(&self.second, &inner.iter().map(|v| step(*v)).collect::<Vec<_>>());
                    let sum: f64 = z.iter().enumerate().map(|(i, v)| 100f64.powf(share(i)) * v * v).sum();
                    0.1 * sum.max(inner[0].abs() * 1e-4) + outside
                }
                8 => {
                    let factor = ((d as f64).sqrt() / 8.0).max(1.0);
                    for v in &mut z {
                        *v = factor * *v + 1.0;
                    }
                    z.windows(2).map(|w| 100.0 * (w[0] * w[0] - w[1]).powi(2) + (w[0] - 1.0).powi(2)).sum()
                }
                10 => {
                    let z = times(&self.first, &z);
                    z.iter().enumerate().map(|(i, v)| 1e6f64.powf(share(i)) * oscillated(*v).powi(2)).sum()
                }
                13 => {
                    let z = times(&self.first, &z);
                    z[0] * z[0] + 100.0 * squares(&z[1..]).sqrt()
                }
                15 => {
                    let mut z = times(&self.first, &z);
                    for v in &mut z {
                        *v = oscillated(*v);
                    }
                    asymmetric(&mut z, 0.2);
                    rastrigin(&times(&self.second, &z))
                }
                17 => {
                    let mut z = times(&self.first, &z);
                    asymmetric(&mut z, 0.5);
                    let z = times(&self.second, &z);
                    let term = |w: &[f64]| {
                        let s = w[0] * w[0] + w[1] * w[1];
                        s.powf(0.25) * (1.0 + (50.0 * s.powf(0.1)).sin().powi(2))
                    };
                    (z.windows(2).map(term).sum::<f64>() / last).powi(2) + 10.0 * outside
                }
                20 => self.schwefel(x),
                21 => self.peaks_value(x) + outside,
                _ => katsuura(&times(&self.first, &z)) + outside,
            }
    }

    fn schwefel(&self, x: &[f64]) -> f64 {
        let d = x.len();
        let centre = 2.0 * self.at[0].abs();
        let hat: Vec<f64> = x.iter().zip(&self.flips).map(|(v, s)| 2.0 * s * v).collect();
        let z: Vec<f64> = (0..d)
            .map(|i| {
                let v = if i == 0 { hat[0] } else { hat[i] + 0.25 * (hat[i - 1] - centre) };
                100.0 * (10f64.powf(0.5 * i as f64 / (d - 1) as f64) * (v - centre) + centre)
            })
            .collect();
        let penalty: f64 = z.iter().map(|v| (v.abs() - 500.0).max(0.0).powi(2)).sum();
        let sum: f64 = z.iter().map(|v| v * v.abs().sqrt().sin()).sum();
        0.01 * (penalty + 418.982_887_272_433_9 - sum / d as f64)
    }

    fn gallagher(&mut self, r: Matrix, seed: i64, dims: usize) {
        const PEAKS: usize = 101;
        let order = ranks(&uniform(PEAKS - 1, seed));
        let draws = uniform(dims * PEAKS, seed);
        let place = |k: usize| draws[k] * 10.0 - 5.0;
        self.at = (0..dims).map(|i| 0.8 * place(i)).collect();
        for k in 0..PEAKS {
            let condition =
                if k == 0 { 1000f64.sqrt() } else { 1000f64.powf(order[k - 1] as f64 / (PEAKS - 2) as f64) };
            let axes = ranks(&uniform(dims, seed + 1000 * k as i64));
            let scales = axes.iter().map(|a| condition.powf(*a as f64 / (dims - 1) as f64 - 0.5)).collect();
            let shrink = if k == 0 { 0.8 } else { 1.0 };
            let point: Vec<f64> = (0..dims).map(|i| shrink * place(k * dims + i)).collect();
            let height = if k == 0 { 10.0 } else { (k - 1) as f64 / (PEAKS - 2) as f64 * 8.0 + 1.1 };
            self.peaks.push(Peak { centre: times(&r, &point), scales, height });
        }
        self.first = r;
    }

    fn peaks_value(&self, x: &[f64]) -> f64 {
        let z = times(&self.first, x);
        let value = |p: &Peak| {
            let s: f64 = z.iter().zip(&p.centre).zip(&p.scales).map(|((a, b), c)| c * (a - b) * (a - b)).sum();
            p.height * (-0.5 / x.len() as f64 * s).exp()
        };
        let top = self.peaks.iter().map(value).fold(0.0, f64::max);
        oscillated(10.0 - top).powi(2)
    }
}

fn rastrigin(z: &[f64]) -> f64 {
    10.0 * (z.len() as f64 - z.iter().map(|v| (TAU * v).cos()).sum::<f64>()) + z.iter().map(|v| v * v).sum::<f64>()
}

fn katsuura(z: &[f64]) -> f64 {
    let d = z.len() as f64;
    let rough = |v: f64| (1..33).map(|j| 2f64.powi(j)).map(|t| (t * v - round(t * v)).abs() / t).sum::<f64>();
    let product: f64 = z.iter().enumerate().map(|(i, v)| 1.0 + (i as f64 + 1.0) * rough(*v)).product();
    10.0 / d / d * (product.powf(10.0 / d.powf(1.2)) - 1.0)
}

fn round(v: f64) -> f64 {
    (v + 0.5).floor()
}

/// The definition's T_osz: a smooth wobble of the logarithm.
fn oscillated(v: f64) -> f64 {
    if v == 0.0 {
        return 0.0;
    }
    let t = v.abs().ln() / 0.1;
    let (a, b) = if v > 0.0 { (1.0, 0.79) } else { (0.55, 0.31) };
    v.signum() * (t + 0.49 * ((a * t).sin() + (b * t).sin())).exp().powf(0.1)
}

/// The definition's T_asy.
fn asymmetric(z: &mut [f64], beta: f64) {
    let last = (z.len() - 1) as f64;
    for (i, v) in z.iter_mut().enumerate() {
        if *v > 0.0 {
            *v = v.powf(1.0 + beta * i as f64 / last * v.sqrt());
        }
    }
}

fn times(m: &Matrix, x: &[f64]) -> Vec<f64> {
    m.iter().map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
}

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    a.iter().map(|row| (0..b.len()).map(|j| (0..b.len()).map(|k| row[k] * b[k][j]).sum()).collect()).collect()
}

/// Row i times `condition^(i / 2(d-1))`.
fn scaled_rows(m: &Matrix, condition: f64) -> Matrix {
    let last = (m.len() - 1) as f64;
    m.iter().enumerate().map(|(i, r)| r.iter().map(|v| v * condition.sqrt().powf(i as f64 / last)).collect()).collect()
}

/// For each place of the sorted order, the place the value had before.
fn ranks(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    order
}

/// The suite's generator: Park and Miller's minimal standard through a shuffling table of 32.
fn uniform(n: usize, seed: i64) -> Vec<f64> {
    let next = |s: i64| {
        let t = s / 127_773;
        let v = 16_807 * (s - t * 127_773) - 2_836 * t;
        if v < 0 { v + 2_147_483_647 } else { v }
    };
    let mut state = seed.abs().max(1);
    let mut table = [0i64; 32];
    for i in (0..40).rev() {
        state = next(state);
        if i < 32 {
            table[i] = state;
        }
    }
    let mut drawn = table[0];
    (0..n)
        .map(|_| {
            state = next(state);
            let slot = (drawn / 67_108_865) as usize;
            drawn = table[slot];
            table[slot] = state;
            let u = drawn as f64 / 2.147_483_647e9;
            if u == 0.0 { 1e-99 } else { u }
        })
        .collect()
}

fn gaussian(n: usize, seed: i64) -> Vec<f64> {
    let u = uniform(2 * n, seed);
    (0..n)
        .map(|i| {
            let g = (-2.0 * u[i].ln()).sqrt() * (TAU * u[n + i]).cos();
            if g == 0.0 { 1e-99 } else { g }
        })
        .collect()
}

/// Gram-Schmidt over the columns of a Gaussian matrix that is filled column by column.
fn rotation(seed: i64, dims: usize) -> Matrix {
    let g = gaussian(dims * dims, seed);
    let mut b: Matrix = (0..dims).map(|i| (0..dims).map(|j| g[j * dims + i]).collect()).collect();
    for i in 0..dims {
        for j in 0..i {
            let dot: f64 = (0..dims).map(|k| b[k][i] * b[k][j]).sum();
            for row in &mut b {
                row[i] -= dot * row[j];
            }
        }
        let norm = (0..dims).map(|k| b[k][i] * b[k][i]).sum::<f64>().sqrt();
        for row in &mut b {
            row[i] /= norm;
        }
    }
    b
}

fn optimum_at(seed: i64, dims: usize) -> Vec<f64> {
    let place = |u: f64| {
        let v = 8.0 * (1e4 * u).floor() / 1e4 - 4.0;
        if v == 0.0 { -1e-5 } else { v }
    };
    uniform(dims, seed).into_iter().map(place).collect()
}

fn best_value(function: u32, instance: u32) -> f64 {
    let seed = i64::from(function) + 10_000 * i64::from(instance);
    let (a, b) = (gaussian(1, seed)[0], gaussian(1, seed + 1)[0]);
    (round(100.0 * 100.0 * a / b) / 100.0).clamp(-1000.0, 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of `coco-experiment`, made by `tests/golden/bbob.py` beside them.
    #[test]
    fn values_are_those_of_coco() {
        let golden = include_str!("../../tests/golden/bbob.csv");
        let mut checked = 0;
        for line in golden.lines().skip(1) {
            let cells: Vec<f64> = line.split(',').map(|c| c.parse().unwrap()).collect();
            let (x, want) = (&cells[2..cells.len() - 1], cells[cells.len() - 1]);
            let got = Problem::new(cells[0] as u32, cells[1] as u32, x.len()).unwrap().value(x);
            assert!((got - want).abs() <= 1e-9 * want.abs().max(1.0), "f{} i{}: {got} {want}", cells[0], cells[1]);
            checked += 1;
        }
        assert_eq!(checked, 12 * 11 * 4);
    }

    #[test]
    fn optima_are_optima() {
        for f in FUNCTIONS {
            let p = Problem::new(f, 3, 5).unwrap();
            let (x, best) = p.optimum();
            assert!((p.value(x) - best).abs() < 1e-6, "{}: {} {best}", p.name(), p.value(x));
        }
        assert!(Problem::new(2, 1, 5).is_none() && Problem::new(1, 1, 1).is_none());
    }
}
