//! Operations that candle lacks, with their gradients.

use super::activation::tanh;
use candle_core::{CpuStorage, CustomOp1, Device, Error, Layout, Result, Shape, Tensor};

/// The numbers behind a contiguous 32-bit tensor.
pub(super) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
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
