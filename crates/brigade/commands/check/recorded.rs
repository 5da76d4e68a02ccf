//! Cases recorded with another framework, in safetensors files.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use brigade::{Failure, Status};
use brigade_devices::{DeviceError, Executor, Outcome, Words, run_case};
use brigade_kernels::{Case, CaseShapes, Deviation, ElementType, Tensor, ops};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// The roles of the tensors that a case gives.
const GIVEN: [(&str, Tensor); 8] = [
    ("x", Tensor::X),
    ("w", Tensor::W),
    ("b", Tensor::B),
    ("dy", Tensor::Dy),
    ("labels", Tensor::Labels),
    ("dw", Tensor::Dw),
    ("db", Tensor::Db),
    ("v", Tensor::V),
];

/// The roles of the tensors that a case expects. The loss is the mean of those in `metrics`.
const EXPECTED: [(&str, Tensor); 7] = [
    ("y", Tensor::Y),
    ("dx", Tensor::Dx),
    ("dw", Tensor::Dw),
    ("db", Tensor::Db),
    ("loss", Tensor::Metrics),
    ("w_new", Tensor::W),
    ("v_new", Tensor::V),
];

/// One file. One that cannot be read is a case that fails, and the others go on.
pub(super) struct Recorded {
    pub(super) name: String,
    content: Result<Content, String>,
}

struct Content {
    case: Case,
    given: Words,
    expected: BTreeMap<&'static str, Vec<f64>>,
}

/// Why a case gave no numbers.
#[derive(Debug)]
pub(super) enum Unrun {
    /// The file is not what it should be.
    File(String),
    /// The device refused.
    Device(DeviceError),
}

impl fmt::Display for Unrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(reason) => f.write_str(reason),
            Self::Device(error) => error.fmt(f),
        }
    }
}

/// One expected tensor beside what a variant gave.
pub(super) struct Comparison {
    pub(super) variant: String,
    pub(super) tensor: &'static str,
    pub(super) deviation: Deviation,
}

/// Reads every case of a folder, in the order of their names.
pub(super) fn read_folder(folder: &Path) -> Result<Vec<Recorded>, Failure> {
    let failed = |error: std::io::Error| Failure::new(Status::Data, format!("cases {}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(failed)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(Failure::new(Status::Data, format!("{} has no *.safetensors files", folder.display())));
    }
    Ok(files.iter().map(|path| read(path)).collect())
}

fn read(path: &Path) -> Recorded {
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let content = std::fs::read(path).map_err(|error| error.to_string()).and_then(|bytes| parse(&bytes));
    Recorded { name, content }
}

fn parse(bytes: &[u8]) -> Result<Content, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let word = |key: &str| metadata.get(key).ok_or_else(|| format!("its metadata has no `{key}`"));
    let operation = word("op")?;
    let attributes: Value =
        serde_json::from_str(word("attributes")?).map_err(|error| format!("attributes: {error}"))?;
    let entry = ops::find(operation).ok_or_else(|| format!("there is no operation `{operation}`"))?;
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let tensors: BTreeMap<String, TensorView<'_>> = file.tensors().into_iter().collect();
    let shapes: CaseShapes = tensors.iter().map(|(name, view)| (name.clone(), view.shape().to_vec())).collect();
    let case = (entry.from_case)(&attributes, &shapes).map_err(|error| error.to_string())?;

    // Of sgd the gradient is given; of all others it is expected.
    let is_update = tensors.contains_key("w_new");
    let is_given = |tensor: Tensor| is_update || !matches!(tensor, Tensor::Dw | Tensor::Db);
    let mut given = Words::new();
    for (name, tensor) in GIVEN.into_iter().filter(|&(_, tensor)| is_given(tensor)) {
        if let Some(view) = tensors.get(name) {
            given.insert(tensor, words(name, view, case.operation.element_type(tensor))?);
        }
    }
    let mut expected = BTreeMap::new();
    for (name, tensor) in EXPECTED {
        if let Some(view) = tensors.get(name).filter(|_| !(is_update && matches!(tensor, Tensor::Dw | Tensor::Db))) {
            expected.insert(name, numbers(name, view)?);
        }
    }
    Ok(Content { case, given, expected })
}

/// The elements of a tensor as numbers.
fn numbers(name: &str, view: &TensorView<'_>) -> Result<Vec<f64>, String> {
    let data = view.data();
    Ok(match view.dtype() {
        Dtype::F32 => data.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect(),
        Dtype::I32 => data.chunks_exact(4).map(|b| f64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect(),
        Dtype::F64 => data.chunks_exact(8).filter_map(|b| Some(f64::from_le_bytes(b.try_into().ok()?))).collect(),
        Dtype::I64 => {
            data.chunks_exact(8).filter_map(|b| Some(i64::from_le_bytes(b.try_into().ok()?) as f64)).collect()
        }
        other => return Err(format!("tensor `{name}` is {other:?}; F32, F64, I32 and I64 are known")),
    })
}

/// The elements of a tensor as they lie in a device's buffer.
fn words(name: &str, view: &TensorView<'_>, of: ElementType) -> Result<Vec<u32>, String> {
    let numbers = numbers(name, view)?;
    Ok(match of {
        ElementType::F32 => numbers.into_iter().map(|value| (value as f32).to_bits()).collect(),
        ElementType::U32 => numbers.into_iter().map(|value| value as u32).collect(),
    })
}

impl Recorded {
    /// Runs every pass with every variant and compares what the case expects.
    pub(super) fn run(&self, executor: &mut dyn Executor) -> Result<Vec<Comparison>, Unrun> {
        let content = self.content.as_ref().map_err(|reason| Unrun::File(reason.clone()))?;
        content.run(executor).map_err(Unrun::Device)
    }
}

impl Content {
    fn run(&self, executor: &mut dyn Executor) -> Result<Vec<Comparison>, DeviceError> {
        let outcomes = run_case(executor, &self.case, &self.given)?;
        let mut missing: Vec<&str> = self.expected.keys().copied().collect();
        let mut comparisons = Vec::new();
        for outcome in &outcomes {
            for (name, tensor) in EXPECTED {
                if let (Some(wanted), Some(got)) = (self.expected.get(name), outcome.outputs.get(&tensor)) {
                    missing.retain(|missing| *missing != name);
                    comparisons.push(self.compare(outcome, name, tensor, got, wanted));
                }
            }
        }
        // What no pass gave is as wrong as a wrong number.
        comparisons.extend(missing.into_iter().map(|tensor| Comparison {
            variant: "none".into(),
            tensor,
            deviation: Deviation { error: f64::NAN, tolerance: 0.0 },
        }));
        Ok(comparisons)
    }

    fn compare(
        &self,
        outcome: &Outcome,
        name: &'static str,
        tensor: Tensor,
        got: &[u32],
        wanted: &[f64],
    ) -> Comparison {
        let values: Vec<f64> = got.iter().map(|&word| f64::from(f32::from_bits(word))).collect();
        let values = if tensor == Tensor::Metrics { vec![mean(&values[..self.case.problem.n])] } else { values };
        let additions = match tensor {
            Tensor::Metrics => self.case.problem.n + self.case.operation.additions(tensor, self.case.problem),
            _ => self.case.operation.additions(tensor, self.case.problem),
        };
        let deviation = Deviation::between(&values, wanted, additions);
        Comparison { variant: format!("{}/{}", outcome.pass, outcome.variant), tensor: name, deviation }
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
