use super::case::{Case, OUTPUTS};
use anyhow::Result;
use candle_core::{Device, Tensor, Var};
use foreglow_models::kernel::{Output, Recurrent};
use foreglow_models::nn::{AdamW, OptimizerState, RecurrentOp};
use std::sync::Arc;

/// Learning rate of every program.
pub(crate) const RATE: f64 = 1e-3;
/// Plain Adam: no decay, and no gradient is as long as this.
pub(crate) const ADAM: AdamW = AdamW { weight_decay: 0.0, clip: 1e9 };

/// Weights, data and optimiser of a run.
struct Run {
    case: Case,
    weights: Vec<f32>,
    gradient: Vec<f32>,
    adam: OptimizerState,
    x: Vec<f32>,
    y: Vec<f32>,
}

impl Run {
    fn new(case: Case) -> Self {
        let weights = case.weights();
        let (gradient, adam) = (vec![0.0; weights.len()], OptimizerState::new(weights.len()));
        Self { case, weights, gradient, adam, x: case.inputs(), y: case.targets() }
    }
}

/// The bare kernel with a head in plain Rust.
pub(crate) struct Bare {
    run: Run,
    kernels: Recurrent,
}

impl Bare {
    pub(crate) fn new(case: Case) -> Self {
        Self { run: Run::new(case), kernels: Recurrent::new(case.shape()) }
    }

    /// One training step; returns the loss before it.
    pub(crate) fn step(&mut self) -> f64 {
        let Run { case, weights, gradient, adam, x, y } = &mut self.run;
        let (stack, head) = weights.split_at(case.shape().weights());
        let (stack_gradient, head_gradient) = gradient.split_at_mut(stack.len());
        let (h, share) = (case.hidden, 1.0 / (case.batch * OUTPUTS) as f32);
        let loss = self.kernels.step(stack, x, case.steps, stack_gradient, head_gradient, |rows, last, upper, out| {
            let (matrix, bias) = head.split_at(h * OUTPUTS);
            let (matrix_gradient, bias_gradient) = out.split_at_mut(h * OUTPUTS);
            let mut loss = 0.0;
            for (r, row) in rows.enumerate() {
                let last = &last[r * h..(r + 1) * h];
                let mut off = [0.0f32; OUTPUTS];
                off.copy_from_slice(bias);
                for (v, w) in last.iter().zip(matrix.as_chunks::<OUTPUTS>().0) {
                    (0..OUTPUTS).for_each(|j| off[j] += v * w[j]);
                }
                for (o, y) in off.iter_mut().zip(&y[row * OUTPUTS..(row + 1) * OUTPUTS]) {
                    *o -= y;
                    loss += f64::from(*o) * f64::from(*o);
                    *o *= 2.0 * share;
                }
                let lanes = matrix_gradient.as_chunks_mut::<OUTPUTS>().0;
                for (k, (g, w)) in lanes.iter_mut().zip(matrix.as_chunks::<OUTPUTS>().0).enumerate() {
                    let mut sum = [0.0f32; 4];
                    for j in 0..OUTPUTS {
                        g[j] += last[k] * off[j];
                        sum[j % 4] += w[j] * off[j];
                    }
                    upper[r * h + k] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
                }
                bias_gradient.iter_mut().zip(off).for_each(|(g, o)| *g += o);
            }
            loss
        });
        ADAM.step(adam, weights, gradient, RATE);
        loss * f64::from(share)
    }
}

/// The kernel as an operation of candle: head, loss and the way back are candle's.
pub(crate) struct Hooked {
    run: Run,
    kernels: Arc<Recurrent>,
    x: Tensor,
    y: Tensor,
}

impl Hooked {
    pub(crate) fn new(case: Case) -> Result<Self> {
        let run = Run::new(case);
        let x = Tensor::from_slice(&run.x, (case.batch, case.steps, super::case::INPUTS), &Device::Cpu)?;
        let y = Tensor::from_slice(&run.y, (case.batch, OUTPUTS), &Device::Cpu)?;
        Ok(Self { run, kernels: Arc::new(Recurrent::new(case.shape())), x, y })
    }

    /// One training step; returns the loss before it.
    pub(crate) fn step(&mut self) -> Result<f64> {
        let Run { case, weights, gradient, adam, .. } = &mut self.run;
        let (stack, matrix) = (case.shape().weights(), case.hidden * OUTPUTS);
        let var = |from: usize, shape: &[usize]| {
            let len: usize = shape.iter().product();
            Var::from_slice(&weights[from..from + len], shape, &Device::Cpu)
        };
        let vars = [var(0, &[stack])?, var(stack, &[case.hidden, OUTPUTS])?, var(stack + matrix, &[OUTPUTS])?];
        let op = RecurrentOp::new(self.kernels.clone(), Output::Last, false);
        let last = self.x.apply_op2(vars[0].as_tensor(), op)?;
        let off = (last.matmul(&vars[1])?.broadcast_add(&vars[2])? - &self.y)?;
        let loss = off.sqr()?.mean_all()?;
        let grads = loss.backward()?;
        let mut at = 0;
        for v in &vars {
            if let Some(g) = grads.get(v) {
                let len = v.elem_count();
                gradient[at..at + len].copy_from_slice(&g.flatten_all()?.to_vec1::<f32>()?);
                at += len;
            }
        }
        ADAM.step(adam, weights, gradient, RATE);
        Ok(f64::from(loss.to_scalar::<f32>()?))
    }
}
