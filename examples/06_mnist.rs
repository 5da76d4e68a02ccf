//! MNIST over two devices. `cargo run --release --example 06_mnist FOLDER [DEVICE DEVICE]`

mod common;

use std::path::PathBuf;

use brigade::{Data, DataKind, Failure, Placement, Schedule, Spec, Trainer, built_in};

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let Some(folder) = arguments.next() else {
        return Err(Failure::usage("name the folder of the four MNIST files"));
    };
    let mut devices: Vec<String> = arguments.collect();
    if devices.is_empty() {
        devices = vec!["llvmpipe".into(), "llvmpipe".into()];
    }
    let mut spec = Spec::new(DataKind::Mnist);
    spec.path = Some(PathBuf::from(folder));
    let data = Data::open(&spec, 1)?;

    let model = built_in("lenet5")?;
    let placement = Placement::balanced(&model, &devices)?;
    let mut pipeline = Trainer::new(model, placement).schedule(Schedule::LayerBlockWise, 1).start()?;
    common::run(&mut pipeline, &data, 2)
}
