//! What changes from step to step, in one small buffer.

use bytemuck::{Pod, Zeroable};

/// The values that a recorded program reads afresh at each run. The shaders' twin is
/// `shaders/shared/scalars.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scalars {
    /// Learning rate of the update.
    pub learning_rate: f32,
    /// What the loss of one sample is multiplied with: the loss scale / samples of the whole batch.
    pub gradient_scale: f32,
    /// What undoes the loss scale where gradients are used: 1 / the loss scale.
    pub gradient_unscale: f32,
    /// Number of samples that the run had seen before this microbatch; counts random numbers.
    pub first_sample: u64,
    /// Seed of the run.
    pub seed: u64,
    /// False when evaluating: dropout passes its input on.
    pub training: bool,
    /// Whether updates change nothing; a guard sets it on the device.
    pub hold: bool,
}

/// [`Scalars`] as the shaders see them.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Words {
    learning_rate: f32,
    gradient_scale: f32,
    first_sample: [u32; 2],
    seed: [u32; 2],
    training: u32,
    gradient_unscale: f32,
    hold: u32,
    padding: u32,
}

impl Scalars {
    /// 4-byte elements of the buffer.
    pub const ELEMENTS: usize = size_of::<Words>() / 4;

    /// The element that is [`Scalars::hold`].
    pub const HOLD: usize = std::mem::offset_of!(Words, hold) / 4;

    /// Neutral values: rate 0, scale 1, sample 0, seed 0, training, nothing held.
    pub const fn new() -> Self {
        Self {
            learning_rate: 0.0,
            gradient_scale: 1.0,
            gradient_unscale: 1.0,
            first_sample: 0,
            seed: 0,
            training: true,
            hold: false,
        }
    }

    /// The bytes of the buffer.
    pub fn to_bytes(&self) -> [u8; 4 * Self::ELEMENTS] {
        bytemuck::cast(Words {
            learning_rate: self.learning_rate,
            gradient_scale: self.gradient_scale,
            first_sample: low_high(self.first_sample),
            seed: low_high(self.seed),
            training: u32::from(self.training),
            gradient_unscale: self.gradient_unscale,
            hold: u32::from(self.hold),
            padding: 0,
        })
    }

    /// The inverse of [`Scalars::to_bytes`].
    pub fn from_bytes(bytes: &[u8; 4 * Self::ELEMENTS]) -> Self {
        let words: Words = bytemuck::cast(*bytes);
        Self {
            learning_rate: words.learning_rate,
            gradient_scale: words.gradient_scale,
            gradient_unscale: words.gradient_unscale,
            first_sample: whole(words.first_sample),
            seed: whole(words.seed),
            training: words.training != 0,
            hold: words.hold != 0,
        }
    }
}

impl Default for Scalars {
    fn default() -> Self {
        Self::new()
    }
}

fn low_high(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

fn whole([low, high]: [u32; 2]) -> u64 {
    u64::from(low) | u64::from(high) << 32
}
