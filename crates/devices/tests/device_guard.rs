//! A gradient that is no number holds the update of the whole stage, on every executor.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use brigade_devices::{Executor, Words, run_case};
use brigade_kernels::ops::find;
use brigade_kernels::{Case, Scalars, Tensor};
use common::everyone;
use serde_json::json;

fn case(operation: &str, attributes: &serde_json::Value, names: &[&str], elements: usize) -> Case {
    let shapes = names.iter().map(|name| ((*name).to_owned(), vec![elements])).collect();
    (find(operation).unwrap().from_case)(attributes, &shapes).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// What every variant makes of the word `hold` where the gradients are ones but for `value` at `place`.
fn holds(executor: &mut dyn Executor, elements: usize, place: usize, value: f32) -> Vec<u32> {
    let case = case("non_finite", &json!({}), &["dw"], elements);
    let mut gradients = vec![1.0; elements];
    gradients[place] = value;
    let given: Words = BTreeMap::from([(Tensor::Dw, bits(&gradients)), (Tensor::Y, vec![0; Scalars::ELEMENTS])]);
    let outcomes = run_case(executor, &case, &given).unwrap();
    assert!(!outcomes.is_empty());
    outcomes
        .iter()
        .map(|outcome| {
            let words = &outcome.outputs[&Tensor::Y];
            assert!(words.iter().enumerate().all(|(place, &word)| place == Scalars::HOLD || word == 0), "{words:?}");
            words[Scalars::HOLD]
        })
        .collect()
}

#[test]
fn row_40_gradients_that_are_no_numbers_are_found_on_adapters() {
    for mut executor in everyone() {
        // Multiples of 4 run both variants; 5,000 elements need several workgroups.
        for (elements, place) in [(1, 0), (7, 6), (4096, 0), (5000, 4999), (20_000, 9_001)] {
            for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(0xffff_ffff)] {
                let found = holds(executor.as_mut(), elements, place, value);
                assert!(found.iter().all(|&hold| hold == 1), "{}: {value} at {place}", executor.info().name);
            }
            for value in [0.0, f32::MAX, f32::MIN, f32::from_bits(1)] {
                let found = holds(executor.as_mut(), elements, place, value);
                assert!(found.iter().all(|&hold| hold == 0), "{}: {value} at {place}", executor.info().name);
            }
        }
    }
}

#[test]
fn row_40_an_update_that_is_held_changes_nothing_on_adapters() {
    for mut executor in everyone() {
        for elements in [5, 4096] {
            let attributes = json!({"learning_rate": 0.5, "momentum": 0.9, "weight_decay": 0.1});
            let mut case = case("sgd", &attributes, &["w", "dw", "v"], elements);
            case.scalars.hold = true;
            let mut gradients = vec![2.0; elements];
            gradients[elements - 1] = f32::NAN;
            let given: Words = BTreeMap::from([
                (Tensor::W, bits(&vec![1.0; elements])),
                (Tensor::Dw, bits(&gradients)),
                (Tensor::V, bits(&vec![3.0; elements])),
            ]);
            let outcomes = run_case(executor.as_mut(), &case, &given).unwrap();
            assert!(outcomes.iter().all(|outcome| outcome.outputs == given), "{}", executor.info().name);
        }
    }
}
