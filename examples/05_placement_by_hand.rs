//! Cuts and devices chosen by hand: three stages, which may all be on one device.
//! `cargo run --release --example 05_placement_by_hand`

mod common;

use brigade::{Failure, Placement, Schedule, Trainer, built_in};

fn main() -> Result<(), Failure> {
    let model = built_in("lenet5")?;
    // Cut after pool1 and pool2, where little passes from layer to layer.
    let placement = Placement::by_hand(&model, &["reference", "reference", "reference"], &["pool1", "pool2"])?;
    let mut pipeline = Trainer::new(model, placement).schedule(Schedule::OneForwardOneBackwardAsync, 1).start()?;
    common::run(&mut pipeline, &common::glyphs()?, 2)
}
