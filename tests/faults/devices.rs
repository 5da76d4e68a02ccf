//! Adapters that are not there, lack something, go, or compute wrong numbers.

use crate::common::command::Place;
use crate::support::within_limit;

#[test]
fn row_27_no_adapter() {
    let place = Place::new();
    let mut command = place.command("train --data glyphs --steps 1");
    command.env("VK_DRIVER_FILES", place.path("none.json")).env("VK_ICD_FILENAMES", place.path("none.json"));
    within_limit(command).refused(5, &["no GPU found", "mesa-vulkan-drivers", "--devices reference"]);
    let mut command = place.command("train --data glyphs --steps 1 --devices llvmpipe");
    command.env("VK_DRIVER_FILES", place.path("none.json")).env("VK_ICD_FILENAMES", place.path("none.json"));
    within_limit(command).refused(5, &["llvmpipe", "found: reference"]);
}

#[test]
fn row_27_only_software_adapters() {
    let place = Place::new();
    let refused =
        within_limit(place.command("train --data glyphs --train-samples 8 --test-samples 8 --batch 8 --steps 1"));
    refused.refused(5, &["only software adapters found", "llvmpipe", "--devices", "driver"]);
}

#[test]
fn row_27_software_with_the_flag_on_adapters() {
    let place = Place::new();
    place.write("any.toml", crate::common::command::SMALL.replace("devices = [\"reference\"]", "").as_bytes());
    within_limit(place.command("train --config @any.toml --steps 1 --software --stages 2")).done();
}
