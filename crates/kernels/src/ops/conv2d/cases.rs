//! Cases of convolutions: recorded ones, and random ones for tests.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::{Conv2d, NAME, one, zero};
use crate::ops::attributes::{self, Pair};
use crate::{AttributeError, Case, CaseShapes, Fusion, Problem, Random, Scalars, Shape};

/// From the attributes of a recorded case and the sides of its tensors.
pub(super) fn recorded(attributes: &Value, shapes: &CaseShapes) -> Result<Case, AttributeError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Recorded {
        #[serde(default = "one")]
        stride: Pair,
        #[serde(default = "zero")]
        padding: Pair,
        #[serde(default = "one")]
        dilation: Pair,
    }
    let Recorded { stride, padding, dilation } = attributes::parse(NAME, attributes)?;
    let &[out_channels, channels, r, s] = attributes::dims(NAME, shapes, "w")? else {
        return Err(AttributeError::new(NAME, "`w` must have 4 sides"));
    };
    let &[n, c, h, w] = attributes::dims(NAME, shapes, "x")? else {
        return Err(AttributeError::new(NAME, "`x` must have 4 sides"));
    };
    if c != channels {
        return Err(AttributeError::new(NAME, format!("`x` has {c} channels and `w` has {channels}")));
    }
    let bias = shapes.contains_key("b");
    let (kernel, fusion) = (Pair { h: r, w: s }, Fusion::NONE);
    let conv = Conv2d { out_channels, kernel, stride, padding, dilation, bias, fusion }.checked()?;
    Ok(case(conv, Problem { n, input: Shape::new(c, h, w) }))
}

/// A small one, odd sizes included.
pub(super) fn random(random: &mut Random) -> Case {
    // Most networks neither step nor dilate, and most filters are of 3 × 3 or 1 × 1; some variants are for these alone.
    let common = random.chance(0.25);
    let pointwise = !common && random.chance(0.2);
    let most_stride = if common || pointwise || random.chance(0.4) { 1 } else { 4 };
    let most_dilation = if common || random.chance(0.5) { 1 } else { 3 };
    let mut axis = |kernel_most: usize, input_most: usize| {
        let kernel = match (common, pointwise) {
            (true, _) => 3,
            (_, true) => 1,
            _ => random.integer(1, kernel_most),
        };
        let stride = random.integer(1, most_stride);
        let most_padding = if pointwise { 0 } else { 4 };
        let [padding, dilation] = [random.integer(0, most_padding), random.integer(1, most_dilation)];
        let least = (dilation * (kernel - 1) + 1).saturating_sub(2 * padding).max(1);
        (kernel, stride, padding, dilation, random.integer(least, least + input_most))
    };
    let (r, stride_h, padding_h, dilation_h, h) = axis(5, 9);
    let (s, stride_w, padding_w, dilation_w, w) = axis(5, 20);
    let conv = Conv2d {
        out_channels: random.integer(1, 19),
        kernel: Pair { h: r, w: s },
        stride: Pair { h: stride_h, w: stride_w },
        padding: Pair { h: padding_h, w: padding_w },
        dilation: Pair { h: dilation_h, w: dilation_w },
        bias: random.chance(0.7),
        fusion: Fusion::generate(random),
    };
    case(conv, Problem { n: random.integer(1, 5), input: Shape::new(random.integer(1, 10), h, w) })
}

fn case(conv: Conv2d, problem: Problem) -> Case {
    Case { operation: Arc::new(conv), problem, scalars: Scalars::new() }
}
