//! Dispatches as plain data: which kernel, which bindings, how many workgroups.

use std::ops::Range;

use crate::{Access, Shader, Tensor};

/// One pipeline: an entry point of a module, with what both leave open.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernel {
    /// The module.
    pub shader: &'static Shader,
    /// The entry point, named after the pass.
    pub entry: &'static str,
    /// What the text of the module is expanded with: tile sides, or 0 and 1 for what is left out or in.
    pub definitions: Vec<(&'static str, u32)>,
    /// Values of the module's `override` constants.
    pub constants: Vec<(&'static str, f64)>,
}

/// One storage buffer of a dispatch, or a part of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// `@binding` in group 0.
    pub slot: u32,
    /// Which tensor.
    pub tensor: Tensor,
    /// How; `Write` and `ReadWrite` are both `read_write` in WGSL.
    pub access: Access,
    /// Which elements of the tensor. Starts are multiples of 64 elements, which is 256 bytes.
    pub range: Range<usize>,
}

/// One dispatch.
#[derive(Debug, Clone, PartialEq)]
pub struct Dispatch {
    /// What to run.
    pub kernel: Kernel,
    /// Storage buffers, by slot.
    pub bindings: Vec<Binding>,
    /// Content of the uniform buffer at slot 0.
    pub uniform: Vec<u8>,
    /// Workgroups in x, y and z.
    pub workgroups: [u32; 3],
}

/// What one pass of an operation does, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The dispatches.
    pub dispatches: Vec<Dispatch>,
    /// Elements of scratch memory that the dispatches need.
    pub workspace: usize,
}
