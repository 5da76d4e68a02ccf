//! The sides of a convolution, by the letters that the formulas have for them.

/// All sides of one problem, checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sides {
    pub(super) n: usize,
    pub(super) c: usize,
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) k: usize,
    pub(super) r: usize,
    pub(super) s: usize,
    pub(super) p: usize,
    pub(super) q: usize,
}

impl Sides {
    /// Elements of a sample of x.
    pub(super) const fn x(&self) -> usize {
        self.c * self.h * self.w
    }

    /// Elements of a sample of y.
    pub(super) const fn y(&self) -> usize {
        self.k * self.p * self.q
    }

    /// Elements of a filter, which is what makes one output channel: C·R·S.
    pub(super) const fn filter(&self) -> usize {
        self.c * self.taps()
    }

    /// R·S.
    pub(super) const fn taps(&self) -> usize {
        self.r * self.s
    }
}
