//! What is in this box? `cargo run --release --example 01_adapters`

fn main() {
    for device in brigade::list() {
        println!("{device}");
        println!(
            "    vendor {:#06x}, device {:#06x}, {}",
            device.vendor_id,
            device.device_id,
            device.features.join(" ")
        );
    }
}
