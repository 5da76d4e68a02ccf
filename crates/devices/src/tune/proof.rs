//! What a pass must give on random data: made once for a task, held against every candidate.
//!
//! A pass runs in the layer's own size. The reference is plain loops, so of a large product it computes a few
//! samples only, spread from the first to the last: products treat each sample by itself, and a gradient of weights
//! sums over the samples of which the gradient `dy` is not zero. All other operations are run with fewer samples
//! instead, and so is everything on the host's cores that would take long there.

use std::ops::Range;

use brigade_kernels::{
    Access, Case, Deviation, ElementType, Limits, Operation, Pass, Problem, Random, Scalars, Tensor, Use,
};

use super::Task;
use crate::convert::{from_words, to_words};
use crate::trial::{Words, elements, poisoned};
use crate::verify::{precision_of, reference};
use crate::{DeviceError, Executor};

/// Floating-point operations, or bytes, that the reference may take for a task: some tenths of a second.
const REFERENCE_WORK: u64 = 60_000_000;

/// Floating-point operations of one run on the host's cores: some tenths of a second with a poor variant.
const HOST_WORK: u64 = 1_000_000_000;

/// Tensors of products: each sample of `x`, `y`, `dx` and `dy` stands for itself, and the others have no samples.
const OF_PRODUCTS: [Tensor; 8] =
    [Tensor::X, Tensor::W, Tensor::B, Tensor::Y, Tensor::Dx, Tensor::Dw, Tensor::Db, Tensor::Dy];
const BY_SAMPLE: [Tensor; 4] = [Tensor::X, Tensor::Y, Tensor::Dx, Tensor::Dy];

/// Data for one pass, and what it must give.
pub(super) struct Proof {
    /// The pass as it is run.
    pub(super) task: Task,
    /// What each tensor's buffer holds before the pass, poison around it.
    pub(super) before: Vec<(Use, Vec<u32>)>,
    /// What the reference gives: of tensors by sample those of `samples`.
    wanted: Vec<(Tensor, Vec<f64>)>,
    samples: Vec<usize>,
}

impl Proof {
    pub(super) fn new(executor: &dyn Executor, task: &Task) -> Result<Self, DeviceError> {
        let (n, checked) = sizes(task, &executor.info().limits);
        let problem = Problem { n, ..task.problem };
        let samples = spread(checked, n);
        let uses = task.operation.tensors(task.pass);
        let case = |problem| Case {
            operation: task.operation.clone(),
            problem,
            scalars: Scalars { learning_rate: 0.01, ..Scalars::new() },
        };
        let mut given = inputs(executor, &case(problem), task.pass)?;
        let few = checked < n;
        if let Some(dy) = given.get_mut(&Tensor::Dy).filter(|_| few && task.pass == Pass::BackwardWeight) {
            keep(dy, n, &samples);
        }
        let seen = if few { gathered(&given, n, &samples) } else { given.clone() };
        let fewer = case(Problem { n: checked, ..problem });
        let wanted = reference(executor, &fewer, task.pass, &uses, &seen)?;
        let before = uses
            .iter()
            .map(|&used| {
                let elements = elements(executor, &case(problem), used.tensor)?;
                let scalars = case(problem).scalars.to_bytes();
                let content: &[u32] = match used.tensor {
                    Tensor::Scalars => bytemuck::cast_slice(&scalars),
                    tensor if used.access.reads() => given.get(&tensor).map_or(&[], Vec::as_slice),
                    _ => &[],
                };
                Ok((used, poisoned(elements, content)))
            })
            .collect::<Result<_, DeviceError>>()?;
        Ok(Self { task: Task { problem, ..task.clone() }, before, wanted, samples })
    }

    /// Samples that are run, and those of them that are compared.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.task.problem.n, self.samples.len())
    }

    /// The worst of the outputs, in proportion to what is allowed.
    pub(super) fn compare(&self, variant: &str, got: &Words) -> Option<(Tensor, Deviation)> {
        let Task { operation, problem, .. } = &self.task;
        let precision = precision_of(operation.as_ref(), self.task.pass, variant);
        let compared = self.wanted.iter().map(|(tensor, wanted)| {
            let words = got.get(tensor).map(Vec::as_slice).unwrap_or_default();
            let values = from_words(words, operation.element_type(*tensor));
            let whole = values.len() == wanted.len();
            let seen = if whole { values.clone() } else { rows(&values, problem.n, &self.samples) };
            let additions = operation.additions(*tensor, *problem);
            let mut deviation = Deviation::between(&seen, wanted, additions).with(precision);
            // What is not compared must be there all the same.
            if values.iter().any(|value| !value.is_finite()) && wanted.iter().all(|value| value.is_finite()) {
                deviation.error = f64::NAN;
            }
            (*tensor, deviation)
        });
        let excess = |deviation: &Deviation| {
            if deviation.error.is_nan() { f64::INFINITY } else { deviation.error / deviation.tolerance }
        };
        compared.max_by(|(_, a), (_, b)| excess(a).total_cmp(&excess(b)))
    }
}

/// Samples to run and samples to compute with the reference.
fn sizes(task: &Task, limits: &Limits) -> (usize, usize) {
    let n = task.problem.n;
    let work = task.operation.work(task.pass, task.problem).unwrap_or_default();
    let within = |total: u64, allowed: u64| {
        let each = total.div_ceil(n as u64).max(1);
        usize::try_from(allowed / each).unwrap_or(usize::MAX).clamp(1, n)
    };
    let run = if limits.software { within(work.flops, HOST_WORK) } else { n };
    let checked = within(work.flops.max(work.bytes), REFERENCE_WORK).min(run);
    if is_product(task.operation.as_ref(), task.pass) { (run, checked) } else { (checked, checked) }
}

/// Whether the pass is taken for a product: it has weights, or their gradient, and touches nothing else than products
/// do.
fn is_product(operation: &dyn Operation, pass: Pass) -> bool {
    let uses = operation.tensors(pass);
    let touches = |tensors: &[Tensor]| uses.iter().any(|used| tensors.contains(&used.tensor));
    // An update has weights and no samples.
    pass != Pass::Update
        && touches(&[Tensor::W, Tensor::Dw])
        && uses.iter().all(|used| OF_PRODUCTS.contains(&used.tensor))
}

/// `count` of `n` samples, the first and the last among them.
fn spread(count: usize, n: usize) -> Vec<usize> {
    (0..count).map(|i| if count == 1 { n - 1 } else { i * (n - 1) / (count - 1) }).collect()
}

fn row(length: usize, n: usize, sample: usize) -> Range<usize> {
    let each = length / n;
    sample * each..(sample + 1) * each
}

fn rows<T: Copy>(values: &[T], n: usize, samples: &[usize]) -> Vec<T> {
    samples.iter().flat_map(|&sample| &values[row(values.len(), n, sample)]).copied().collect()
}

/// Sets everything but `samples` to zero.
fn keep(words: &mut [u32], n: usize, samples: &[usize]) {
    let length = words.len();
    for sample in (0..n).filter(|sample| !samples.contains(sample)) {
        words[row(length, n, sample)].fill(0);
    }
}

fn gathered(given: &Words, n: usize, samples: &[usize]) -> Words {
    let some = |(&tensor, words): (&Tensor, &Vec<u32>)| {
        (tensor, if BY_SAMPLE.contains(&tensor) { rows(words, n, samples) } else { words.clone() })
    };
    given.iter().map(some).collect()
}

/// Random values for what the pass reads. Of a product they are all drawn; for other operations, what an earlier pass
/// writes is computed: indices of maxima, for one, cannot be drawn.
fn inputs(executor: &dyn Executor, case: &Case, pass: Pass) -> Result<Words, DeviceError> {
    let mut random = Random::new(0x7E57);
    let mut known = Words::new();
    let operation: &dyn Operation = case.operation.as_ref();
    let reads = |pass: Pass| -> Vec<Tensor> {
        operation.tensors(pass).iter().filter(|used| used.access.reads()).map(|used| used.tensor).collect()
    };
    for earlier in Pass::ALL.into_iter().filter(|&earlier| earlier < pass && !is_product(operation, pass)) {
        let uses = operation.tensors(earlier);
        if !uses.iter().any(|used| used.access == Access::Write && reads(pass).contains(&used.tensor)) {
            continue;
        }
        draw(executor, case, &reads(earlier), &mut known, &mut random)?;
        for (tensor, values) in reference(executor, case, earlier, &uses, &known)? {
            let mut words = vec![0; values.len()];
            to_words(&values, operation.element_type(tensor), &mut words);
            known.insert(tensor, words);
        }
    }
    draw(executor, case, &reads(pass), &mut known, &mut random)?;
    Ok(known)
}

/// Uniform in ±1, or classes: cheaper than what the self-test draws, for there is much of it.
fn draw(
    executor: &dyn Executor,
    case: &Case,
    tensors: &[Tensor],
    known: &mut Words,
    random: &mut Random,
) -> Result<(), DeviceError> {
    for &tensor in tensors {
        if tensor == Tensor::Scalars || known.contains_key(&tensor) {
            continue;
        }
        let classes = case.problem.input.c.max(1);
        let mut word = || match case.operation.element_type(tensor) {
            ElementType::U32 => random.integer(0, classes - 1) as u32,
            ElementType::F32 => (random.between(-1.0, 1.0) as f32).to_bits(),
        };
        let words = (0..elements(executor, case, tensor)?).map(|_| word()).collect();
        known.insert(tensor, words);
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use brigade_kernels::{Shape, ops};

    use super::*;
    use crate::ReferenceExecutor;
    use crate::trial::inner;

    #[test]
    fn the_first_and_the_last_sample_are_among_those_compared() {
        assert_eq!(spread(1, 1), [0]);
        assert_eq!(spread(1, 9), [8]);
        assert_eq!(spread(3, 9), [0, 4, 8]);
        assert_eq!(spread(4, 4), [0, 1, 2, 3]);
    }

    #[test]
    fn rows_are_whole_samples() {
        let mut words = vec![1, 2, 3, 4, 5, 6];
        assert_eq!(rows(&words, 3, &[0, 2]), [1, 2, 5, 6]);
        keep(&mut words, 3, &[0, 2]);
        assert_eq!(words, [1, 2, 0, 0, 5, 6]);
    }

    /// A layer's pass over `n` samples, big enough that the reference leaves some out.
    fn product(pass: Pass, n: usize) -> Task {
        let attributes = serde_json::json!({"out_channels": 32, "kernel": 5, "padding": 2});
        let operation = (ops::find("conv2d").unwrap().from_attributes)(&attributes).unwrap().into();
        Task { operation, pass, problem: Problem { n, input: Shape::new(32, 40, 40) } }
    }

    #[test]
    fn what_the_reference_gives_in_full_passes_where_few_samples_are_compared() {
        let executor = ReferenceExecutor::new();
        for pass in [Pass::Forward, Pass::BackwardInput, Pass::BackwardWeight] {
            let proof = Proof::new(&executor, &product(pass, 3)).unwrap();
            let (ran, compared) = proof.sizes();
            assert!(compared < ran && ran == 3, "{pass}: {compared} of {ran}");
            let Task { operation, pass, problem } = &proof.task;
            let case = Case { operation: operation.clone(), problem: *problem, scalars: Scalars::new() };
            let given: Words = proof
                .before
                .iter()
                .map(|(used, words)| {
                    let elements = operation.elements(used.tensor, *problem).unwrap();
                    (used.tensor, inner(words.clone(), elements))
                })
                .collect();
            let uses = operation.tensors(*pass);
            let mut got = Words::new();
            for (tensor, values) in reference(&executor, &case, *pass, &uses, &given).unwrap() {
                let mut words = vec![0; values.len()];
                to_words(&values, ElementType::F32, &mut words);
                got.insert(tensor, words);
            }
            let (tensor, deviation) = proof.compare("reference", &got).unwrap();
            assert!(deviation.holds(), "{pass}: {tensor} {deviation:?}");
            // A sample that was never written is noticed, compared or not.
            if *pass != Pass::BackwardWeight {
                for words in got.values_mut() {
                    let middle = words.len() / 2;
                    words[middle] = f32::NAN.to_bits();
                }
                assert!(!proof.compare("reference", &got).unwrap().1.holds());
            }
        }
    }
}
