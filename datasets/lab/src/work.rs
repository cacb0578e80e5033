use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use foreglow_core::Seed;
use rand::RngCore;
use sha2::{Digest, Sha256};
use std::hint::black_box;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

/// Bytes of one record in the store: 256 numbers of 4 bytes.
pub(crate) const RECORD_BYTES: usize = 1024;

/// A SHA-256 digest.
pub(crate) type Sum = [u8; 32];

/// What a task asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Hash,
    Compress,
    Sort,
}

/// A record made ready for work: sorted, compressed, with its checksum.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    bytes: Vec<u8>,
    sum: Sum,
}

impl Blob {
    /// Sorts the record's numbers, compresses them and takes the checksum: the price of a cache miss.
    pub(crate) fn prepare(record: &[u8]) -> Self {
        let mut numbers = numbers(record);
        numbers.sort_unstable();
        let bytes = deflate(&bytes(&numbers));
        Self { sum: Sha256::digest(&bytes).into(), bytes }
    }

    /// Whether the bytes are those the checksum was taken of.
    pub(crate) fn is_intact(&self) -> bool {
        self.sum == <Sum>::from(Sha256::digest(&self.bytes))
    }

    /// A copy with one bit flipped.
    pub(crate) fn corrupted(&self) -> Self {
        let mut copy = self.clone();
        if let Some(b) = copy.bytes.first_mut() {
            *b ^= 1;
        }
        copy
    }

    /// Bytes it takes, checksum included.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len() + size_of::<Sum>()
    }
}

/// The content of record `key`: the same bytes whichever agent reads it.
pub(crate) fn record(seed: Seed, key: u64) -> Vec<u8> {
    let mut rng = seed.nth(key).rng();
    // 16 of 32 bits: compressible, as records are.
    bytes(&(0..RECORD_BYTES / 4).map(|_| rng.next_u32() >> 16).collect::<Vec<_>>())
}

/// How many rounds of each kind of work make one task on this machine.
///
/// Sizes are found by timing: a task costs the same time on a slow and on a fast machine, so that load, waiting and limits
/// mean the same on both.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workbench {
    rounds: [u32; 3],
}

impl Workbench {
    /// Times a round of each kind (the quickest of several, as others may be using the machine) and sizes a task to take
    /// `target`.
    pub(crate) fn calibrate(target: Duration) -> Self {
        let blob = Blob::prepare(&record(Seed(0), 0));
        let rounds = [Work::Hash, Work::Compress, Work::Sort].map(|kind| {
            let time = |rounds: u32| {
                (0..12u64)
                    .map(|nonce| {
                        let begin = Instant::now();
                        black_box(run(kind, &blob, nonce, rounds));
                        begin.elapsed()
                    })
                    .min()
                    .unwrap_or_default()
                    .as_secs_f64()
            };
            // The difference takes the fixed part (unpacking, final checksum) out of the price of a round.
            let one = time(1);
            let round = ((time(9) - one) / 8.0).max(1e-8);
            (1.0 + (target.as_secs_f64() - one) / round).round().clamp(1.0, 100_000.0) as u32
        });
        Self { rounds }
    }

    /// Does one task's work `times` over and returns the digest of its result.
    pub(crate) fn perform(&self, kind: Work, blob: &Blob, nonce: u64, times: u32) -> Sum {
        run(kind, blob, nonce, self.rounds[kind as usize] * times)
    }
}

fn run(kind: Work, blob: &Blob, nonce: u64, rounds: u32) -> Sum {
    match kind {
        Work::Hash => (0..rounds).fold(blob.sum, |sum, _| {
            let mut h = Sha256::new();
            h.update(sum);
            h.update(nonce.to_le_bytes());
            h.update(&blob.bytes);
            h.finalize().into()
        }),
        Work::Compress => {
            let mut data = inflate(&blob.bytes);
            for i in 0..rounds {
                let at = (nonce.wrapping_add(u64::from(i)) as usize) % data.len().max(1);
                if let Some(b) = data.get_mut(at) {
                    *b ^= nonce as u8;
                }
                black_box(deflate(&data));
            }
            Sha256::digest(deflate(&data)).into()
        }
        Work::Sort => {
            let sorted = numbers(&inflate(&blob.bytes));
            let mut mixed = sorted.clone();
            for i in 0..rounds {
                let key = (nonce as u32 ^ i).wrapping_mul(0x9e37_79b9) | 1;
                for (m, s) in mixed.iter_mut().zip(&sorted) {
                    *m = s.wrapping_mul(key);
                }
                black_box(&mut mixed).sort_unstable();
            }
            Sha256::digest(bytes(&mixed)).into()
        }
    }
}

fn numbers(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
}

fn bytes(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}

/// Compresses at the fastest level.
pub(crate) fn deflate(data: &[u8]) -> Vec<u8> {
    // Not the fastest level: some back ends then use fixed codes, which a record of numbers only grows by.
    let mut e = DeflateEncoder::new(Vec::with_capacity(data.len() / 2 + 16), Compression::new(6));
    e.write_all(data).and_then(|()| e.finish()).expect("writing to memory does not fail")
}

/// Decompresses; what cannot be read (a corrupted record) is cut off.
pub(crate) fn inflate(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(RECORD_BYTES);
    // A corrupted stream ends early with an error; the checksum is what reports it.
    let _ = DeflateDecoder::new(data).take(1 << 20).read_to_end(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_repeat_and_checksums_notice() {
        let r = record(Seed(3), 17);
        assert_eq!(r.len(), RECORD_BYTES);
        assert_eq!(r, record(Seed(3), 17));
        assert_ne!(r, record(Seed(3), 18));
        let blob = Blob::prepare(&r);
        let mut sorted = numbers(&r);
        sorted.sort_unstable();
        assert_eq!(inflate(&blob.bytes), bytes(&sorted));
        assert!(blob.size() < RECORD_BYTES && blob.is_intact() && !blob.corrupted().is_intact());
    }

    #[test]
    fn work_is_a_function_of_its_input() {
        let bench = Workbench { rounds: [2, 2, 2] };
        let blob = Blob::prepare(&record(Seed(3), 1));
        for kind in [Work::Hash, Work::Compress, Work::Sort] {
            assert_eq!(bench.perform(kind, &blob, 5, 1), bench.perform(kind, &blob, 5, 1));
            assert_ne!(bench.perform(kind, &blob, 5, 1), bench.perform(kind, &blob, 6, 1));
        }
    }

    #[test]
    fn calibration_sizes_tasks_by_the_target() {
        let (small, large) =
            (Workbench::calibrate(Duration::from_micros(200)), Workbench::calibrate(Duration::from_millis(2)));
        for k in 0..3 {
            assert!(large.rounds[k] > 3 * small.rounds[k], "{small:?} {large:?}");
        }
    }
}
