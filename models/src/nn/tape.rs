use super::layout::Layout;
use crate::ModelError;
use candle_core::{Device, Tensor, Var};

/// Candle variables that hold a net's flat weights, one a part of the layout.
pub(crate) struct Tape {
    vars: Vec<Var>,
}

impl Tape {
    pub(crate) fn new(layout: &Layout, weights: &[f32]) -> Result<Self, ModelError> {
        let vars = (layout.slots.iter())
            .map(|s| Var::from_slice(&weights[s.offset..s.offset + s.len], s.shape.as_slice(), &Device::Cpu))
            .collect::<Result<_, _>>()?;
        Ok(Self { vars })
    }

    /// The variable of a part.
    pub(crate) fn var(&self, slot: usize) -> &Tensor {
        self.vars[slot].as_tensor()
    }

    /// Writes the gradient of the scalar `loss`, flat, and returns the loss.
    pub(crate) fn gradient(&self, layout: &Layout, loss: &Tensor, out: &mut [f32]) -> Result<f64, ModelError> {
        let grads = loss.backward()?;
        for (s, v) in layout.slots.iter().zip(&self.vars) {
            let place = &mut out[s.offset..s.offset + s.len];
            match grads.get(v.as_tensor()) {
                Some(g) => place.copy_from_slice(&g.flatten_all()?.to_vec1::<f32>()?),
                None => place.fill(0.0),
            }
        }
        Ok(f64::from(loss.to_scalar::<f32>()?))
    }
}

/// A constant.
pub(crate) fn constant(values: Vec<f32>, shape: &[usize]) -> Result<Tensor, ModelError> {
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}
