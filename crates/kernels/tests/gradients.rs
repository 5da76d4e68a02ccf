//! The gradients of every operation's reference, held against differences of its forward pass. Needs no GPU.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use brigade_kernels::ops::OPERATIONS;
use brigade_kernels::{Case, Fusion, HostTensors, Pass, Random, Tensor};

/// Operations whose gradients have another form, and tests of their own.
const SPECIAL: [&str; 2] = ["softmax_cross_entropy", "sgd"];
/// Half the distance over which a difference is taken.
const STEP: f64 = 1e-6;
const PASSES: [Pass; 3] = [Pass::Forward, Pass::BackwardInput, Pass::BackwardWeight];

#[test]
fn gradients_are_those_of_the_forward_pass() {
    for entry in OPERATIONS.iter().filter(|entry| !SPECIAL.contains(&entry.name)) {
        let mut random = Random::new(1);
        let mut fused = Fusion::NONE;
        for _ in 0..25 {
            let case = (entry.generate)(&mut random);
            check(&case, &mut random);
            let Fusion { rectifies, masks } = case.operation.fusion();
            fused = Fusion { rectifies: fused.rectifies || rectifies, masks: fused.masks || masks };
        }
        let plain = (entry.generate)(&mut random).operation;
        for fusion in [Fusion::RECTIFIES, Fusion::MASKS].into_iter().filter(|&fusion| plain.fused(fusion).is_some()) {
            assert!(fused.rectifies >= fusion.rectifies && fused.masks >= fusion.masks, "{}: {fused:?}", entry.name);
        }
    }
}

/// With loss = Σ y · dy, the gradient of the loss by y is dy. Where a rectifier is fused behind, y is what it leaves, and
/// its own backward has masked dy before the operation's begins; where one is fused before, x is what it leaves, and the
/// gradient is that of its input.
fn check(case: &Case, random: &mut Random) {
    let before = tensors(case, random);
    let mut after = before.clone();
    rectify_input(case, &mut after);
    for pass in PASSES {
        if !case.operation.tensors(pass).is_empty() {
            case.operation.reference(pass, case.problem, &mut after);
        }
        if pass == Pass::Forward && case.operation.fusion().rectifies {
            let masked = after.read(Tensor::Y).iter().zip(after.read(Tensor::Dy));
            let masked = masked.map(|(y, dy)| if *y > 0.0 { *dy } else { 0.0 }).collect();
            after.put(Tensor::Dy, masked);
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
    rectify_input(case, &mut host);
    case.operation.reference(Pass::Forward, case.problem, &mut host);
    host.read(Tensor::Y).iter().zip(host.read(Tensor::Dy)).map(|(y, dy)| y * dy).sum()
}

/// Takes x for the input of the rectifier that is fused before the operation, and puts its output there.
fn rectify_input(case: &Case, host: &mut HostTensors) {
    if case.operation.fusion().masks {
        let x = host.read(Tensor::X).iter().map(|x| x.max(0.0)).collect();
        host.put(Tensor::X, x);
    }
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
