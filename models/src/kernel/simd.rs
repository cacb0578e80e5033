//! Eight 32-bit numbers at a time, by AVX2 with FMA or by plain Rust.

/// Numbers in one vector.
pub(super) const LANES: usize = 8;

/// Vector arithmetic. A value of an implementing type is the proof that the processor can do it.
///
/// Loads and stores are unsafe because the vector path does not check bounds; the portable path does.
pub(super) trait Simd: Copy {
    type V: Copy;

    /// Eight numbers from `at`.
    ///
    /// # Safety
    /// `at + LANES <= from.len()`.
    unsafe fn load(self, from: &[f32], at: usize) -> Self::V;

    /// Eight times the number at `at`.
    ///
    /// # Safety
    /// `at < from.len()`.
    unsafe fn spread(self, from: &[f32], at: usize) -> Self::V;

    /// Writes eight numbers from `at`.
    ///
    /// # Safety
    /// `at + LANES <= to.len()`.
    unsafe fn store(self, to: &mut [f32], at: usize, v: Self::V);

    /// Asks for the cache line that holds place `at`, which may lie outside.
    fn prefetch(self, from: &[f32], at: usize);

    fn splat(self, x: f32) -> Self::V;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a b + c`.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `c - a b`.
    fn fnma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `x` held inside ±`limit`; NaN stays NaN.
    fn clamp(self, x: Self::V, limit: f32) -> Self::V;
}

/// Work that is written once for every path. Implementations mark `run` as `#[inline(always)]`, so that it is compiled
/// with the vector instructions of the path that calls it.
pub(super) trait Kernel {
    fn run<S: Simd>(self, simd: S);
}

/// Which instructions the kernels use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelPath(Inner);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inner {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(x86::Avx2),
}

impl KernelPath {
    /// Runs on every processor.
    pub const PORTABLE: Self = Self(Inner::Portable);

    /// The fastest path of this processor, found at run time.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = x86::Avx2::detect() {
            return Self(Inner::Avx2(avx2));
        }
        Self::PORTABLE
    }

    /// The name that manifests carry.
    pub fn name(self) -> &'static str {
        match self.0 {
            Inner::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Inner::Avx2(_) => "avx2",
        }
    }

    #[inline]
    pub(super) fn run(self, kernel: impl Kernel) {
        match self.0 {
            Inner::Portable => kernel.run(Portable),
            #[cfg(target_arch = "x86_64")]
            Inner::Avx2(avx2) => x86::run(avx2, kernel),
        }
    }
}

/// Plain Rust, every access checked.
#[derive(Clone, Copy)]
pub(super) struct Portable;

#[inline(always)]
fn zip(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Portable {
    type V = [f32; LANES];

    #[inline(always)]
    unsafe fn load(self, from: &[f32], at: usize) -> Self::V {
        let part = &from[at..at + LANES];
        std::array::from_fn(|i| part[i])
    }

    #[inline(always)]
    unsafe fn spread(self, from: &[f32], at: usize) -> Self::V {
        [from[at]; LANES]
    }

    #[inline(always)]
    unsafe fn store(self, to: &mut [f32], at: usize, v: Self::V) {
        to[at..at + LANES].copy_from_slice(&v);
    }

    #[inline(always)]
    fn prefetch(self, _: &[f32], _: usize) {}

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; LANES]
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn fnma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|i| c[i] - a[i] * b[i])
    }

    #[inline(always)]
    fn clamp(self, x: Self::V, limit: f32) -> Self::V {
        x.map(|v| v.clamp(-limit, limit))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Kernel, LANES, Simd};
    use std::arch::x86_64::{
        __m256, _MM_HINT_T0, _mm_prefetch, _mm256_add_ps, _mm256_broadcast_ss, _mm256_div_ps, _mm256_fmadd_ps,
        _mm256_fnmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps, _mm256_set1_ps,
        _mm256_storeu_ps, _mm256_sub_ps,
    };

    /// Made by [`Avx2::detect`] alone: whoever holds one runs on a processor with AVX2 and FMA.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) struct Avx2(());

    impl Avx2 {
        pub(super) fn detect() -> Option<Self> {
            (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
        }
    }

    #[inline]
    pub(super) fn run<K: Kernel>(avx2: Avx2, kernel: K) {
        #[target_feature(enable = "avx2,fma")]
        fn inner<K: Kernel>(avx2: Avx2, kernel: K) {
            kernel.run(avx2);
        }
        // SAFETY: an `Avx2` exists only where the processor has both features.
        unsafe { inner(avx2, kernel) }
    }

    impl Simd for Avx2 {
        type V = __m256;

        #[inline(always)]
        unsafe fn load(self, from: &[f32], at: usize) -> __m256 {
            // SAFETY: the caller promises that eight numbers lie there; the load needs no alignment.
            unsafe { _mm256_loadu_ps(from.as_ptr().wrapping_add(at)) }
        }

        #[inline(always)]
        unsafe fn spread(self, from: &[f32], at: usize) -> __m256 {
            // SAFETY: the caller promises that `at` lies inside.
            unsafe { _mm256_broadcast_ss(&*from.as_ptr().wrapping_add(at)) }
        }

        #[inline(always)]
        unsafe fn store(self, to: &mut [f32], at: usize, v: __m256) {
            // SAFETY: the caller promises that eight numbers lie there; the store needs no alignment.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr().wrapping_add(at), v) }
        }

        #[inline(always)]
        fn prefetch(self, from: &[f32], at: usize) {
            // SAFETY: a prefetch reads nothing and never faults, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(from.as_ptr().wrapping_add(at).cast()) }
        }

        #[inline(always)]
        fn splat(self, x: f32) -> __m256 {
            // SAFETY: `self` proves AVX; this and the following touch registers only.
            unsafe { _mm256_set1_ps(x) }
        }

        #[inline(always)]
        fn add(self, a: __m256, b: __m256) -> __m256 {
            // SAFETY: as in `splat`.
            unsafe { _mm256_add_ps(a, b) }
        }

        #[inline(always)]
        fn sub(self, a: __m256, b: __m256) -> __m256 {
            // SAFETY: as in `splat`.
            unsafe { _mm256_sub_ps(a, b) }
        }

        #[inline(always)]
        fn mul(self, a: __m256, b: __m256) -> __m256 {
            // SAFETY: as in `splat`.
            unsafe { _mm256_mul_ps(a, b) }
        }

        #[inline(always)]
        fn div(self, a: __m256, b: __m256) -> __m256 {
            // SAFETY: as in `splat`.
            unsafe { _mm256_div_ps(a, b) }
        }

        #[inline(always)]
        fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
            // SAFETY: `self` proves FMA.
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        fn fnma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
            // SAFETY: `self` proves FMA.
            unsafe { _mm256_fnmadd_ps(a, b, c) }
        }

        #[inline(always)]
        fn clamp(self, x: __m256, limit: f32) -> __m256 {
            // SAFETY: as in `splat`. Both instructions give their second operand when one is NaN, here x.
            unsafe { _mm256_max_ps(_mm256_set1_ps(-limit), _mm256_min_ps(_mm256_set1_ps(limit), x)) }
        }
    }

    const _: () = assert!(size_of::<__m256>() == LANES * size_of::<f32>());
}
