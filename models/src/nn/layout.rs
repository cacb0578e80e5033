use crate::ModelError;
use crate::artifact::TensorMap;
use foreglow_core::Seed;
use rand::Rng;

/// How a weight begins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Init {
    /// All the same.
    Constant(f32),
    /// Uniform in ±bound.
    Uniform(f32),
}

/// One named part of the flat weight vector.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) name: &'static str,
    pub(crate) index: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) offset: usize,
    pub(crate) len: usize,
    init: Init,
}

/// Names and shapes of a net's weights in one flat vector, in order. Candle's own generator cannot be seeded on a CPU, so
/// the first weights are drawn here.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layout {
    pub(crate) slots: Vec<Slot>,
    pub(crate) len: usize,
}

impl Layout {
    /// Adds a part; `index` tells equal names apart. Returns its place in `slots`.
    pub(crate) fn add(&mut self, name: &'static str, index: usize, shape: &[usize], init: Init) -> usize {
        let len = shape.iter().product();
        self.slots.push(Slot { name, index, shape: shape.to_vec(), offset: self.len, len, init });
        self.len += len;
        self.slots.len() - 1
    }

    /// Seeded first weights.
    pub(crate) fn draw(&self, seed: Seed) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.len);
        for (i, s) in self.slots.iter().enumerate() {
            let mut rng = seed.child(s.name).nth(i as u64).rng();
            out.extend((0..s.len).map(|_| match s.init {
                Init::Constant(c) => c,
                Init::Uniform(b) => rng.gen_range(-b..=b),
            }));
        }
        out
    }

    /// The values of one part.
    pub(crate) fn part<'a>(&self, weights: &'a [f32], slot: usize) -> &'a [f32] {
        let s = &self.slots[slot];
        &weights[s.offset..s.offset + s.len]
    }

    /// Saves every part under `prefix`, by name.
    pub(crate) fn save(&self, weights: &[f32], map: &mut TensorMap, prefix: &str) {
        for s in &self.slots {
            map.put_f32(s.key(prefix), &s.shape, weights[s.offset..s.offset + s.len].to_vec());
        }
    }

    /// Loads what [`Layout::save`] wrote; a missing part, another shape or a number that is not finite is an error.
    pub(crate) fn load(&self, map: &TensorMap, prefix: &str) -> Result<Vec<f32>, ModelError> {
        let mut out = Vec::with_capacity(self.len);
        for s in &self.slots {
            let key = s.key(prefix);
            let (shape, values) = map.f32s(&key)?;
            if shape != s.shape {
                return Err(ModelError::artifact(key, format!("shape {shape:?} where {:?} was expected", s.shape)));
            }
            if !values.iter().all(|v| v.is_finite()) {
                return Err(ModelError::artifact(key, "a weight is not finite; fit the artifact again"));
            }
            out.extend_from_slice(values);
        }
        Ok(out)
    }
}

impl Slot {
    fn key(&self, prefix: &str) -> String {
        format!("{prefix}{}.{}", self.name, self.index)
    }
}
