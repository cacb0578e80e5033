use super::{Ask, Designer, Proposal};
use crate::SearchError;
use foreglow_core::Seed;

/// A scrambled Sobol sequence over what is within reach: more even than random draws at every length.
///
/// Direction numbers of Joe and Kuo (2008, doi:10.1137/070709359, set `new-joe-kuo-6`) for the first 21 parameters;
/// further ones use the next primitive polynomials with seeded direction numbers. Nested uniform scrambling by hashing
/// (Burley 2020, JCGT 9(4)).
#[derive(Debug, Clone, Copy, Default)]
pub struct Sobol;

impl Designer for Sobol {
    fn propose(&self, ask: &Ask<'_>) -> Result<Proposal, SearchError> {
        let n = ask.trials.len() as u32;
        let unit = point(n, ask.space.len(), ask.seed.child("sobol"));
        Ok(Proposal::plain(ask.space.from_unit(&ask.space.spread(&unit)), format!("point {n} of a Sobol sequence")))
    }
}

/// Degree, inner polynomial coefficients and initial direction numbers of dimensions 2 to 21.
const JOE_KUO: [(u32, u32, &[u32]); 20] = [
    (1, 0, &[1]),
    (2, 1, &[1, 3]),
    (3, 1, &[1, 3, 1]),
    (3, 2, &[1, 1, 1]),
    (4, 1, &[1, 1, 3, 3]),
    (4, 4, &[1, 3, 5, 13]),
    (5, 2, &[1, 1, 5, 5, 17]),
    (5, 4, &[1, 1, 5, 5, 5]),
    (5, 7, &[1, 1, 7, 11, 19]),
    (5, 11, &[1, 1, 5, 1, 1]),
    (5, 13, &[1, 1, 1, 3, 11]),
    (5, 14, &[1, 3, 5, 5, 31]),
    (6, 1, &[1, 3, 3, 9, 7, 49]),
    (6, 13, &[1, 1, 1, 15, 21, 21]),
    (6, 16, &[1, 3, 1, 13, 27, 49]),
    (6, 19, &[1, 1, 1, 15, 7, 5]),
    (6, 22, &[1, 3, 1, 15, 13, 25]),
    (6, 25, &[1, 1, 5, 5, 19, 61]),
    (7, 1, &[1, 3, 7, 11, 23, 15, 103]),
    (7, 4, &[1, 3, 7, 13, 13, 15, 69]),
];

/// The `n`-th point of the scrambled sequence in `dims` dimensions, each coordinate in `[0, 1)`.
pub(crate) fn point(n: u32, dims: usize, seed: Seed) -> Vec<f64> {
    let extra = if dims > 21 { polynomials(dims - 21) } else { Vec::new() };
    (0..dims)
        .map(|j| {
            let raw = coordinate(n, &directions(j, &extra));
            f64::from(scramble(raw, seed.nth(j as u64).0 as u32)) / 4_294_967_296.0
        })
        .collect()
}

fn directions(j: usize, extra: &[(u32, u32)]) -> [u32; 32] {
    let mut v = [0u32; 32];
    if j == 0 {
        for (i, x) in v.iter_mut().enumerate() {
            *x = 1 << (31 - i);
        }
        return v;
    }
    let (s, a, m): (u32, u32, Vec<u32>) = if j <= JOE_KUO.len() {
        let (s, a, m) = JOE_KUO[j - 1];
        (s, a, m.to_vec())
    } else {
        let (s, a) = extra[j - 21];
        // Any odd numbers below 2^i make every coordinate evenly spread by itself.
        let m = (0..s).map(|i| (Seed(j as u64).nth(u64::from(i)).0 as u32 & ((1 << (i + 1)) - 1)) | 1).collect();
        (s, a, m)
    };
    let s = s as usize;
    for i in 0..32 {
        v[i] = if i < s {
            m[i] << (31 - i)
        } else {
            let mut x = v[i - s] ^ (v[i - s] >> s);
            for k in 1..s {
                if (a >> (s - 1 - k)) & 1 == 1 {
                    x ^= v[i - k];
                }
            }
            x
        };
    }
    v
}

fn coordinate(n: u32, v: &[u32; 32]) -> u32 {
    (0..32).filter(|i| (n >> i) & 1 == 1).fold(0, |acc, i| acc ^ v[i])
}

fn scramble(x: u32, seed: u32) -> u32 {
    let mut x = x.reverse_bits();
    x = x.wrapping_add(seed);
    x ^= x.wrapping_mul(0x6c50_b47c);
    x ^= x.wrapping_mul(0xb82f_1e52);
    x ^= x.wrapping_mul(0xc7af_e638);
    x ^= x.wrapping_mul(0x8d22_f6e6);
    x.reverse_bits()
}

/// Primitive polynomials over GF(2) after those of the table: (degree, inner coefficients).
fn polynomials(count: usize) -> Vec<(u32, u32)> {
    let used = |s: u32, a: u32| JOE_KUO.iter().any(|(t, b, _)| *t == s && *b == a);
    let mut out = Vec::with_capacity(count);
    let mut s = 7;
    while out.len() < count {
        for a in 0..1u32 << (s - 1) {
            if out.len() < count && !used(s, a) && is_primitive(s, a) {
                out.push((s, a));
            }
        }
        s += 1;
    }
    out
}

/// Whether `x^s + ... + 1` with inner coefficients `a` is primitive: x has the full order 2^s - 1.
fn is_primitive(s: u32, a: u32) -> bool {
    let low = (a << 1) | 1;
    let top = 1u32 << s;
    let order = top - 1;
    let mut x = 1u32;
    for k in 1..=order {
        x <<= 1;
        if x & top != 0 {
            x = (x ^ low) & order;
        }
        if x == 1 {
            return k == order;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_coordinate_is_stratified() {
        for j in [0, 1, 5, 13, 20, 21, 40, 90] {
            let n = 256;
            let mut hit = vec![false; n];
            for i in 0..n {
                let x = point(i as u32, 91, Seed(4))[j];
                hit[(x * n as f64) as usize] = true;
            }
            assert!(hit.iter().all(|h| *h), "dimension {j}");
        }
    }

    #[test]
    fn first_two_dimensions_are_a_net() {
        // A (0, m, 2)-net: every elementary box of area 1/64 holds exactly one of the first 64 points.
        let points: Vec<Vec<f64>> = (0..64).map(|i| point(i, 2, Seed(1))).collect();
        for k in 0..=6 {
            let (a, b) = (1 << k, 1 << (6 - k));
            let mut cells = vec![0; 64];
            for p in &points {
                cells[(p[0] * a as f64) as usize * b + (p[1] * b as f64) as usize] += 1;
            }
            assert!(cells.iter().all(|c| *c == 1), "split {a} x {b}");
        }
    }

    #[test]
    fn the_table_is_primitive() {
        assert!(JOE_KUO.iter().all(|(s, a, _)| is_primitive(*s, *a)));
    }
}
