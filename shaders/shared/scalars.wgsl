// What changes from step to step; the twin of `Scalars` in crates/kernels/src/scalars.rs.

struct Scalars {
    learning_rate: f32,
    gradient_scale: f32,
    first_sample: vec2<u32>,
    seed: vec2<u32>,
    training: u32,
    gradient_unscale: f32,
    // Updates change nothing.
    hold: u32,
}
