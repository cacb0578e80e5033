//! The one door to argmin: L-BFGS with a More-Thuente line search over a smooth function, bounded in evaluations.

use argmin::core::{CostFunction, Error, Executor, Gradient, State};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;
use std::cell::RefCell;

struct Point {
    x: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
}

struct Record {
    last: Option<Point>,
    best: (Vec<f64>, f64),
    left: usize,
}

struct Problem<'a, F> {
    f: &'a F,
    record: &'a RefCell<Record>,
}

impl<F: Fn(&[f64]) -> (f64, Vec<f64>)> Problem<'_, F> {
    /// argmin asks for cost and gradient separately; both come from one evaluation.
    fn with<T>(&self, x: &[f64], read: impl FnOnce(&Point) -> T) -> Result<T, Error> {
        let mut r = self.record.borrow_mut();
        if r.last.as_ref().is_none_or(|p| p.x != x) {
            if r.left == 0 {
                return Err(Error::msg("evaluations used up"));
            }
            r.left -= 1;
            let (value, gradient) = (self.f)(x);
            if !value.is_finite() || gradient.iter().any(|g| !g.is_finite()) {
                return Err(Error::msg("the function is not finite here"));
            }
            if value < r.best.1 {
                r.best = (x.to_vec(), value);
            }
            r.last = Some(Point { x: x.to_vec(), value, gradient });
        }
        r.last.as_ref().map(read).ok_or_else(|| Error::msg("no evaluation"))
    }
}

impl<F: Fn(&[f64]) -> (f64, Vec<f64>)> CostFunction for Problem<'_, F> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, x: &Self::Param) -> Result<f64, Error> {
        self.with(x, |p| p.value)
    }
}

impl<F: Fn(&[f64]) -> (f64, Vec<f64>)> Gradient for Problem<'_, F> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, x: &Self::Param) -> Result<Vec<f64>, Error> {
        self.with(x, |p| p.gradient.clone())
    }
}

/// The smallest value found from `start` within `evaluations`, and where.
///
/// argmin ends a run with an error when a line search fails, which near an optimum is ordinary; the best point seen is
/// kept outside it, so that such an end costs nothing.
pub(crate) fn minimise<F: Fn(&[f64]) -> (f64, Vec<f64>)>(
    f: &F,
    start: Vec<f64>,
    evaluations: usize,
) -> (Vec<f64>, f64) {
    let record = RefCell::new(Record { last: None, best: (start.clone(), f64::INFINITY), left: evaluations.max(1) });
    let solver =
        LBFGS::new(MoreThuenteLineSearch::new(), 6).with_tolerance_grad(1e-4).and_then(|s| s.with_tolerance_cost(1e-8));
    if let Ok(solver) = solver {
        let problem = Problem { f, record: &record };
        // The result is in `record`, whichever way the run ends.
        let _ended = Executor::new(problem, solver)
            .configure(|s| s.param(start).max_iters(evaluations as u64))
            .timer(false)
            .run()
            .map(|r| r.state().get_iter());
    }
    record.into_inner().best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rosenbrock_is_solved() {
        let f = |x: &[f64]| {
            let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
            (a * a + 100.0 * b * b, vec![-2.0 * a - 400.0 * x[0] * b, 200.0 * b])
        };
        let (x, v) = minimise(&f, vec![-1.2, 1.0], 200);
        assert!(v < 1e-8 && (x[0] - 1.0).abs() < 1e-3, "{x:?} {v}");
    }

    #[test]
    fn evaluations_are_bounded_and_the_start_survives() {
        let calls = RefCell::new(0);
        let f = |x: &[f64]| {
            *calls.borrow_mut() += 1;
            (x[0] * x[0], vec![2.0 * x[0]])
        };
        let (_, v) = minimise(&f, vec![3.0], 2);
        assert!(v <= 9.0 && *calls.borrow() <= 2);
        let (x, v) = minimise(&|_: &[f64]| (f64::NAN, vec![0.0]), vec![5.0], 10);
        assert_eq!(x, vec![5.0]);
        assert!(v.is_infinite());
    }
}
