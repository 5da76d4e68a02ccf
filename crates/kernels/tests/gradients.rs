//! The gradients of every operation's reference, held against differences of its forward pass. Needs no GPU.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use brigade_kernels::ops::OPERATIONS;
use brigade_kernels::{Case, HostTensors, Pass, Random, Tensor};

/// Operations whose gradients have another form, and tests of their own.
const SPECIAL: [&str; 2] = ["softmax_cross_entropy", "sgd"];
/// Half the distance over which a difference is taken.
const STEP: f64 = 1e-6;
const PASSES: [Pass; 3] = [Pass::Forward, Pass::BackwardInput, Pass::BackwardWeight];

#[test]
fn gradients_are_those_of_the_forward_pass() {
    for entry in OPERATIONS.iter().filter(|entry| !SPECIAL.contains(&entry.name)) {
        let mut random = Random::new(1);
        for _ in 0..25 {
            let case = (entry.generate)(&mut random);
            check(&case, &mut random);
        }
    }
}

/// With loss = Σ y · dy, the gradient of the loss by y is dy.
fn check(case: &Case, random: &mut Random) {
    let before = tensors(case, random);
    let mut after = before.clone();
    for pass in PASSES {
        if !case.operation.tensors(pass).is_empty() {
            case.operation.reference(pass, case.problem, &mut after);
        }
    }
    for (tensor, gradient) in [(Tensor::X, Tensor::Dx), (Tensor::W, Tensor::Dw), (Tensor::B, Tensor::Db)] {
        if !after.has(gradient) {
            continue;
        }
        for _ in 0..10 {
            let element = random.integer(0, before.read(tensor).len() - 1);
            let mut found = after.read(gradient)[element];
            if gradient != Tensor::Dx {
                found -= before.read(gradient)[element];
            }
            let up = loss(case, &before, tensor, element, STEP);
            let down = loss(case, &before, tensor, element, -STEP);
            let wanted = (up - down) / (2.0 * STEP);
            let near = (found - wanted).abs() <= 1e-6 * (1.0 + wanted.abs());
            assert!(near, "{case:?}: {gradient}[{element}] is {found}, and the difference {wanted}");
        }
    }
}

fn loss(case: &Case, before: &HostTensors, tensor: Tensor, element: usize, step: f64) -> f64 {
    let mut host = before.clone();
    let mut values = host.take(tensor);
    values[element] += step;
    host.put(tensor, values);
    case.operation.reference(Pass::Forward, case.problem, &mut host);
    host.read(Tensor::Y).iter().zip(host.read(Tensor::Dy)).map(|(y, dy)| y * dy).sum()
}

/// Every tensor of every pass, random; what is overwritten is wrong before.
fn tensors(case: &Case, random: &mut Random) -> HostTensors {
    let mut host = HostTensors::new(case.scalars);
    for used in PASSES.into_iter().flat_map(|pass| case.operation.tensors(pass)) {
        if !host.has(used.tensor) {
            let elements = case.operation.elements(used.tensor, case.problem).unwrap();
            host.put(used.tensor, (0..elements).map(|_| random.between(-1.0, 1.0)).collect());
        }
    }
    host
}
