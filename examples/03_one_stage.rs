//! The whole network on one device. `cargo run --release --example 03_one_stage [DEVICE]`

mod common;

use brigade::{Failure, Placement, Schedule, Trainer, built_in};

fn main() -> Result<(), Failure> {
    let device = std::env::args().nth(1).unwrap_or_else(|| "reference".into());
    let model = built_in("lenet5")?;
    let placement = Placement::balanced(&model, &[device])?;
    let mut pipeline = Trainer::new(model, placement).schedule(Schedule::OneForwardOneBackward, 1).start()?;
    common::run(&mut pipeline, &common::glyphs()?, 2)
}
