//! Uniform structs, declared once and held against the shaders.

/// The layout of a uniform struct, as the test of the shaders compares it with naga's reflection.
#[derive(Debug, PartialEq, Eq, Hash, Clone, Copy)]
pub struct UniformLayout {
    /// Name of the struct in WGSL.
    pub name: &'static str,
    /// Members in order, each 4 bytes: name and WGSL type (`u32`, `i32` or `f32`).
    pub fields: &'static [(&'static str, &'static str)],
}

/// Declares a uniform struct of 4-byte members together with its [`UniformLayout`], as `NAME::LAYOUT`.
macro_rules! uniform {
    ($(#[$meta:meta])* struct $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ident,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
        #[repr(C)]
        struct $name { $($(#[$field_meta])* $field: $type,)* }

        impl $name {
            /// What the shader must declare.
            const LAYOUT: $crate::UniformLayout = $crate::UniformLayout {
                name: stringify!($name),
                fields: &[$((stringify!($field), stringify!($type)),)*],
            };
        }
    };
}

pub(crate) use uniform;
