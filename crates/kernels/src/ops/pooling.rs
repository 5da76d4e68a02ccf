//! The windows that the two pooling operations slide over a plane.

use super::attributes::Pair;
use crate::{AttributeError, PlanError, Shape, ShapeError};

/// No attribute of a window may be larger: sums and products of two of them still fit a shader's integers.
const LARGEST: usize = 1 << 20;

/// A window with its steps, in both directions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) kernel: Pair,
    pub(crate) stride: Pair,
    pub(crate) padding: Pair,
    pub(crate) dilation: Pair,
    pub(crate) ceil_mode: bool,
}

impl Window {
    /// The window, if PyTorch would take it.
    pub(crate) fn checked(self, operation: &str) -> Result<Self, AttributeError> {
        let refuse = |message: String| Err(AttributeError::new(operation, message));
        let sides = [("kernel", self.kernel), ("stride", self.stride), ("dilation", self.dilation)];
        if let Some((name, _)) = sides.iter().find(|(_, pair)| pair.h == 0 || pair.w == 0) {
            return refuse(format!("`{name}` is zero; it must be at least 1"));
        }
        let all = sides.into_iter().chain([("padding", self.padding)]);
        if let Some((name, pair)) = all.into_iter().find(|(_, pair)| pair.h > LARGEST || pair.w > LARGEST) {
            return refuse(format!("`{name}` is {}; it may be {LARGEST} at most", pair.h.max(pair.w)));
        }
        if self.padding.h > self.kernel.h / 2 || self.padding.w > self.kernel.w / 2 {
            let Self { padding, kernel, .. } = self;
            let (padding, kernel) = (format!("{}×{}", padding.h, padding.w), format!("{}×{}", kernel.h, kernel.w));
            return refuse(format!("`padding` is {padding}; it may be half of the kernel ({kernel}) at most"));
        }
        Ok(self)
    }

    /// Windows side by side, as tiles lie.
    pub(crate) const fn apart(kernel: Pair, ceil_mode: bool) -> Self {
        Self { kernel, stride: kernel, padding: Pair::both(0), dilation: Pair::both(1), ceil_mode }
    }

    /// Whether windows lie side by side, as tiles do.
    pub(crate) fn is_apart(&self) -> bool {
        self.kernel == self.stride && self.padding == Pair::both(0) && self.dilation == Pair::both(1)
    }

    /// What the kernels for windows that tile an input are expanded with: the sides of a window, and how many there are in
    /// each direction. `vectors` of a row, elements or windows, are treated four at a time.
    ///
    /// # Errors
    /// Where something is left over.
    pub(crate) fn tiling(
        &self,
        operation: &'static str,
        input: Shape,
        output: Shape,
        vectors: usize,
    ) -> Result<[(&'static str, u32); 4], PlanError> {
        let Pair { h: r, w: s } = self.kernel;
        if [output.h * r, output.w * s] != [input.h, input.w] || !vectors.is_multiple_of(4) {
            let why = format!("{}×{} is not covered by whole vectors of windows of {r}×{s}", input.h, input.w);
            return Err(PlanError::Unsuited { operation, variant: "tiles", why });
        }
        Ok([("R", r), ("S", s), ("P", output.h), ("Q", output.w)].map(|(name, value)| (name, value as u32)))
    }

    /// How many windows there are in each direction.
    pub(crate) fn output(&self, operation: &'static str, input: Shape) -> Result<Shape, ShapeError> {
        input.elements()?;
        let Self { kernel, stride, padding, dilation, ceil_mode } = *self;
        let h = Axis { input: input.h, kernel: kernel.h, stride: stride.h, padding: padding.h, dilation: dilation.h };
        let w = Axis { input: input.w, kernel: kernel.w, stride: stride.w, padding: padding.w, dilation: dilation.w };
        let output = Shape {
            c: input.c,
            h: h.output(operation, "height", ceil_mode)?,
            w: w.output(operation, "width", ceil_mode)?,
        };
        output.elements().map(|_| output)
    }

    /// The most windows that cover one element.
    pub(crate) fn overlap(&self) -> usize {
        self.kernel.h.div_ceil(self.stride.h) * self.kernel.w.div_ceil(self.stride.w)
    }

    /// The `override` constants that both pooling shaders declare.
    pub(crate) fn constants(&self, input: Shape, output: Shape) -> Vec<(&'static str, f64)> {
        [
            ("H", input.h),
            ("W", input.w),
            ("P", output.h),
            ("Q", output.w),
            ("R", self.kernel.h),
            ("S", self.kernel.w),
            ("STRIDE_H", self.stride.h),
            ("STRIDE_W", self.stride.w),
            ("PADDING_H", self.padding.h),
            ("PADDING_W", self.padding.w),
        ]
        .map(|(name, value)| (name, value as f64))
        .to_vec()
    }
}

/// One direction.
struct Axis {
    input: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
}

impl Axis {
    /// PyTorch's rule. With `ceil_mode` a last window may reach beyond the padded input, if only it starts within
    /// the input or the padding before it.
    fn output(&self, operation: &'static str, axis: &'static str, ceil_mode: bool) -> Result<usize, ShapeError> {
        let &Self { input, kernel, stride, padding, dilation } = self;
        let window = dilation * (kernel - 1) + 1;
        let room = input + 2 * padding + if ceil_mode { stride - 1 } else { 0 };
        if room < window {
            return Err(ShapeError::Window { operation, axis, window, input, padding });
        }
        let count = (room - window) / stride + 1;
        let last_is_outside = ceil_mode && (count - 1) * stride >= input + padding;
        Ok(count - usize::from(last_is_outside))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(kernel: usize, stride: usize, padding: usize, ceil_mode: bool) -> Window {
        let [kernel, stride, padding, dilation] = [kernel, stride, padding, 1].map(Pair::both);
        Window { kernel, stride, padding, dilation, ceil_mode }
    }

    fn output(window: Window, side: usize) -> Option<usize> {
        window.output("test", Shape::new(1, side, side)).ok().map(|shape| shape.h)
    }

    #[test]
    fn output_sides_are_pytorchs() {
        assert_eq!(output(window(3, 2, 0, false), 6), Some(2));
        assert_eq!(output(window(3, 2, 0, true), 6), Some(3));
        assert_eq!(output(window(2, 2, 1, true), 3), Some(2), "a third window would start beyond the input");
        assert_eq!(output(window(3, 1, 0, false), 2), None);
        assert_eq!(output(window(3, 2, 0, true), 2), Some(1), "PyTorch allows a last window to be cut");
        assert_eq!(output(window(4, 2, 0, true), 2), None);
    }

    #[test]
    fn impossible_windows_are_refused() {
        assert!(window(0, 1, 0, false).checked("test").is_err());
        assert!(window(2, 0, 0, false).checked("test").is_err());
        assert!(window(3, 1, 2, false).checked("test").is_err());
        assert!(window(usize::MAX, 1, 0, false).checked("test").is_err());
        assert!(window(3, 1, 1, false).checked("test").is_ok());
    }
}
