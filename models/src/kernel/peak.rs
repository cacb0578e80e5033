use super::simd::{Kernel, KernelPath, LANES, Simd};
use std::hint::black_box;

/// Independent sums: enough to keep every multiply-add unit busy.
const SUMS: usize = 12;

/// Does `rounds` rounds of nothing but multiply-adds in registers and returns how many floating-point operations that
/// were: timed, it gives the rate that no kernel on this path can exceed.
pub fn multiply_adds(path: KernelPath, rounds: usize) -> f64 {
    let mut sum = 0.0;
    path.run(Loop { rounds, sum: &mut sum });
    black_box(sum);
    (2 * SUMS * LANES * rounds) as f64
}

struct Loop<'a> {
    rounds: usize,
    sum: &'a mut f32,
}

impl Kernel for Loop<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut acc = [s.splat(1.0); SUMS];
        let (a, b) = (s.splat(black_box(0.999)), s.splat(black_box(0.001)));
        for _ in 0..self.rounds {
            for v in &mut acc {
                *v = s.fma(*v, a, b);
            }
        }
        let mut out = [0.0; LANES];
        for v in acc {
            // SAFETY: `out` is eight numbers.
            unsafe { s.store(&mut out, 0, v) };
            *self.sum += out.iter().sum::<f32>();
        }
    }
}
