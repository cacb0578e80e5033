use foreglow_models::kernel::{CellKind, RecurrentShape};

/// Numbers of one time step.
pub(crate) const INPUTS: usize = 8;
/// Numbers that the head gives.
pub(crate) const OUTPUTS: usize = 24;

/// One training case: LSTM(8, hidden, layers), Linear(hidden, 24) on the last step, mean square error, Adam.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    pub(crate) batch: usize,
    pub(crate) steps: usize,
}

/// The 24 cases.
pub(crate) fn cases() -> Vec<Case> {
    let mut out = Vec::new();
    for hidden in [32, 64, 128] {
        for layers in [1, 2] {
            for batch in [64, 256] {
                out.extend([64, 128].map(|steps| Case { hidden, layers, batch, steps }));
            }
        }
    }
    out
}

/// `count` numbers in ±scale from an integer hash; the Python script makes the same.
pub(crate) fn numbers(seed: u64, count: usize, scale: f64) -> Vec<f32> {
    (0..count as u64)
        .map(|i| {
            let mut h = i.wrapping_add(seed << 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            h ^= h >> 29;
            h = h.wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40;
            ((h as f64 / 8_388_608.0 - 1.0) * scale) as f32
        })
        .collect()
}

/// `matrix` (rows, columns) the other way round.
pub(crate) fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    let rows = matrix.len() / columns;
    (0..matrix.len()).map(|i| matrix[(i % rows) * columns + i / rows]).collect()
}

impl Case {
    pub(crate) fn shape(&self) -> RecurrentShape {
        RecurrentShape { cell: CellKind::Lstm, inputs: INPUTS, hidden: self.hidden, layers: self.layers, bias: true }
    }

    /// Bound of the first weights.
    fn bound(&self) -> f64 {
        1.0 / (self.hidden as f64).sqrt()
    }

    /// First weights: those of the stack, then the head's (hidden, 24) and its biases.
    pub(crate) fn weights(&self) -> Vec<f32> {
        let mut out = numbers(1, self.shape().weights(), self.bound());
        out.extend(transposed(&numbers(2, OUTPUTS * self.hidden, self.bound()), self.hidden));
        out.extend([0.0; OUTPUTS]);
        out
    }

    /// Shape (batch, steps, 8).
    pub(crate) fn inputs(&self) -> Vec<f32> {
        numbers(3, self.batch * self.steps * INPUTS, 1.0)
    }

    /// Shape (batch, 24).
    pub(crate) fn targets(&self) -> Vec<f32> {
        numbers(4, self.batch * OUTPUTS, 1.0)
    }

    /// How often a round repeats a step: about 12 GFLOP a round.
    pub(crate) fn repeats(&self) -> usize {
        ((12e9 / self.shape().flops(self.batch, self.steps)) as usize).clamp(1, 40)
    }
}
