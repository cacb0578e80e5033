use super::case::{Case, INPUTS, OUTPUTS};
use super::ours::RATE;
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::rnn::{LSTM, LSTMConfig, LSTMState, RNN, lstm};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, VarBuilder, VarMap};

/// Candle's own LSTM and optimiser. Layers go step by step together, which is quicker than layer by layer.
pub(crate) struct Candle {
    case: Case,
    layers: Vec<LSTM>,
    head: [Var; 2],
    adam: AdamW,
    x: Tensor,
    y: Tensor,
}

/// A layer with the weights that `flat` holds for it. One bias, as the kernels have.
fn layer(case: &Case, l: usize, flat: &[f32], vars: &VarMap) -> Result<LSTM> {
    let (shape, h) = (case.shape(), case.hidden);
    let name = format!("l{l}");
    let builder = VarBuilder::from_varmap(vars, DType::F32, &Device::Cpu).pp(&name);
    let config = LSTMConfig { b_hh_init: None, ..LSTMConfig::default() };
    let lstm = lstm(shape.inputs_of(l), h, config, builder)?;
    let parts = shape.parts(l);
    let matrix = |range: std::ops::Range<usize>, rows: usize| {
        Tensor::from_slice(&flat[range], (rows, 4 * h), &Device::Cpu)?.t()?.contiguous()
    };
    let data = vars.data().lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
    let set = |part: &str, tensor: Tensor| -> Result<()> {
        let key = format!("{name}.{part}");
        Ok(data.get(&key).with_context(|| format!("candle names no {key}"))?.set(&tensor)?)
    };
    set("weight_ih_l0", matrix(parts.input, shape.inputs_of(l))?)?;
    set("weight_hh_l0", matrix(parts.recurrent, h)?)?;
    set("bias_ih_l0", Tensor::from_slice(&flat[parts.bias], 4 * h, &Device::Cpu)?)?;
    Ok(lstm)
}

impl Candle {
    pub(crate) fn new(case: Case) -> Result<Self> {
        let flat = case.weights();
        let vars = VarMap::new();
        let layers = (0..case.layers).map(|l| layer(&case, l, &flat, &vars)).collect::<Result<Vec<_>>>()?;
        let (_, rest) = flat.split_at(case.shape().weights());
        let (matrix, bias) = rest.split_at(case.hidden * OUTPUTS);
        let head = [
            Var::from_slice(matrix, (case.hidden, OUTPUTS), &Device::Cpu)?,
            Var::from_slice(bias, OUTPUTS, &Device::Cpu)?,
        ];
        let mut all = vars.all_vars();
        all.extend(head.iter().cloned());
        let params = ParamsAdamW { lr: RATE, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.0 };
        let x = Tensor::from_vec(case.inputs(), (case.batch, case.steps, INPUTS), &Device::Cpu)?;
        let y = Tensor::from_vec(case.targets(), (case.batch, OUTPUTS), &Device::Cpu)?;
        Ok(Self { case, layers, head, adam: AdamW::new(all, params)?, x, y })
    }

    /// One training step; returns the loss before it.
    pub(crate) fn step(&mut self) -> Result<f64> {
        let mut states: Vec<LSTMState> =
            self.layers.iter().map(|l| l.zero_state(self.case.batch)).collect::<candle_core::Result<_>>()?;
        for t in 0..self.case.steps {
            let mut input = self.x.narrow(1, t, 1)?.squeeze(1)?.contiguous()?;
            for (layer, state) in self.layers.iter().zip(&mut states) {
                *state = layer.step(&input, state)?;
                input = state.h().clone();
            }
        }
        let last = states.last().context("no layer")?.h();
        let off = (last.matmul(&self.head[0])?.broadcast_add(&self.head[1])? - &self.y)?;
        let loss = off.sqr()?.mean_all()?;
        self.adam.backward_step(&loss)?;
        Ok(f64::from(loss.to_scalar::<f32>()?))
    }
}

/// Candle's LSTM with kept state, for the scoring step.
pub(crate) struct CandleStep {
    layer: LSTM,
    state: LSTMState,
    x: Tensor,
}

impl CandleStep {
    /// `flat` are the weights of a layer of 32 units.
    pub(crate) fn new(case: &Case, flat: &[f32], x: &[f32], rows: usize) -> Result<Self> {
        let layer = layer(case, 0, flat, &VarMap::new())?;
        let state = layer.zero_state(rows)?;
        Ok(Self { layer, state, x: Tensor::from_slice(x, (rows, INPUTS), &Device::Cpu)? })
    }

    pub(crate) fn step(&mut self) -> Result<()> {
        let next = self.layer.step(&self.x, &self.state)?;
        // Without what the gradient would need.
        self.state = LSTMState { h: next.h.detach(), c: next.c.detach() };
        Ok(())
    }

    pub(crate) fn states(&self) -> Result<Vec<f32>> {
        Ok(self.state.h.flatten_all()?.to_vec1()?)
    }
}
