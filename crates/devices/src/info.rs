//! Who a device is.

use std::fmt;

use brigade_kernels::{Limits, Precision};
use serde::{Serialize, Serializer};

use crate::error::bytes;

/// What a device is, wherever it stands in a list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Identity {
    /// `vulkan`, `metal`, `dx12` or `reference`.
    pub backend: String,
    /// The PCI address, or vendor, device and name where there is none.
    pub address: String,
    /// Counts devices of the same backend and address.
    pub ordinal: usize,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}#{}", self.backend, self.address, self.ordinal)
    }
}

/// What kind of hardware a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A GPU with memory of its own.
    Discrete,
    /// A GPU that shares the host's memory.
    Integrated,
    /// A part of a GPU, lent to a virtual machine.
    Virtual,
    /// A driver that computes on the host's cores.
    Software,
    /// A device whose driver does not say.
    Other,
    /// Brigade's own reference arithmetic.
    Reference,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Software => "software",
            Self::Other => "other",
            Self::Reference => "reference",
        })
    }
}

/// A device as it is listed and opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceInfo {
    /// What it is, wherever it stands in the list.
    pub identity: Identity,
    /// Its name, unique within a list.
    pub name: String,
    /// Its vendor's name.
    pub vendor: String,
    /// Its vendor's number.
    pub vendor_id: u32,
    /// Its number among the vendor's.
    pub device_id: u32,
    /// What kind of hardware it is.
    pub kind: Kind,
    /// The driver's name.
    pub driver: String,
    /// The driver's version, as it gives it.
    pub driver_info: String,
    /// What plans must respect.
    #[serde(serialize_with = "limits")]
    pub limits: Limits,
    /// Features that Brigade makes use of and the device has.
    pub features: Vec<String>,
}

impl DeviceInfo {
    /// The name without the number that tells adapters of one name apart.
    pub(crate) fn model(&self) -> &str {
        match self.name.rsplit_once(" #") {
            Some((model, number)) if number.parse::<usize>().is_ok() => model,
            _ => &self.name,
        }
    }

    /// Whether the two are of one kind, with the same driver: what is fast on one is fast on the other.
    pub fn is_like(&self, other: &Self) -> bool {
        let kind = |info: &Self| (info.vendor_id, info.device_id, info.model().to_owned());
        let driver = |info: &Self| (info.identity.backend.clone(), info.driver.clone(), info.driver_info.clone());
        kind(self) == kind(other) && driver(self) == driver(other)
    }

    /// Whether the device computes on the host's cores.
    pub const fn is_software(&self) -> bool {
        matches!(self.kind, Kind::Software | Kind::Reference)
    }

    /// Whether its driver lets the number of its threads be chosen: only llvmpipe listens.
    pub fn takes_threads(&self) -> bool {
        self.driver.contains("llvmpipe")
    }
}

impl fmt::Display for DeviceInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, vendor, kind, driver, driver_info, identity, limits, .. } = self;
        write!(f, "{name}: {vendor}, {kind}, {} ({identity})", identity.backend)?;
        if !driver.is_empty() {
            write!(f, ", driver {driver} {driver_info}")?;
        }
        write!(f, ", at most {} in one binding", bytes(limits.binding_bytes))
    }
}

/// The vendor with that number, as PCI-SIG and Khronos register them.
pub(crate) fn vendor_name(id: u32) -> String {
    let known = match id {
        0x10DE => "NVIDIA",
        0x1002 | 0x1022 => "AMD",
        0x8086 => "Intel",
        0x106B => "Apple",
        0x13B5 => "Arm",
        0x5143 | 0x4D4F_4351 => "Qualcomm",
        0x1010 => "Imagination",
        0x1414 => "Microsoft",
        0x1AF4 => "Red Hat",
        0x14E4 => "Broadcom",
        0x10005 => "Mesa",
        0x1AE0 => "Google",
        _ => return format!("vendor {id:#06x}"),
    };
    known.to_owned()
}

fn limits<S: Serializer>(limits: &Limits, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(remote = "Limits")]
    struct Remote {
        binding_bytes: u64,
        buffer_bytes: u64,
        invocations: u32,
        workgroup_bytes: u32,
        storage_buffers: u32,
        workgroups_per_dimension: u32,
        subgroup_min: u32,
        subgroup_max: u32,
        f16: bool,
        cooperative_matrix: u32,
        cooperative_matrix_f32: u32,
        software: bool,
        #[serde(skip)]
        precision: Precision,
        #[serde(skip)]
        every_variant: bool,
    }
    Remote::serialize(limits, serializer)
}
