//! `brigade devices`: the adapters that can be used.

use brigade::Failure;
use serde_json::json;

use crate::output;

/// The flags of `devices`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let devices = brigade::list();
    if args.json {
        return output::json(&json!({ "devices": devices }));
    }
    devices.iter().try_for_each(|device| output::line(device.to_string()))
}
