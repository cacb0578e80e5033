//! Products behind the elementwise parts: register tiles, and the weight gradient by `gemm`.

use super::simd::{LANES, Simd};
use gemm::Parallelism;
use std::hint::black_box;

/// `ROWS` rows of four sums for eight units, before anything is added: the biases, shape (4, 8).
///
/// # Panics
/// When `start` is too short.
#[inline(always)]
pub(super) fn begin<S: Simd, const ROWS: usize>(s: S, start: &[f32]) -> [[S::V; 4]; ROWS] {
    assert!(start.len() >= 4 * LANES);
    let mut first = [s.splat(0.0); 4];
    for g in 0..4 {
        // SAFETY: checked above.
        first[g] = unsafe { s.load(start, g * LANES) };
    }
    [first; ROWS]
}

/// Adds `rows * panel`, every sum in the order of `depth`. `x` begins at the first row; `panel` has shape (depth, 4, 8).
/// Three rows fill the sixteen registers of AVX2: twelve sums, three numbers of the rows, one vector of the panel.
///
/// # Panics
/// When a slice is too short.
#[inline(always)]
pub(super) fn sums<S: Simd, const ROWS: usize>(
    s: S,
    mut acc: [[S::V; 4]; ROWS],
    x: &[f32],
    stride: usize,
    depth: usize,
    panel: &[f32],
) -> [[S::V; 4]; ROWS] {
    assert!(x.len() >= (ROWS - 1) * stride + depth && panel.len() >= depth * 4 * LANES);
    // SAFETY: checked above: `k < depth`, `r < ROWS`, `g < 4`.
    unsafe {
        for k in 0..depth {
            let mut row = [s.splat(0.0); ROWS];
            for r in 0..ROWS {
                row[r] = s.spread(x, r * stride + k);
            }
            for g in 0..4 {
                let w = s.load(panel, (k * 4 + g) * LANES);
                for r in 0..ROWS {
                    acc[r][g] = s.fma(row[r], w, acc[r][g]);
                }
            }
        }
    }
    acc
}

/// `ROWS` rows of a product with a panel of 16 columns: `x` begins at the first row, `panel` has shape (depth, 16).
/// Six rows fill the registers: twelve sums, two vectors of the panel, one number of a row.
///
/// # Panics
/// When a slice is too short.
#[inline(always)]
pub(super) fn wide<S: Simd, const ROWS: usize>(
    s: S,
    x: &[f32],
    stride: usize,
    depth: usize,
    panel: &[f32],
) -> [[S::V; 2]; ROWS] {
    // Where the slices come from is hidden from the compiler, which would else work it out again for every number.
    let (x, stride, panel) = (black_box(x), black_box(stride), black_box(panel));
    assert!(x.len() >= (ROWS - 1) * stride + depth && panel.len() >= depth * 2 * LANES);
    let mut acc = [[s.splat(0.0); 2]; ROWS];
    // SAFETY: checked above: `k < depth`, `r < ROWS`.
    unsafe {
        for k in 0..depth {
            let w = [s.load(panel, 2 * k * LANES), s.load(panel, (2 * k + 1) * LANES)];
            for r in 0..ROWS {
                let v = s.spread(x, r * stride + k);
                acc[r][0] = s.fma(v, w[0], acc[r][0]);
                acc[r][1] = s.fma(v, w[1], acc[r][1]);
            }
        }
    }
    acc
}

/// Adds the column sums of `rows` (row-major, `to.len()` columns, a multiple of eight) to `to`.
#[inline(always)]
pub(super) fn column_sums<S: Simd>(s: S, rows: &[f32], to: &mut [f32]) {
    let width = to.len();
    assert!(width.is_multiple_of(LANES) && rows.len().is_multiple_of(width));
    let count = rows.len() / width;
    for at in (0..width).step_by(LANES) {
        // SAFETY: `at + LANES <= width`, and row `r < count` begins at `r width`.
        unsafe {
            let mut sum = s.load(to, at);
            for r in 0..count {
                sum = s.add(sum, s.load(rows, r * width + at));
            }
            s.store(to, at, sum);
        }
    }
}

/// `to = x' z`, added to what is there unless `fresh`: the weight gradient of a block of time steps. `x` has `rows` rows,
/// `stride` numbers from row to row, `depth` of them used; `z` has `width` columns; `to` has shape (depth, width).
///
/// # Panics
/// When a slice is too short.
pub(super) fn outer(
    to: &mut [f32],
    fresh: bool,
    x: &[f32],
    (rows, stride, depth): (usize, usize, usize),
    z: &[f32],
    width: usize,
) {
    assert!(depth <= stride && x.len() >= rows * stride && z.len() >= rows * width && to.len() >= depth * width);
    // SAFETY: the product reads `x[k stride + i]` and `z[k width + j]` and writes `to[i width + j]` for `i < depth`,
    // `j < width`, `k < rows`: inside the slices, as checked; `to` is borrowed exclusively.
    unsafe {
        gemm::gemm(
            depth,
            width,
            rows,
            to.as_mut_ptr(),
            1,
            width as isize,
            !fresh,
            x.as_ptr(),
            stride as isize,
            1,
            z.as_ptr(),
            1,
            width as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
