//! Shapes of one sample, with checked arithmetic.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ShapeError;

/// The shape of one sample: C channels of H×W elements. What a linear layer gives is C×1×1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Shape {
    /// Channels, or features where there is no picture.
    pub c: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
}

impl Shape {
    /// Largest number of elements a tensor may have: its indices and byte offsets must fit WGSL's `u32`.
    pub const MAX_ELEMENTS: usize = 1 << 30;

    /// A picture of C×H×W.
    pub const fn new(c: usize, h: usize, w: usize) -> Self {
        Self { c, h, w }
    }

    /// A vector of `features` elements: features×1×1.
    pub const fn vector(features: usize) -> Self {
        Self::new(features, 1, 1)
    }

    /// C·H·W, the elements of one sample.
    ///
    /// # Errors
    /// Where a side is zero, or the product exceeds [`Shape::MAX_ELEMENTS`].
    pub fn elements(self) -> Result<usize, ShapeError> {
        elements(&[self.c, self.h, self.w])
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}×{}×{}", self.c, self.h, self.w)
    }
}

/// The product of `sides`, refused where a side is zero or the product is beyond what a shader can index.
pub(crate) fn elements(sides: &[usize]) -> Result<usize, ShapeError> {
    let product = sides
        .iter()
        .try_fold(1usize, |product, &side| product.checked_mul(side))
        .filter(|&product| product <= Shape::MAX_ELEMENTS)
        .ok_or_else(|| ShapeError::TooLarge { sides: sides.to_vec() })?;
    if product == 0 {
        return Err(ShapeError::Empty { sides: sides.to_vec() });
    }
    Ok(product)
}
