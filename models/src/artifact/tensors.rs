use crate::ModelError;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::BTreeMap;

/// The values of one saved tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Weights of nets.
    F32(Vec<f32>),
    /// Statistics, calibration, state.
    F64(Vec<f64>),
    /// Bytes of another codec.
    U8(Vec<u8>),
}

/// One saved tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedTensor {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub values: Values,
}

/// Named tensors: what every fitted type saves itself into and loads itself from. Encoded as safetensors, in the order
/// of names, so that the same content is the same bytes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TensorMap(BTreeMap<String, SavedTensor>);

impl TensorMap {
    /// Adds statistics.
    pub fn put_f64(&mut self, name: impl Into<String>, shape: &[usize], values: Vec<f64>) {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        self.0.insert(name.into(), SavedTensor { shape: shape.to_vec(), values: Values::F64(values) });
    }

    /// Adds weights.
    pub fn put_f32(&mut self, name: impl Into<String>, shape: &[usize], values: Vec<f32>) {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        self.0.insert(name.into(), SavedTensor { shape: shape.to_vec(), values: Values::F32(values) });
    }

    /// Adds bytes.
    pub fn put_u8(&mut self, name: impl Into<String>, values: Vec<u8>) {
        self.0.insert(name.into(), SavedTensor { shape: vec![values.len()], values: Values::U8(values) });
    }

    fn get(&self, name: &str) -> Result<&SavedTensor, ModelError> {
        self.0.get(name).ok_or_else(|| ModelError::artifact(name, "the tensor is missing; fit the artifact again"))
    }

    /// Statistics by name: shape and values.
    pub fn f64s(&self, name: &str) -> Result<(&[usize], &[f64]), ModelError> {
        match self.get(name)? {
            SavedTensor { shape, values: Values::F64(v) } => Ok((shape, v)),
            _ => Err(ModelError::artifact(name, "expected 64-bit floats")),
        }
    }

    /// Statistics by name, of a known length.
    pub fn f64s_of(&self, name: &str, len: usize) -> Result<Vec<f64>, ModelError> {
        let (_, v) = self.f64s(name)?;
        if v.len() == len {
            Ok(v.to_vec())
        } else {
            Err(ModelError::artifact(name, format!("{} values where {len} were expected", v.len())))
        }
    }

    /// Weights by name: shape and values.
    pub fn f32s(&self, name: &str) -> Result<(&[usize], &[f32]), ModelError> {
        match self.get(name)? {
            SavedTensor { shape, values: Values::F32(v) } => Ok((shape, v)),
            _ => Err(ModelError::artifact(name, "expected 32-bit floats")),
        }
    }

    /// Bytes by name.
    pub fn u8s(&self, name: &str) -> Result<&[u8], ModelError> {
        match self.get(name)? {
            SavedTensor { values: Values::U8(v), .. } => Ok(v),
            _ => Err(ModelError::artifact(name, "expected bytes")),
        }
    }

    /// Whether a tensor of this name is there.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As safetensors bytes.
    pub fn encode(&self) -> Result<Vec<u8>, ModelError> {
        let raw: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = self
            .0
            .iter()
            .map(|(n, t)| {
                let (d, b) = match &t.values {
                    Values::F32(v) => (Dtype::F32, v.iter().flat_map(|x| x.to_le_bytes()).collect()),
                    Values::F64(v) => (Dtype::F64, v.iter().flat_map(|x| x.to_le_bytes()).collect()),
                    Values::U8(v) => (Dtype::U8, v.clone()),
                };
                (n.clone(), d, t.shape.clone(), b)
            })
            .collect();
        let mut views = Vec::with_capacity(raw.len());
        for (n, d, s, b) in &raw {
            let v = TensorView::new(*d, s.clone(), b).map_err(|e| ModelError::artifact(n, e.to_string()))?;
            views.push((n.clone(), v));
        }
        safetensors::serialize(views, None).map_err(|e| ModelError::artifact("tensors", e.to_string()))
    }

    /// From safetensors bytes; `place` names the file in errors.
    pub fn decode(place: &str, bytes: &[u8]) -> Result<Self, ModelError> {
        let st = SafeTensors::deserialize(bytes)
            .map_err(|e| ModelError::artifact(place, format!("{e}; the file is damaged, fit or fetch it again")))?;
        let mut out = BTreeMap::new();
        for (name, v) in st.tensors() {
            let d = v.data();
            let values = match v.dtype() {
                Dtype::F32 => {
                    Values::F32(d.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect())
                }
                Dtype::F64 => Values::F64(
                    d.chunks_exact(8)
                        .map(|c| f64::from_le_bytes([c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]]))
                        .collect(),
                ),
                Dtype::U8 => Values::U8(d.to_vec()),
                other => {
                    return Err(ModelError::artifact(
                        format!("{place}: {name}"),
                        format!("type {other:?} is not used"),
                    ));
                }
            };
            out.insert(name, SavedTensor { shape: v.shape().to_vec(), values });
        }
        Ok(Self(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn codec_round_trips(a in proptest::collection::vec(any::<f64>(), 0..20), b in proptest::collection::vec(any::<u8>(), 0..20)) {
            let mut m = TensorMap::default();
            m.put_f64("x/a", &[a.len()], a.iter().map(|v| if v.is_nan() { 0.0 } else { *v }).collect());
            m.put_f32("w", &[2, 1], vec![1.5, -2.0]);
            m.put_u8("s", b);
            let bytes = m.encode().unwrap();
            prop_assert_eq!(TensorMap::decode("t", &bytes).unwrap(), m.clone());
            prop_assert_eq!(m.encode().unwrap(), bytes);
        }
    }

    #[test]
    fn damage_is_named() {
        let e = TensorMap::decode("weights.safetensors", &[1, 2, 3]).unwrap_err().to_string();
        assert!(e.contains("weights.safetensors") && e.contains("damaged"), "{e}");
    }
}
