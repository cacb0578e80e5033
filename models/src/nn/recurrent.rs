use super::ops::slice;
use crate::kernel::{Kept, Output, Recurrent};
use candle_core::{CpuStorage, CustomOp2, Device, Error, Layout, Result, Shape, Tensor};
use std::sync::{Arc, Mutex, MutexGuard};

/// A stack of recurrent layers as one operation of candle, on inputs (batch, steps, inputs) and the flat weights that
/// [`RecurrentShape`](crate::kernel::RecurrentShape) describes: gives the last states (batch, hidden), or every state
/// (batch, steps, hidden).
///
/// Heads and losses on top of it stay candle's. One instance serves one pass; the kernels, which own the buffers, serve
/// all of them.
pub struct RecurrentOp {
    kernels: Arc<Recurrent>,
    output: Output,
    /// Whether something below is trained too.
    inputs: bool,
    kept: Mutex<Option<Kept>>,
}

impl RecurrentOp {
    /// An operation for one pass; `inputs` says whether the gradient of the inputs is wanted too.
    pub fn new(kernels: Arc<Recurrent>, output: Output, inputs: bool) -> Self {
        Self { kernels, output, inputs, kept: Mutex::new(None) }
    }

    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl CustomOp2 for RecurrentOp {
    fn name(&self) -> &'static str {
        "recurrent"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, steps, inputs) = lx.shape().dims3()?;
        let (shape, weights) = (self.kernels.shape(), slice(w, lw)?);
        if inputs != shape.inputs || weights.len() != shape.weights() {
            let problem = format!("{inputs} inputs and {} weights for {shape:?}", weights.len());
            return Err(Error::Msg(problem));
        }
        let out: Shape = match self.output {
            Output::Last => (batch, shape.hidden).into(),
            Output::Each => (batch, steps, shape.hidden).into(),
        };
        let mut states = vec![0.0; out.elem_count()];
        let kept = self.kernels.forward(weights, slice(x, lx)?, steps, self.output, &mut states);
        if let Some(old) = self.kept().replace(kept) {
            self.kernels.release(old);
        }
        Ok((CpuStorage::F32(states), out))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let kept = self.kept().take();
        let kept = kept.ok_or_else(|| Error::Msg("the backward pass ran before the forward pass".into()))?;
        let upper = grad.flatten_all()?.to_vec1::<f32>()?;
        let mut gradient = vec![0.0; w.elem_count()];
        let mut below = vec![0.0; if self.inputs { x.elem_count() } else { 0 }];
        let inputs = self.inputs.then_some(&mut below[..]);
        self.kernels.backward(kept, self.output, &upper, &mut gradient, inputs);
        let below = if self.inputs { Some(Tensor::from_vec(below, x.shape(), &Device::Cpu)?) } else { None };
        Ok((below, Some(Tensor::from_vec(gradient, w.shape(), &Device::Cpu)?)))
    }
}

impl Drop for RecurrentOp {
    fn drop(&mut self) {
        let kept = self.kept().take();
        if let Some(kept) = kept {
            self.kernels.release(kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{CellKind, RecurrentShape};
    use candle_core::{DType, Var};
    use candle_nn::rnn::{GRUConfig, LSTMConfig, RNN, gru, lstm};
    use candle_nn::{VarBuilder, VarMap};

    fn near(what: &str, a: &Tensor, b: &Tensor) {
        let d = (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
        assert!(d < 1e-5, "{what}: {d}");
    }

    /// Candle's own layer from the same weights: the states, and the variables behind it by name.
    fn candle(shape: &RecurrentShape, flat: &[f32], x: &Tensor) -> (Tensor, VarMap) {
        let vars = VarMap::new();
        let builder = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
        let (h, gates) = (shape.hidden, shape.cell.gates());
        // The first bias of a GRU's candidate goes with the input, the second with the state.
        let set = |name: &str, t: &Tensor| vars.data().lock().unwrap()[name].set(t).unwrap();
        let fill = || {
            let part = |r: std::ops::Range<usize>, rows: usize| {
                Tensor::from_slice(&flat[r], (rows, gates * h), &Device::Cpu)
                    .unwrap()
                    .t()
                    .unwrap()
                    .contiguous()
                    .unwrap()
            };
            let parts = shape.parts(0);
            set("weight_ih_l0", &part(parts.input, shape.inputs));
            set("weight_hh_l0", &part(parts.recurrent, h));
            let bias = &flat[parts.bias];
            set("bias_ih_l0", &Tensor::from_slice(&bias[..gates * h], gates * h, &Device::Cpu).unwrap());
            let mut second = vec![0.0; gates * h];
            if gates == 3 {
                second[2 * h..].copy_from_slice(&bias[3 * h..]);
            }
            set("bias_hh_l0", &Tensor::from_vec(second, gates * h, &Device::Cpu).unwrap());
        };
        let states = match shape.cell {
            CellKind::Lstm => {
                let layer = lstm(shape.inputs, h, LSTMConfig::default(), builder).unwrap();
                fill();
                layer.seq(x).unwrap().iter().map(|s| s.h().clone()).collect::<Vec<_>>()
            }
            CellKind::Gru => {
                let layer = gru(shape.inputs, h, GRUConfig::default(), builder).unwrap();
                fill();
                layer.seq(x).unwrap().iter().map(|s| s.h().clone()).collect()
            }
        };
        (Tensor::stack(&states, 1).unwrap(), vars)
    }

    #[test]
    fn states_and_gradients_equal_those_of_candle() {
        for cell in [CellKind::Lstm, CellKind::Gru] {
            for output in [Output::Last, Output::Each] {
                let shape = RecurrentShape { cell, inputs: 3, hidden: 11, layers: 1, bias: true };
                let (batch, steps) = (37, 6);
                let draw = |n: usize, k: f32| (0..n).map(|i| (i as f32 * 12.9898 + k).sin()).collect::<Vec<f32>>();
                let flat: Vec<f32> = draw(shape.weights(), 0.3).iter().map(|v| 0.5 * v).collect();
                let x = Var::from_vec(draw(batch * steps * 3, 0.7), (batch, steps, 3), &Device::Cpu).unwrap();
                let w = Var::from_vec(flat.clone(), flat.len(), &Device::Cpu).unwrap();
                let kernels = Arc::new(Recurrent::new(shape));
                let ours = x.apply_op2(&w, RecurrentOp::new(kernels, output, true)).unwrap();
                let (theirs, vars) = candle(&shape, &flat, &x);
                let theirs = match output {
                    Output::Last => theirs.narrow(1, steps - 1, 1).unwrap().squeeze(1).unwrap(),
                    Output::Each => theirs,
                };
                near("states", &ours, &theirs);
                let loss =
                    |t: &Tensor| (t.sqr().unwrap().sum_all().unwrap() / batch as f64).unwrap().backward().unwrap();
                let (a, b) = (loss(&ours), loss(&theirs));
                near("inputs", a.get(&x).unwrap(), b.get(&x).unwrap());
                let gradient = a.get(&w).unwrap();
                let of = |name: &str| b.get(vars.data().lock().unwrap()[name].as_tensor()).unwrap().t().unwrap();
                let part = |r: std::ops::Range<usize>| gradient.narrow(0, r.start, r.len()).unwrap();
                let (parts, width) = (shape.parts(0), cell.gates() * 11);
                near("input", &part(parts.input).reshape((3, width)).unwrap(), &of("weight_ih_l0"));
                near("recurrent", &part(parts.recurrent).reshape((11, width)).unwrap(), &of("weight_hh_l0"));
                let bias = b.get(vars.data().lock().unwrap()["bias_ih_l0"].as_tensor()).unwrap().clone();
                near("bias", &part(parts.bias.start..parts.bias.start + width), &bias);
            }
        }
    }

    #[test]
    fn refuses_wrong_sizes() {
        let shape = RecurrentShape { cell: CellKind::Lstm, inputs: 3, hidden: 4, layers: 1, bias: true };
        let kernels = Arc::new(Recurrent::new(shape));
        let x = Tensor::zeros((2, 5, 2), DType::F32, &Device::Cpu).unwrap();
        let w = Tensor::zeros(shape.weights(), DType::F32, &Device::Cpu).unwrap();
        let e = x.apply_op2(&w, RecurrentOp::new(kernels, Output::Last, false)).unwrap_err().to_string();
        assert!(e.contains("2 inputs"), "{e}");
    }
}
