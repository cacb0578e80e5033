use super::{
    CellKind, DenseBuffers, DenseLayer, DenseStack, KernelPath, Output, Recurrent, RecurrentShape, RecurrentStep,
};

fn draw(n: usize, k: f32, size: f32) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * 12.9898 + k).sin() * size).collect()
}

/// One layer in 64-bit numbers and the textbook's formulas: inputs (steps, inputs) to states (steps, hidden).
fn layer(shape: &RecurrentShape, l: usize, weights: &[f64], x: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let (h, parts) = (shape.hidden, shape.parts(l));
    let width = shape.cell.gates() * h;
    let (input, recurrent, bias) = (&weights[parts.input], &weights[parts.recurrent], &weights[parts.bias]);
    let dot = |v: &[f64], w: &[f64], j: usize| -> f64 { v.iter().enumerate().map(|(k, v)| v * w[k * width + j]).sum() };
    let sigmoid = |z: f64| 1.0 / (1.0 + (-z).exp());
    let (mut state, mut cell) = (vec![0.0; h], vec![0.0; h]);
    let mut out = Vec::new();
    for row in x {
        let old = state.clone();
        for j in 0..h {
            let a = |g: usize| dot(row, input, g * h + j);
            let b = |g: usize| dot(&old, recurrent, g * h + j);
            let c = |g: usize| if shape.bias { bias[g * h + j] } else { 0.0 };
            state[j] = match shape.cell {
                CellKind::Lstm => {
                    let z = |g: usize| a(g) + b(g) + c(g);
                    cell[j] = sigmoid(z(1)) * cell[j] + sigmoid(z(0)) * z(2).tanh();
                    sigmoid(z(3)) * cell[j].tanh()
                }
                CellKind::Gru => {
                    let r = sigmoid(a(0) + b(0) + c(0));
                    let u = sigmoid(a(1) + b(1) + c(1));
                    let n = (a(2) + c(2) + r * (b(2) + c(3))).tanh();
                    (1.0 - u) * n + u * old[j]
                }
            };
        }
        out.push(state.clone());
    }
    out
}

fn reference(shape: &RecurrentShape, weights: &[f64], x: &[f64], steps: usize, output: Output) -> Vec<f64> {
    let mut out = Vec::new();
    for sequence in x.chunks(steps * shape.inputs) {
        let mut rows: Vec<Vec<f64>> = sequence.chunks(shape.inputs).map(<[f64]>::to_vec).collect();
        for l in 0..shape.layers {
            rows = layer(shape, l, weights, &rows);
        }
        let from = if output == Output::Last { steps - 1 } else { 0 };
        out.extend(rows[from..].iter().flatten());
    }
    out
}

struct Case {
    shape: RecurrentShape,
    batch: usize,
    steps: usize,
    output: Output,
    weights: Vec<f32>,
    x: Vec<f32>,
    upper: Vec<f32>,
}

impl Case {
    fn new(shape: RecurrentShape, batch: usize, steps: usize, output: Output) -> Self {
        let rows = if output == Output::Last { batch } else { batch * steps };
        Self {
            shape,
            batch,
            steps,
            output,
            weights: draw(shape.weights(), 0.3, 0.4),
            x: draw(batch * steps * shape.inputs, 0.7, 1.5),
            upper: draw(rows * shape.hidden, 0.9, 1.0),
        }
    }

    /// States, gradient of the weights, gradient of the inputs.
    fn run(&self, path: KernelPath) -> [Vec<f32>; 3] {
        let recurrent = Recurrent::with_path(self.shape, path);
        let mut out = [vec![0.0; self.upper.len()], vec![0.0; self.weights.len()], vec![0.0; self.x.len()]];
        // Twice: buffers that were used before must not matter.
        for _ in 0..2 {
            let [states, gradient, inputs] = &mut out;
            let kept = recurrent.forward(&self.weights, &self.x, self.steps, self.output, states);
            recurrent.backward(kept, self.output, &self.upper, gradient, Some(inputs));
        }
        out
    }
}

fn cases() -> Vec<Case> {
    let mut out = Vec::new();
    for cell in [CellKind::Lstm, CellKind::Gru] {
        for (inputs, hidden, layers, batch, steps, output) in [
            (3, 5, 1, 2, 4, Output::Last),
            (1, 8, 2, 3, 3, Output::Each),
            (20, 12, 2, 1, 3, Output::Last),
            (2, 17, 3, 5, 2, Output::Last),
            (9, 24, 1, 7, 1, Output::Each),
        ] {
            let shape = RecurrentShape { cell, inputs, hidden, layers, bias: inputs != 9 };
            out.push(Case::new(shape, batch, steps, output));
        }
    }
    out
}

fn near(a: &[f32], b: &[f32], by: f32) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= by * (1.0 + b.abs()), "{i}: {a} {b}");
    }
}

#[test]
fn equals_the_formulas_and_their_differences() {
    for case in cases() {
        let wide = |v: &[f32]| v.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
        let (weights, x) = (wide(&case.weights), wide(&case.x));
        let run = |w: &[f64], x: &[f64]| reference(&case.shape, w, x, case.steps, case.output);
        let loss =
            |w: &[f64], x: &[f64]| -> f64 { run(w, x).iter().zip(&case.upper).map(|(a, b)| a * f64::from(*b)).sum() };
        for path in [KernelPath::PORTABLE, KernelPath::detect()] {
            let [states, gradient, inputs] = case.run(path);
            let exact: Vec<f32> = run(&weights, &x).iter().map(|v| *v as f32).collect();
            near(&states, &exact, 3e-6);
            let slope = |at: &dyn Fn(f64) -> f64| ((at(1e-5) - at(-1e-5)) / 2e-5) as f32;
            for i in (0..weights.len()).step_by(1 + weights.len() / 300) {
                let moved = |d: f64| {
                    let mut w = weights.clone();
                    w[i] += d;
                    loss(&w, &x)
                };
                near(&[gradient[i]], &[slope(&moved)], 2e-5);
            }
            for i in (0..x.len()).step_by(1 + x.len() / 60) {
                let moved = |d: f64| {
                    let mut x = x.clone();
                    x[i] += d;
                    loss(&weights, &x)
                };
                near(&[inputs[i]], &[slope(&moved)], 2e-5);
            }
        }
    }
}

#[test]
fn paths_agree() {
    let mut all = cases();
    for cell in [CellKind::Lstm, CellKind::Gru] {
        all.push(Case::new(RecurrentShape { cell, inputs: 8, hidden: 32, layers: 2, bias: true }, 70, 9, Output::Last));
    }
    for case in all {
        let (a, b) = (case.run(KernelPath::PORTABLE), case.run(KernelPath::detect()));
        for (a, b) in a.iter().zip(&b) {
            near(a, b, 1e-5);
        }
    }
}

fn in_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

#[test]
fn same_bytes_on_any_number_of_threads() {
    for cell in [CellKind::Lstm, CellKind::Gru] {
        let shape = RecurrentShape { cell, inputs: 3, hidden: 16, layers: 2, bias: true };
        let case = Case::new(shape, 300, 6, Output::Last);
        let one = in_pool(1, || case.run(KernelPath::detect()));
        for threads in [2, 3] {
            assert!(one == in_pool(threads, || case.run(KernelPath::detect())), "{threads}");
        }
    }
}

#[test]
fn a_sequence_does_not_depend_on_its_batch() {
    for cell in [CellKind::Lstm, CellKind::Gru] {
        let shape = RecurrentShape { cell, inputs: 3, hidden: 20, layers: 2, bias: true };
        let whole = Case::new(shape, 45, 5, Output::Last);
        let [states, _, inputs] = whole.run(KernelPath::detect());
        for i in [0, 1, 30, 31, 32, 44] {
            let alone = Case {
                x: whole.x[i * 15..(i + 1) * 15].to_vec(),
                upper: whole.upper[i * 20..(i + 1) * 20].to_vec(),
                weights: whole.weights.clone(),
                batch: 1,
                ..whole
            };
            let [s, _, x] = alone.run(KernelPath::detect());
            assert!(s == states[i * 20..(i + 1) * 20] && x == inputs[i * 15..(i + 1) * 15], "{i}");
        }
    }
}

#[test]
fn a_whole_step_equals_its_parts() {
    let case = Case::new(
        RecurrentShape { cell: CellKind::Lstm, inputs: 4, hidden: 16, layers: 2, bias: true },
        75,
        5,
        Output::Last,
    );
    let [states, gradient, _] = case.run(KernelPath::detect());
    let recurrent = Recurrent::new(case.shape);
    let (mut out, mut head) = (vec![0.0; gradient.len()], vec![0.0; 1]);
    let loss = recurrent.step(&case.weights, &case.x, case.steps, &mut out, &mut head, |range, last, upper, head| {
        let part = range.start * 16..range.end * 16;
        assert!(last == &states[part.clone()]);
        upper.copy_from_slice(&case.upper[part]);
        head[0] += 1.0;
        range.len() as f64
    });
    assert!(out == gradient && head == [3.0] && loss == case.batch as f64);
}

#[test]
fn nan_and_large_numbers_stay_in_their_sequence() {
    let mut case = Case::new(
        RecurrentShape { cell: CellKind::Lstm, inputs: 2, hidden: 8, layers: 1, bias: true },
        4,
        3,
        Output::Last,
    );
    let clean = case.run(KernelPath::detect())[0].clone();
    case.x[..6].fill(f32::NAN);
    case.x[6..12].fill(1e30);
    for path in [KernelPath::detect(), KernelPath::PORTABLE] {
        let states = &case.run(path)[0];
        assert!(states[..8].iter().all(|v| v.is_nan()), "{states:?}");
        assert!(states[8..16].iter().all(|v| v.abs() <= 1.0), "{states:?}");
        near(&states[16..], &clean[16..], 1e-5);
    }
}

#[test]
fn steps_equal_the_whole_sequence_whatever_the_batch() {
    for cell in [CellKind::Lstm, CellKind::Gru] {
        let shape = RecurrentShape { cell, inputs: 3, hidden: 20, layers: 2, bias: true };
        let case = Case::new(shape, 8, 5, Output::Last);
        for path in [KernelPath::detect(), KernelPath::PORTABLE] {
            let [states, ..] = case.run(path);
            let stepper = RecurrentStep::with_path(shape, &case.weights, path);
            for rows in [1, 2, 4, 8] {
                let mut state = stepper.state(rows);
                let mut go = || {
                    for t in 0..case.steps {
                        let at = |r: usize| (r * case.steps + t) * 3;
                        let x: Vec<f32> = (0..rows).flat_map(|r| case.x[at(r)..at(r) + 3].to_vec()).collect();
                        stepper.step(&x, &mut state);
                    }
                    (0..rows).for_each(|r| assert!(state.top(r) == &states[r * 20..(r + 1) * 20], "{rows} {r}"));
                    (0..rows).for_each(|r| state.reset(r));
                };
                go();
                go();
            }
        }
    }
}

#[test]
fn dense_rows_equal_the_formula_whatever_the_batch() {
    let sizes = [7, 20, 3, 33];
    let weights: Vec<Vec<f32>> = sizes.windows(2).map(|p| draw(p[0] * p[1], p[0] as f32, 0.4)).collect();
    let bias: Vec<Vec<f32>> = sizes.windows(2).map(|p| draw(p[1], p[1] as f32, 0.2)).collect();
    let layers: Vec<DenseLayer<'_>> =
        (0..3).map(|l| DenseLayer { weights: &weights[l], bias: &bias[l], curved: l != 1 }).collect();
    let x = draw(14 * 7, 0.1, 1.0);
    let mut buffers = DenseBuffers::default();
    let mut results = Vec::new();
    for path in [KernelPath::PORTABLE, KernelPath::detect()] {
        let stack = DenseStack::with_path(7, &layers, path);
        let mut run = |x: &[f32]| {
            let mut out = Vec::new();
            stack.run(x, &mut buffers, |row, y, stride| {
                assert_eq!(row * 33, out.len());
                let rows = (x.len() / 7 - row).min(6);
                (0..rows).for_each(|r| out.extend_from_slice(&y[r * stride..][..33]));
            });
            out
        };
        let whole = run(&x);
        for r in 0..14 {
            assert!(run(&x[r * 7..(r + 1) * 7]) == whole[r * 33..(r + 1) * 33]);
            let mut now: Vec<f64> = x[r * 7..(r + 1) * 7].iter().map(|v| f64::from(*v)).collect();
            for l in 0..3 {
                let n = sizes[l + 1];
                now = (0..n)
                    .map(|j| {
                        let sum: f64 = now.iter().enumerate().map(|(i, v)| v * f64::from(weights[l][i * n + j])).sum();
                        let y = sum + f64::from(bias[l][j]);
                        if layers[l].curved { y.tanh() } else { y }
                    })
                    .collect();
            }
            let exact: Vec<f32> = now.iter().map(|v| *v as f32).collect();
            near(&whole[r * 33..(r + 1) * 33], &exact, 3e-6);
        }
        results.push(whole);
    }
    near(&results[0], &results[1], 1e-5);
}
