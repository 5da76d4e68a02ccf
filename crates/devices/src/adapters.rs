//! What devices there are, and which one a name means.

use std::sync::OnceLock;

use brigade_kernels::Limits;
use wgpu::{AdapterInfo, Backends, CooperativeMatrixProperties, CooperativeScalarType, DeviceType, Features};

use crate::door::alone;
use crate::info::vendor_name;
use crate::{DeviceError, DeviceInfo, Identity, Kind, ReferenceExecutor};

/// The backends that Brigade asks, the preferred one first. `gles` lists the same card a second time.
const BACKENDS: [(wgpu::Backend, &str); 3] =
    [(wgpu::Backend::Vulkan, "vulkan"), (wgpu::Backend::Metal, "metal"), (wgpu::Backend::Dx12, "dx12")];

/// Features that Brigade makes use of where they are.
pub(crate) const USEFUL: [(Features, &str); 4] = [
    (Features::TIMESTAMP_QUERY, TIMESTAMPS),
    (Features::SUBGROUP, "subgroups"),
    (Features::SHADER_F16, "f16"),
    (Features::EXPERIMENTAL_COOPERATIVE_MATRIX, "cooperative-matrices"),
];

/// What the feature is called that a device measures times with.
pub(crate) const TIMESTAMPS: &str = "timestamps";

/// Addresses on a bus start with this; others name a model, of which there may be several.
const PCI: &str = "pci-";

/// Every device of this machine, each once, in an order of its own: GPUs, then software adapters, then the
/// reference.
pub fn list() -> Vec<DeviceInfo> {
    let adapters = alone(None, || enumerate(Backends::PRIMARY));
    let mut found: Vec<_> = adapters.into_iter().map(|(info, _)| info).collect();
    found.push(ReferenceExecutor::describe());
    found
}

/// The device that `wanted` means: its whole name or identity, or a part of the name that no other has, whatever
/// the case.
///
/// # Errors
/// Where none or several match; the error lists what there is.
pub fn find<'a>(list: &'a [DeviceInfo], wanted: &str) -> Result<&'a DeviceInfo, DeviceError> {
    let low = wanted.trim().to_lowercase();
    let exact = |info: &&DeviceInfo| info.name.to_lowercase() == low || info.identity.to_string() == low;
    if let Some(info) = list.iter().find(exact) {
        return Ok(info);
    }
    let matches: Vec<_> =
        list.iter().filter(|info| !low.is_empty() && info.name.to_lowercase().contains(&low)).collect();
    match matches.as_slice() {
        [one] => Ok(one),
        [] => Err(DeviceError::NotFound { wanted: wanted.into(), found: names(list) }),
        several => Err(DeviceError::Ambiguous {
            wanted: wanted.into(),
            candidates: several.iter().map(|info| info.name.clone()).collect(),
        }),
    }
}

/// The devices that are used where none is named: every GPU.
///
/// # Errors
/// Where there is none; software adapters are never chosen silently.
pub fn unnamed(list: &[DeviceInfo]) -> Result<Vec<&DeviceInfo>, DeviceError> {
    let gpus: Vec<_> = list.iter().filter(|info| !info.is_software()).collect();
    let software: Vec<_> = list.iter().filter(|info| info.kind == Kind::Software).cloned().collect();
    match (gpus.is_empty(), software.is_empty()) {
        (false, _) => Ok(gpus),
        (true, false) => Err(DeviceError::SoftwareOnly { found: names(&software) }),
        (true, true) => Err(DeviceError::NoAdapter),
    }
}

fn names(list: &[DeviceInfo]) -> Vec<String> {
    list.iter().map(|info| info.name.clone()).collect()
}

/// The adapters of a new instance, each once. To be called [`alone`].
pub(crate) fn enumerate(backends: Backends) -> Vec<(DeviceInfo, wgpu::Adapter)> {
    let descriptor = wgpu::InstanceDescriptor {
        backends: backends & Backends::PRIMARY,
        flags: wgpu::InstanceFlags::empty(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    };
    let instance = wgpu::Instance::new(descriptor);
    let adapters = pollster::block_on(instance.enumerate_adapters(backends));
    let described = adapters.iter().filter_map(|adapter| Some((describe(adapter)?, adapter.clone())));
    let described: Vec<_> = described.collect();
    if described.iter().any(|(info, _)| !info.is_software()) {
        // Never let go of: while one instance is left, no loader takes a GPU's driver out of the process and back in.
        static FIRST: OnceLock<wgpu::Instance> = OnceLock::new();
        FIRST.get_or_init(|| instance);
    }
    settle(described)
}

fn describe(adapter: &wgpu::Adapter) -> Option<DeviceInfo> {
    let info = adapter.get_info();
    let (_, backend) = BACKENDS.into_iter().find(|(backend, _)| *backend == info.backend)?;
    if !adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS) {
        return None;
    }
    let features = adapter.features();
    let useful = USEFUL.into_iter().filter(|(feature, _)| features.contains(*feature));
    Some(DeviceInfo {
        identity: Identity { backend: backend.into(), address: address(&info), ordinal: 0 },
        name: info.name.trim().to_owned(),
        vendor: vendor_name(info.vendor),
        vendor_id: info.vendor,
        device_id: info.device,
        kind: kind(info.device_type),
        driver: info.driver.clone(),
        driver_info: info.driver_info.clone(),
        limits: with_matrices(
            limits(&adapter.limits(), features, &info),
            info.backend,
            &adapter.cooperative_matrix_properties(),
        ),
        features: useful.map(|(_, name)| name.to_owned()).collect(),
    })
}

fn address(info: &AdapterInfo) -> String {
    if info.device_pci_bus_id.is_empty() {
        format!("{:04x}:{:04x}:{}", info.vendor, info.device, info.name.trim())
    } else {
        format!("{PCI}{}", info.device_pci_bus_id)
    }
}

const fn kind(device: DeviceType) -> Kind {
    match device {
        DeviceType::DiscreteGpu => Kind::Discrete,
        DeviceType::IntegratedGpu => Kind::Integrated,
        DeviceType::VirtualGpu => Kind::Virtual,
        DeviceType::Cpu => Kind::Software,
        DeviceType::Other => Kind::Other,
    }
}

fn limits(limits: &wgpu::Limits, features: Features, info: &AdapterInfo) -> Limits {
    let subgroup = |size| if features.contains(Features::SUBGROUP) { size } else { 0 };
    Limits {
        binding_bytes: limits.max_storage_buffer_binding_size,
        buffer_bytes: limits.max_buffer_size,
        invocations: limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x),
        workgroup_bytes: limits.max_compute_workgroup_storage_size,
        storage_buffers: limits.max_storage_buffers_per_shader_stage,
        workgroups_per_dimension: limits.max_compute_workgroups_per_dimension,
        subgroup_min: subgroup(info.subgroup_min_size),
        subgroup_max: subgroup(info.subgroup_max_size),
        f16: features.contains(Features::SHADER_F16),
        software: info.device_type == DeviceType::Cpu,
        ..Limits::PORTABLE
    }
}

/// Lanes of the subgroups of GPUs that have matrices on Metal.
const APPLE_LANES: u32 = 32;

/// The limits with those of the matrices that are `offered`.
fn with_matrices(mut limits: Limits, backend: wgpu::Backend, offered: &[CooperativeMatrixProperties]) -> Limits {
    limits.cooperative_matrix = largest_matrix(offered, CooperativeScalarType::F16);
    limits.cooperative_matrix_f32 = largest_matrix(offered, CooperativeScalarType::F32);
    // wgpu tells the bounds of whatever Metal runs on, 4 and 64. Matrices are offered by Apple's own GPUs alone, whose
    // subgroups are all of one size.
    if backend == wgpu::Backend::Metal && !offered.is_empty() && limits.subgroup_max > 0 {
        (limits.subgroup_min, limits.subgroup_max) = (APPLE_LANES, APPLE_LANES);
    }
    limits
}

/// The largest side of square matrices of such operands that are summed in `f32`, of those that WGSL knows.
fn largest_matrix(offered: &[CooperativeMatrixProperties], operands: CooperativeScalarType) -> u32 {
    let fits = |side: &u32| {
        offered.iter().any(|o| {
            [o.m_size, o.n_size, o.k_size] == [*side; 3]
                && (o.ab_type, o.cr_type) == (operands, CooperativeScalarType::F32)
        })
    };
    [16, 8].into_iter().find(fits).unwrap_or(0)
}

/// Drops what is listed twice, counts what cannot be told apart otherwise, makes names unique, and sorts.
///
/// One backend lists a card twice where two drivers' files name it; two backends list it once each.
fn settle<T>(mut found: Vec<(DeviceInfo, T)>) -> Vec<(DeviceInfo, T)> {
    found.sort_by_key(|(info, _)| BACKENDS.iter().position(|(_, name)| *name == info.identity.backend));
    let mut kept: Vec<(DeviceInfo, T)> = Vec::new();
    for (mut info, payload) in found {
        let same = kept.iter().filter(|(other, _)| {
            (&other.identity.backend, &other.identity.address) == (&info.identity.backend, &info.identity.address)
        });
        let ordinal = same.count();
        let one_of_a_kind = info.identity.address.starts_with(PCI) || info.is_software();
        if (ordinal > 0 && one_of_a_kind) || listed_by_another_backend(&kept, &info) {
            continue;
        }
        info.identity.ordinal = ordinal;
        kept.push((info, payload));
    }
    kept.sort_by_key(|(info, _)| (rank(info.kind), info.identity.clone()));
    let names: Vec<_> = kept.iter().map(|(info, _)| info.name.clone()).collect();
    for (index, (info, _)) in kept.iter_mut().enumerate() {
        if names.iter().filter(|name| **name == info.name).count() > 1 {
            let number = names[..=index].iter().filter(|name| **name == names[index]).count();
            info.name = format!("{} #{number}", info.name);
        }
    }
    kept
}

/// Whether a preferred backend has listed more cards of this model than this backend so far.
fn listed_by_another_backend<T>(kept: &[(DeviceInfo, T)], info: &DeviceInfo) -> bool {
    let model = |(other, _): &&(DeviceInfo, T)| {
        (other.vendor_id, other.device_id) == (info.vendor_id, info.device_id) && info.vendor_id != 0
    };
    let (here, elsewhere): (Vec<_>, Vec<_>) =
        kept.iter().filter(model).partition(|(other, _)| other.identity.backend == info.identity.backend);
    let twin = |(other, _): &&(DeviceInfo, T)| other.identity.address == info.identity.address;
    elsewhere.iter().any(twin) || (here.is_empty() && !elsewhere.is_empty())
}

const fn rank(kind: Kind) -> usize {
    match kind {
        Kind::Discrete => 0,
        Kind::Integrated => 1,
        Kind::Virtual => 2,
        Kind::Other => 3,
        Kind::Software => 4,
        Kind::Reference => 5,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn card(backend: &str, address: &str, name: &str, kind: Kind) -> (DeviceInfo, ()) {
        let identity = Identity { backend: backend.into(), address: address.into(), ordinal: 0 };
        let info = ReferenceExecutor::describe();
        (DeviceInfo { identity, name: name.into(), kind, vendor_id: 0x10DE, device_id: 7, ..info }, ())
    }

    fn settled(found: Vec<(DeviceInfo, ())>) -> Vec<DeviceInfo> {
        settle(found).into_iter().map(|(info, ())| info).collect()
    }

    #[test]
    fn the_order_of_the_list_does_not_matter() {
        let cards = || {
            vec![
                card("vulkan", "pci-0000:02:00.0", "RTX", Kind::Discrete),
                card("vulkan", "1ae0:c0de:SwiftShader", "SwiftShader", Kind::Software),
                card("vulkan", "pci-0000:01:00.0", "RTX", Kind::Discrete),
            ]
        };
        let mut turned = cards();
        turned.reverse();
        let list = settled(cards());
        assert_eq!(list, settled(turned));
        let names: Vec<_> = list.iter().map(|info| info.name.as_str()).collect();
        assert_eq!(names, ["RTX #1", "RTX #2", "SwiftShader"]);
        assert_eq!(list[0].identity.address, "pci-0000:01:00.0");
    }

    #[test]
    fn what_is_listed_twice_counts_once() {
        let twice = vec![
            card("dx12", "10de:0007:RTX", "RTX", Kind::Discrete),
            card("vulkan", "pci-0000:01:00.0", "RTX", Kind::Discrete),
            card("vulkan", "pci-0000:01:00.0", "RTX", Kind::Discrete),
        ];
        let list = settled(twice);
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].identity.to_string(), "vulkan/pci-0000:01:00.0#0");
        let software = card("vulkan", "10005:0000:llvmpipe", "llvmpipe", Kind::Software);
        assert_eq!(settled(vec![software.clone(), software]).len(), 1);
    }

    #[test]
    fn equal_cards_without_an_address_are_counted() {
        let one = card("metal", "106b:0000:M", "M", Kind::Discrete);
        let list = settled(vec![one.clone(), one]);
        let names: Vec<_> = list.iter().map(|info| (info.name.as_str(), info.identity.ordinal)).collect();
        assert_eq!(names, [("M #1", 0), ("M #2", 1)]);
    }

    #[test]
    fn names_are_found_by_parts() {
        let list = settled(vec![
            card("vulkan", "pci-1", "NVIDIA GeForce RTX 4070", Kind::Discrete),
            card("vulkan", "pci-2", "NVIDIA GeForce RTX 4070 Ti", Kind::Discrete),
            card("vulkan", "pci-3", "llvmpipe (LLVM 15)", Kind::Software),
        ]);
        assert_eq!(find(&list, "LLVM").unwrap().kind, Kind::Software);
        assert_eq!(find(&list, "nvidia geforce rtx 4070").unwrap().identity.address, "pci-1");
        assert_eq!(find(&list, "4070 ti").unwrap().identity.address, "pci-2");
        let ambiguous = find(&list, "GeForce").unwrap_err().to_string();
        assert!(ambiguous.contains("4070 or NVIDIA GeForce RTX 4070 Ti"), "{ambiguous}");
        let missing = find(&list, "radeon").unwrap_err().to_string();
        assert!(missing.contains("radeon") && missing.contains("llvmpipe"), "{missing}");
        assert!(find(&list, " ").is_err());
    }

    #[test]
    fn cooperative_matrices_count_where_they_are_square_and_sum_in_f32() {
        let offer = |[m_size, n_size, k_size]: [u32; 3], ab_type, cr_type| CooperativeMatrixProperties {
            m_size,
            n_size,
            k_size,
            ab_type,
            cr_type,
            saturating_accumulation: false,
        };
        let (half, single) = (CooperativeScalarType::F16, CooperativeScalarType::F32);
        let sides = |offered: &[CooperativeMatrixProperties]| {
            let limits = with_matrices(Limits::PORTABLE, wgpu::Backend::Vulkan, offered);
            (limits.cooperative_matrix, limits.cooperative_matrix_f32)
        };
        assert_eq!(sides(&[offer([16, 8, 16], half, single), offer([16, 16, 16], half, half)]), (0, 0));
        assert_eq!(sides(&[offer([8, 8, 8], half, single), offer([16, 16, 16], half, single)]), (16, 0));
        assert_eq!(sides(&[offer([8, 8, 8], half, single), offer([8, 8, 8], single, single)]), (8, 8));
    }

    #[test]
    fn gpus_with_matrices_on_metal_have_subgroups_of_one_size() {
        let single = CooperativeScalarType::F32;
        let offered = CooperativeMatrixProperties {
            m_size: 8,
            n_size: 8,
            k_size: 8,
            ab_type: single,
            cr_type: single,
            saturating_accumulation: false,
        };
        let told = Limits { subgroup_min: 4, subgroup_max: 64, ..Limits::PORTABLE };
        let subgroups = |backend, offered: &[CooperativeMatrixProperties]| {
            let limits = with_matrices(told.clone(), backend, offered);
            (limits.subgroup_min, limits.subgroup_max)
        };
        assert_eq!(subgroups(wgpu::Backend::Metal, &[offered]), (32, 32));
        assert_eq!(subgroups(wgpu::Backend::Metal, &[]), (4, 64));
        assert_eq!(subgroups(wgpu::Backend::Vulkan, &[offered]), (4, 64));
    }

    #[test]
    fn software_is_never_chosen_silently() {
        let software = settled(vec![card("vulkan", "pci-3", "llvmpipe", Kind::Software)]);
        assert!(matches!(unnamed(&software), Err(DeviceError::SoftwareOnly { .. })));
        assert!(matches!(unnamed(&[]), Err(DeviceError::NoAdapter)));
        let both = settled(vec![
            card("vulkan", "pci-3", "llvmpipe", Kind::Software),
            card("vulkan", "pci-1", "RTX", Kind::Discrete),
        ]);
        assert_eq!(unnamed(&both).unwrap().len(), 1);
    }
}
