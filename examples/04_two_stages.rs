//! Two stages on devices of two vendors, cut where the work is even.
//! `cargo run --release --example 04_two_stages [DEVICE DEVICE]`

mod common;

use brigade::{Failure, Placement, Schedule, Trainer, built_in};

fn main() -> Result<(), Failure> {
    let mut devices: Vec<String> = std::env::args().skip(1).collect();
    if devices.is_empty() {
        devices = vec!["llvmpipe".into(), "swiftshader".into()];
    }
    let model = built_in("lenet5")?;
    let placement = Placement::balanced(&model, &devices)?;
    let mut pipeline = Trainer::new(model, placement).schedule(Schedule::LayerBlockWise, 1).start()?;
    common::run(&mut pipeline, &common::glyphs()?, 2)
}
