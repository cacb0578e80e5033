//! Operations that candle lacks, with their gradients.

use super::activation::{sigmoid, tanh};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Device, Error, Layout, Result, Shape, Tensor};
use std::sync::Mutex;

/// The numbers behind a contiguous 32-bit tensor.
fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (from, to) = layout.contiguous_offsets().ok_or_else(|| Error::Msg("expected a contiguous tensor".into()))?;
    Ok(&storage.as_slice::<f32>()?[from..to])
}

fn flat(t: &Tensor) -> Result<Vec<f32>> {
    t.flatten_all()?.to_vec1()
}

/// [`tanh`] element by element.
pub(crate) struct Tanh;

impl CustomOp1 for Tanh {
    fn name(&self) -> &'static str {
        "tanh"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let out: Vec<f32> = slice(storage, layout)?.iter().map(|v| tanh(*v)).collect();
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let g: Vec<f32> = flat(res)?.iter().zip(flat(grad)?).map(|(y, g)| g * (1.0 - y * y)).collect();
        Ok(Some(Tensor::from_vec(g, res.shape(), &Device::Cpu)?))
    }
}

/// `x W` for a constant `x`: unlike candle's product it computes no gradient for `x`.
pub(crate) struct Project(pub(crate) Tensor);

impl CustomOp1 for Project {
    fn name(&self) -> &'static str {
        "project"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let w = Tensor::from_slice(slice(storage, layout)?, layout.shape(), &Device::Cpu)?;
        let out = self.0.matmul(&w)?;
        let shape = out.shape().clone();
        Ok((CpuStorage::F32(flat(&out)?), shape))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.0.t()?.matmul(&grad.contiguous()?)?))
    }
}

/// What the forward pass keeps for the backward pass.
struct Kept {
    /// Activated gates, (steps, batch, 4 hidden).
    gates: Vec<f32>,
    /// Cell states before each step and after the last, (steps + 1, batch, hidden).
    cells: Vec<f32>,
    /// Hidden states, same shape.
    hiddens: Vec<f32>,
}

/// A whole LSTM layer over a sequence (Hochreiter and Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735): projected
/// inputs of shape (steps * batch, 4 hidden), time-major and with the bias inside, and the recurrent weights (hidden,
/// 4 hidden) give the last hidden state (batch, hidden). Gates in the order input, forget, cell, output.
///
/// One operation instead of a dozen a step: candle's backward pass of a slice fills a zero tensor of full size, which
/// makes a layer written in candle's own operations quadratic in the number of steps. One instance serves one pass.
pub(crate) struct LstmLayer {
    steps: usize,
    batch: usize,
    hidden: usize,
    kept: Mutex<Option<Kept>>,
}

impl LstmLayer {
    pub(crate) fn new(steps: usize, batch: usize, hidden: usize) -> Self {
        Self { steps, batch, hidden, kept: Mutex::new(None) }
    }
}

impl CustomOp2 for LstmLayer {
    fn name(&self) -> &'static str {
        "lstm-layer"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        let (t, b, h) = (self.steps, self.batch, self.hidden);
        let mut gates = slice(x, lx)?.to_vec();
        let weights = Tensor::from_slice(slice(w, lw)?, (h, 4 * h), &Device::Cpu)?;
        let mut cells = vec![0.0f32; (t + 1) * b * h];
        let mut hiddens = vec![0.0f32; (t + 1) * b * h];
        for s in 0..t {
            let gate = &mut gates[s * b * 4 * h..(s + 1) * b * 4 * h];
            if s > 0 {
                let before = Tensor::from_slice(&hiddens[s * b * h..(s + 1) * b * h], (b, h), &Device::Cpu)?;
                for (g, r) in gate.iter_mut().zip(flat(&before.matmul(&weights)?)?) {
                    *g += r;
                }
            }
            let (old, new) = cells.split_at_mut((s + 1) * b * h);
            let old = &old[s * b * h..];
            let out = &mut hiddens[(s + 1) * b * h..(s + 2) * b * h];
            for r in 0..b {
                let row = &mut gate[r * 4 * h..(r + 1) * 4 * h];
                cell_step(row, &old[r * h..(r + 1) * h], &mut new[r * h..(r + 1) * h], &mut out[r * h..(r + 1) * h]);
            }
        }
        let last = hiddens[t * b * h..].to_vec();
        *self.kept.lock().map_err(|_| Error::Msg("poisoned".into()))? = Some(Kept { gates, cells, hiddens });
        Ok((CpuStorage::F32(last), Shape::from((b, h))))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (t, b, h) = (self.steps, self.batch, self.hidden);
        let kept = self.kept.lock().map_err(|_| Error::Msg("poisoned".into()))?.take();
        let Kept { mut gates, cells, hiddens } =
            kept.ok_or_else(|| Error::Msg("the backward pass ran before the forward pass".into()))?;
        let back = w.detach().t()?.contiguous()?;
        let mut dh = flat(grad)?;
        let mut dc = vec![0.0f32; b * h];
        for s in (0..t).rev() {
            let gate = &mut gates[s * b * 4 * h..(s + 1) * b * 4 * h];
            for r in 0..b {
                let old = &cells[(s * b + r) * h..(s * b + r + 1) * h];
                let new = &cells[((s + 1) * b + r) * h..((s + 1) * b + r + 1) * h];
                let part = r * h..(r + 1) * h;
                cell_back(&mut gate[r * 4 * h..(r + 1) * 4 * h], old, new, &dh[part.clone()], &mut dc[part]);
            }
            if s > 0 {
                let dz = Tensor::from_slice(gate, (b, 4 * h), &Device::Cpu)?;
                dh = flat(&dz.matmul(&back)?)?;
            }
        }
        let dx = Tensor::from_vec(gates, x.shape(), &Device::Cpu)?;
        let before = Tensor::from_slice(&hiddens[..t * b * h], (t * b, h), &Device::Cpu)?;
        let dw = before.t()?.matmul(&dx)?;
        Ok((Some(dx), Some(dw)))
    }
}

/// One cell of one row: activates the gates in place and writes the new cell and hidden state.
#[inline]
pub(crate) fn cell_step(gates: &mut [f32], old: &[f32], new: &mut [f32], hidden: &mut [f32]) {
    let h = old.len();
    let (i, rest) = gates.split_at_mut(h);
    let (f, rest) = rest.split_at_mut(h);
    let (g, o) = rest.split_at_mut(h);
    for k in 0..h {
        i[k] = sigmoid(i[k]);
        f[k] = sigmoid(f[k]);
        g[k] = tanh(g[k]);
        o[k] = sigmoid(o[k]);
        new[k] = f[k] * old[k] + i[k] * g[k];
        hidden[k] = o[k] * tanh(new[k]);
    }
}

/// The gradient of [`cell_step`]: turns activated gates into gradients of what went into them, `dc` into the gradient of
/// the old cell state.
#[inline]
fn cell_back(gates: &mut [f32], old: &[f32], new: &[f32], dh: &[f32], dc: &mut [f32]) {
    let h = old.len();
    let (gi, rest) = gates.split_at_mut(h);
    let (gf, rest) = rest.split_at_mut(h);
    let (gg, go) = rest.split_at_mut(h);
    for k in 0..h {
        let (i, f, g, o) = (gi[k], gf[k], gg[k], go[k]);
        let tc = tanh(new[k]);
        let d = dc[k] + dh[k] * o * (1.0 - tc * tc);
        gi[k] = d * g * i * (1.0 - i);
        gf[k] = d * old[k] * f * (1.0 - f);
        gg[k] = d * i * (1.0 - g * g);
        go[k] = dh[k] * tc * o * (1.0 - o);
        dc[k] = d * f;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

    /// The same layer in candle's own operations.
    fn reference(x: &Tensor, w: &Tensor, t: usize, b: usize, h: usize) -> Result<Tensor> {
        let mut hidden = Tensor::zeros((b, h), candle_core::DType::F32, &Device::Cpu)?;
        let mut cell = hidden.clone();
        let one = Tensor::ones((b, h), candle_core::DType::F32, &Device::Cpu)?;
        let sig = |v: &Tensor| -> Result<Tensor> { (v.neg()?.exp()? + &one)?.recip() };
        for s in 0..t {
            let z = (x.narrow(0, s * b, b)? + hidden.matmul(w)?)?;
            let part = |k: usize| z.narrow(1, k * h, h);
            cell = ((sig(&part(1)?)? * &cell)? + (sig(&part(0)?)? * part(2)?.tanh()?)?)?;
            hidden = (sig(&part(3)?)? * cell.tanh()?)?;
        }
        Ok(hidden)
    }

    #[test]
    fn layer_and_gradient_equal_candle() {
        let (t, b, h) = (5, 3, 4);
        let draw = |n: usize, k: f32| (0..n).map(|i| (i as f32 * 12.9898 + k).sin() * 1.3).collect::<Vec<f32>>();
        let x = Var::from_vec(draw(t * b * 4 * h, 0.1), (t * b, 4 * h), &Device::Cpu).unwrap();
        let w = Var::from_vec(draw(h * 4 * h, 0.7), (h, 4 * h), &Device::Cpu).unwrap();
        let ours = x.apply_op2(&w, LstmLayer::new(t, b, h)).unwrap();
        let theirs = reference(&x, &w, t, b, h).unwrap();
        let near = |a: &Tensor, b: &Tensor| {
            let d = (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
            assert!(d < 1e-5, "{d}");
        };
        near(&ours, &theirs);
        let go = ours.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        let gt = theirs.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        near(go.get(&x).unwrap(), gt.get(&x).unwrap());
        near(go.get(&w).unwrap(), gt.get(&w).unwrap());
    }
}
