#![doc = include_str!("../README.md")]

mod case;
pub mod ceiling;
mod error;
mod fusion;
mod host;
mod limits;
mod operation;
pub mod ops;
mod plan;
mod random;
mod scalars;
mod shader;
mod shape;
mod split;
mod tensor;
mod uniform;

pub use case::{Case, CaseShapes, Deviation, Entry};
pub use error::{AttributeError, PlanError, ShaderError, ShapeError};
pub use fusion::Fusion;
pub use host::HostTensors;
pub use limits::{Limits, Precision, Requirements, Variant};
pub use operation::{Init, Operation, Parameter, Pass, Problem, Work};
pub use plan::{Binding, Dispatch, Kernel, Plan};
pub use random::Random;
pub use scalars::Scalars;
pub use shader::Shader;
pub use shape::Shape;
pub(crate) use split::{chunks_together, pieces, window, workgroups};
pub use tensor::{Access, ElementType, Tensor, Use};
pub use uniform::UniformLayout;
