//! What is measured: named problems of every operation.

use brigade::{Failure, Shape};
use brigade_kernels::{Case, Pass, Problem as Size, Scalars, ops};
use serde_json::{Value, json};

/// An operation in one size.
pub(super) struct Problem {
    /// Unique within the operation.
    pub(super) name: &'static str,
    pub(super) case: Case,
    /// Its attributes and its input, for people.
    pub(super) size: String,
    /// Whether it is so large that only a GPU is asked for it: smaller ones leave most of such a device idle.
    pub(super) large: bool,
}

impl Problem {
    fn new(operation: &str, name: &'static str, attributes: &Value, n: usize, input: Shape) -> Result<Self, Failure> {
        let entry = ops::find(operation).ok_or_else(|| Failure::usage(format!("there is no operation {operation}")))?;
        let made = (entry.from_attributes)(attributes).map_err(|error| Failure::usage(error.to_string()))?;
        let case = Case { operation: made.into(), problem: Size { n, input }, scalars: Scalars::new() };
        Ok(Self { name, case, size: format!("{n}×{input} {attributes}"), large: false })
    }

    fn large(self) -> Self {
        Self { large: true, ..self }
    }

    /// What `--filter` looks in.
    pub(super) fn path(&self, pass: Pass) -> String {
        format!("{}/{}/{pass}", self.case.operation.name(), self.name)
    }

    fn passes(&self) -> impl Iterator<Item = Pass> {
        Pass::ALL.into_iter().filter(|&pass| !self.case.operation.tensors(pass).is_empty())
    }
}

/// The problems of which at least one pass has `filter` in its path.
pub(super) fn problems(filter: &str) -> Result<Vec<Problem>, Failure> {
    let mut problems = all()?;
    let paths: Vec<_> = problems.iter().flat_map(|problem| problem.passes().map(|pass| problem.path(pass))).collect();
    problems.retain(|problem| problem.passes().any(|pass| problem.path(pass).contains(filter)));
    if problems.is_empty() {
        return Err(Failure::usage(format!("nothing has `{filter}` in it; there are {}", paths.join(", "))));
    }
    Ok(problems)
}

fn all() -> Result<Vec<Problem>, Failure> {
    let conv = |name, channels: usize, (kernel, stride, padding): (usize, usize, usize), n, input| {
        let attributes = json!({"out_channels": channels, "kernel": kernel, "stride": stride, "padding": padding});
        Problem::new("conv2d", name, &attributes, n, input)
    };
    let pool = |operation, name, (kernel, stride): (usize, usize), n, input| {
        Problem::new(operation, name, &json!({"kernel": kernel, "stride": stride}), n, input)
    };
    let planes = Shape::new(64, 32, 32);
    [
        Problem::new("linear", "512", &json!({"out_features": 512, "bias": false}), 512, Shape::vector(512)),
        Problem::new("linear", "4096-128", &json!({"out_features": 128}), 32, Shape::vector(4096)),
        Problem::new("linear", "2048", &json!({"out_features": 2048, "bias": false}), 1024, Shape::vector(2048))
            .map(Problem::large),
        conv("3x3-large", 128, (3, 1, 1), 32, Shape::new(128, 28, 28)).map(Problem::large),
        conv("3x3", 64, (3, 1, 1), 8, Shape::new(32, 32, 32)),
        conv("3x3-first", 32, (3, 1, 1), 8, Shape::new(3, 32, 32)),
        conv("3x3-stride-2", 64, (3, 2, 1), 8, Shape::new(32, 32, 32)),
        Problem::new(
            "conv2d",
            "3x3-dilation-2",
            &json!({"out_channels": 64, "kernel": 3, "padding": 2, "dilation": 2}),
            8,
            Shape::new(32, 32, 32),
        ),
        conv("1x1", 64, (1, 1, 0), 8, Shape::new(64, 16, 16)),
        conv("5x5", 50, (5, 1, 0), 8, Shape::new(20, 12, 12)),
        conv("11x11-stride-4", 64, (11, 4, 0), 1, Shape::new(3, 115, 115)),
        pool("max_pool2d", "2x2", (2, 2), 16, planes),
        pool("max_pool2d", "3x3-stride-2", (3, 2), 16, planes),
        pool("avg_pool2d", "2x2", (2, 2), 16, planes),
        Problem::new("avg_pool2d", "global", &json!({"global": true}), 16, planes),
        Problem::new("relu", "large", &json!({}), 32, planes),
        Problem::new(
            "local_response_norm",
            "size-5",
            &json!({"size": 5, "alpha": 5e-4, "beta": 0.75, "k": 2.0}),
            4,
            Shape::new(64, 27, 27),
        ),
        Problem::new("dropout", "half", &json!({"p": 0.5}), 64, Shape::vector(4096)),
        Problem::new("softmax_cross_entropy", "1000", &json!({}), 256, Shape::vector(1000)),
        Problem::new(
            "sgd",
            "momentum",
            &json!({"learning_rate": 0.0, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": false}),
            1,
            Shape::vector(1 << 20),
        ),
    ]
    .into_iter()
    .collect()
}
