//! Convolutions and linear layers by hand: values, shapes, attributes, recorded cases. Needs no GPU.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use brigade_kernels::ops::find;
use brigade_kernels::{CaseShapes, HostTensors, Operation, Pass, Problem, Scalars, Shape, ShapeError, Tensor};
use serde_json::{Value, json};

fn layer(name: &str, attributes: &Value) -> Box<dyn Operation> {
    (find(name).unwrap().from_attributes)(attributes).unwrap()
}

fn refused(name: &str, attributes: &Value) -> String {
    (find(name).unwrap().from_attributes)(attributes).unwrap_err().to_string()
}

fn run(operation: &dyn Operation, pass: Pass, problem: Problem, given: &[(Tensor, &[f64])]) -> HostTensors {
    let mut host = HostTensors::new(Scalars::new());
    for used in operation.tensors(pass) {
        let elements = operation.elements(used.tensor, problem).unwrap();
        host.put(used.tensor, vec![0.0; elements]);
    }
    for (tensor, values) in given {
        host.put(*tensor, values.to_vec());
    }
    operation.reference(pass, problem, &mut host);
    host
}

/// A picture of 3×3, a filter of 2×2, stride 2, padding 1: each output sees just one corner of the filter or two.
///
/// ```text
/// 0 0 0 0 0      w = 10 20    y = 40·1          30·2 + 40·3     + 0.5
/// 0 1 2 3 0          30 40        20·4 + 40·7   10·5 + 20·6 + 30·8 + 40·9
/// 0 4 5 6 0
/// 0 7 8 9 0
/// ```
#[test]
fn a_convolution_by_hand() {
    let conv = layer("conv2d", &json!({"out_channels": 1, "kernel": 2, "stride": 2, "padding": 1}));
    let problem = Problem { n: 1, input: Shape::new(1, 3, 3) };
    assert_eq!(conv.output(problem.input).unwrap(), Shape::new(1, 2, 2));
    let x: &[f64] = &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
    let w: &[f64] = &[10.0, 20.0, 30.0, 40.0];

    let host = run(conv.as_ref(), Pass::Forward, problem, &[(Tensor::X, x), (Tensor::W, w), (Tensor::B, &[0.5])]);
    assert_eq!(host.read(Tensor::Y), [40.5, 180.5, 360.5, 770.5]);

    let dy: &[f64] = &[1.0, 2.0, 3.0, 4.0];
    let host = run(conv.as_ref(), Pass::BackwardInput, problem, &[(Tensor::W, w), (Tensor::Dy, dy)]);
    assert_eq!(host.read(Tensor::Dx), [40.0, 60.0, 80.0, 60.0, 40.0, 80.0, 120.0, 120.0, 160.0]);

    let before: &[f64] = &[100.0; 4];
    let given = [(Tensor::X, x), (Tensor::Dy, dy), (Tensor::Dw, before), (Tensor::Db, &[1.0])];
    let host = run(conv.as_ref(), Pass::BackwardWeight, problem, &given);
    assert_eq!(host.read(Tensor::Dw), [120.0, 136.0, 136.0, 164.0], "added to what was there");
    assert_eq!(host.read(Tensor::Db), [11.0]);
}

#[test]
fn a_linear_layer_by_hand() {
    let linear = layer("linear", &json!({"out_features": 2}));
    let problem = Problem { n: 1, input: Shape::new(3, 1, 1) };
    let (x, w): (&[f64], &[f64]) = (&[1.0, 2.0, 3.0], &[1.0, 0.0, 2.0, 0.0, 1.0, 3.0]);
    let given = [(Tensor::X, x), (Tensor::W, w), (Tensor::B, [10.0, 20.0].as_slice())];
    let host = run(linear.as_ref(), Pass::Forward, problem, &given);
    assert_eq!(host.read(Tensor::Y), [17.0, 31.0]);
    let host = run(linear.as_ref(), Pass::BackwardInput, problem, &[(Tensor::W, w), (Tensor::Dy, &[1.0, 2.0])]);
    assert_eq!(host.read(Tensor::Dx), [1.0, 2.0, 8.0]);
}

#[test]
fn shapes_follow_pytorch() {
    let output = |attributes: Value, input| layer("conv2d", &attributes).output(input);
    let vgg = json!({"out_channels": 64, "kernel": 11, "stride": 4});
    assert_eq!(output(vgg, Shape::new(3, 224, 224)), Ok(Shape::new(64, 54, 54)));
    let pairs = json!({"out_channels": 1, "kernel": [5, 2], "stride": [2, 1], "padding": [2, 1], "dilation": [3, 2]});
    assert_eq!(output(pairs, Shape::new(1, 25, 22)), Ok(Shape::new(1, 9, 22)));
    assert_eq!(layer("linear", &json!({"out_features": 5})).output(Shape::new(2, 3, 4)), Ok(Shape::vector(5)));
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let output = |attributes: Value, input| layer("conv2d", &attributes).output(input);
    let error = output(json!({"out_channels": 1, "kernel": [1, 3], "dilation": 4}), Shape::new(1, 9, 6)).unwrap_err();
    let wanted = ShapeError::Window { operation: "conv2d", axis: "width", window: 9, input: 6, padding: 0 };
    assert_eq!(error, wanted);
    let most = Shape::MAX_ELEMENTS;
    for attributes in [
        json!({"out_channels": most, "kernel": 1}),
        json!({"out_channels": 1, "kernel": 1, "padding": most}),
        json!({"out_channels": 1, "kernel": most, "dilation": most, "padding": most}),
    ] {
        assert!(
            matches!(output(attributes.clone(), Shape::new(1, 9, 9)), Err(ShapeError::TooLarge { .. })),
            "{attributes}"
        );
    }
    let conv = layer("conv2d", &json!({"out_channels": 1, "kernel": 1}));
    assert!(matches!(conv.output(Shape::new(0, 9, 9)), Err(ShapeError::Empty { .. })));
    let work = conv.work(Pass::Forward, Problem { n: 0, input: Shape::new(1, 9, 9) });
    assert!(matches!(work, Err(ShapeError::Empty { .. })));
    let linear = layer("linear", &json!({"out_features": most}));
    assert!(matches!(linear.parameters(Shape::vector(2)), Err(ShapeError::TooLarge { .. })));
}

#[test]
fn attributes_that_make_no_sense_are_errors() {
    let stride = refused("conv2d", &json!({"out_channels": 1, "kernel": 3, "stride": [1, 0]}));
    assert_eq!(stride, "conv2d: `stride` is 0; wanted a number from 1 to 1073741824");
    for attributes in [
        json!({"out_channels": 0, "kernel": 3}),
        json!({"out_channels": 1, "kernel": 0}),
        json!({"out_channels": 1, "kernel": 3, "dilation": 0}),
        json!({"out_channels": 1, "kernel": 3, "padding": -1}),
        json!({"out_channels": 1, "kernel": 3, "padding": 18_446_744_073_709_551_615_u64}),
        json!({"out_channels": 1, "kernel": [1, 2, 3]}),
        json!({"out_channels": 1}),
        json!({"kernel": 1}),
        json!({"out_channels": 1, "kernel": 3, "groups": 2}),
        json!(null),
    ] {
        assert!(refused("conv2d", &attributes).starts_with("conv2d: "), "{attributes}");
    }
    for attributes in [json!({}), json!({"out_features": 0}), json!({"out_features": 1, "in_features": 1})] {
        assert!(refused("linear", &attributes).starts_with("linear: "), "{attributes}");
    }
}

fn shapes(tensors: &[(&str, &[usize])]) -> CaseShapes {
    tensors.iter().map(|(name, sides)| ((*name).to_owned(), sides.to_vec())).collect::<BTreeMap<_, _>>()
}

#[test]
fn recorded_cases_take_what_is_missing_from_the_tensors() {
    let from_case =
        |name: &str, attributes: &Value, tensors| (find(name).unwrap().from_case)(attributes, &shapes(tensors));
    let conv =
        from_case("conv2d", &json!({"stride": [4, 2]}), &[("x", &[2, 1, 35, 36]), ("w", &[4, 1, 2, 5])]).unwrap();
    assert_eq!(conv.operation.output(conv.problem.input), Ok(Shape::new(4, 9, 16)));
    assert_eq!(conv.operation.parameters(conv.problem.input).unwrap().len(), 1, "no bias");

    let linear = from_case("linear", &json!({}), &[("x", &[2, 7, 5]), ("w", &[3, 5]), ("b", &[3])]).unwrap();
    assert_eq!(linear.problem, Problem { n: 14, input: Shape::vector(5) });
    let vector = from_case("linear", &json!({}), &[("x", &[5]), ("w", &[3, 5])]).unwrap();
    assert_eq!(vector.problem, Problem { n: 1, input: Shape::vector(5) });

    assert!(from_case("conv2d", &json!({}), &[("x", &[2, 3, 9, 9]), ("w", &[4, 1, 2, 5])]).is_err(), "groups");
    assert!(from_case("conv2d", &json!({}), &[("x", &[3, 9, 9]), ("w", &[4, 3, 2, 5])]).is_err());
    assert!(from_case("linear", &json!({}), &[("x", &[2, 7]), ("w", &[3, 5])]).is_err());
    assert!(from_case("linear", &json!({}), &[("x", &[2, 5])]).is_err());
}
