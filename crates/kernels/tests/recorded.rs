//! The reference arithmetic against cases recorded with PyTorch, where the folder with them is at hand.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use brigade_kernels::{Case, Deviation, HostTensors, Pass, Tensor, ops};
use safetensors::{Dtype, SafeTensors};

/// What one file holds: tensors by name.
type Recorded = BTreeMap<String, Vec<f64>>;

#[test]
fn the_reference_agrees_with_pytorch() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("skipped: no recorded cases in {}", folder.display());
        return;
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    files.sort();
    let failures: Vec<String> = files.iter().flat_map(|path| check(path)).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What deviates in one file.
fn check(path: &Path) -> Vec<String> {
    let bytes = std::fs::read(path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().as_ref().unwrap();
    let file = path.file_name().unwrap().to_string_lossy();
    let Some(entry) = ops::find(&metadata["op"]) else { return vec![format!("{file}: unknown operation")] };
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let shapes = tensors.iter().map(|(name, view)| (name.to_owned(), view.shape().to_vec())).collect();
    let recorded: Recorded =
        tensors.iter().map(|(name, view)| (name.to_owned(), numbers(view.dtype(), view.data()))).collect();
    let attributes = serde_json::from_str(&metadata["attributes"]).unwrap();
    let case = match (entry.from_case)(&attributes, &shapes) {
        Ok(case) => case,
        Err(error) => return vec![format!("{file}: {error}")],
    };
    let host = computed(&case, &recorded);
    expected(&case, &recorded)
        .into_iter()
        .filter_map(|(tensor, wanted)| {
            let all = host.read(tensor);
            // Of the metrics, the mean of the losses is recorded.
            let mean = || vec![all[..case.problem.n].iter().sum::<f64>() / case.problem.n as f64];
            let got = if tensor == Tensor::Metrics { mean() } else { all.to_vec() };
            let deviation = Deviation::between(&got, wanted, 1);
            (!deviation.holds()).then(|| format!("{file}: {tensor} deviates by {:.1e}", deviation.error))
        })
        .collect()
}

fn numbers(dtype: Dtype, bytes: &[u8]) -> Vec<f64> {
    let words = bytes.chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]]);
    match dtype {
        Dtype::F32 => words.map(|word| f64::from(f32::from_le_bytes(word))).collect(),
        Dtype::I32 => words.map(|word| f64::from(i32::from_le_bytes(word))).collect(),
        other => panic!("{other:?} is not known"),
    }
}

/// All passes, one after another, from what is given.
fn computed(case: &Case, recorded: &Recorded) -> HostTensors {
    let given = [("x", Tensor::X), ("w", Tensor::W), ("b", Tensor::B), ("dy", Tensor::Dy), ("labels", Tensor::Labels)];
    let of_update = [("v", Tensor::V), ("dw", Tensor::Dw)];
    let updates = !case.operation.tensors(Pass::Update).is_empty();
    let mut host = HostTensors::new(case.scalars);
    for (name, tensor) in given.into_iter().chain(of_update.into_iter().filter(|_| updates)) {
        if let Some(values) = recorded.get(name) {
            host.put(tensor, values.clone());
        }
    }
    for pass in Pass::ALL {
        for used in case.operation.tensors(pass) {
            if !host.has(used.tensor) {
                host.put(used.tensor, vec![0.0; case.operation.elements(used.tensor, case.problem).unwrap()]);
            }
        }
        case.operation.reference(pass, case.problem, &mut host);
    }
    host
}

/// What is recorded of the results.
fn expected<'a>(case: &Case, recorded: &'a Recorded) -> Vec<(Tensor, &'a [f64])> {
    let of_layers =
        [("y", Tensor::Y), ("dx", Tensor::Dx), ("dw", Tensor::Dw), ("db", Tensor::Db), ("loss", Tensor::Metrics)];
    let of_updates = [("w_new", Tensor::W), ("v_new", Tensor::V)];
    let updates = !case.operation.tensors(Pass::Update).is_empty();
    let names: &[_] = if updates { &of_updates } else { &of_layers };
    names.iter().filter_map(|(name, tensor)| Some((*tensor, recorded.get(*name)?.as_slice()))).collect()
}
