//! One kernel on every adapter, beside the reference. `cargo run --release --example 02_one_kernel`

use brigade::{Failure, open};
use brigade_devices::verify;
use brigade_kernels::{Random, ops};

fn main() -> Result<(), Failure> {
    let Some(entry) = ops::find("conv2d") else { return Ok(()) };
    println!("{}: {}", entry.name, entry.formula);
    for device in brigade::list() {
        let mut executor = open(&device, 1)?;
        let mut random = Random::new(1);
        let case = (entry.generate)(&mut random);
        println!("{}: {:?}, {} samples of {}", device.name, case.operation, case.problem.n, case.problem.input);
        for report in verify(executor.as_mut(), &case, &mut random)? {
            println!("    {report}");
        }
    }
    Ok(())
}
