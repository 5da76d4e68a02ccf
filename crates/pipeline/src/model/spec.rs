//! A model as it is written in a run file.

use std::collections::BTreeMap;
use std::sync::Arc;

use brigade_kernels::{Pass, Shape, ops};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Layer, ModelError};

/// A list of layers and the shape of what goes in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ModelSpec {
    /// What the model is called.
    pub name: String,
    /// Shape of one input sample.
    pub input: Shape,
    /// The layers in order.
    pub layers: Vec<LayerSpec>,
}

/// One layer: the operation, a name where the default (`conv1`, `conv2`, …) is not wanted, and the attributes of
/// the operation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LayerSpec {
    /// Name of the operation, such as `conv2d`.
    pub op: String,
    /// Name of the layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Attributes of the operation.
    #[serde(flatten)]
    pub attributes: BTreeMap<String, Value>,
}

impl ModelSpec {
    /// Every layer with its name: its own, or its operation's short name with a number.
    pub(super) fn named_layers(&self) -> Vec<(String, &LayerSpec)> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        self.layers
            .iter()
            .map(|layer| {
                let short = short_name(&layer.op);
                let count = counts.entry(short).or_default();
                *count += 1;
                (layer.name.clone().unwrap_or_else(|| format!("{short}{count}")), layer)
            })
            .collect()
    }
}

/// What layers of an operation are called where no name is given.
fn short_name(operation: &str) -> &str {
    match operation {
        "conv2d" => "conv",
        "linear" => "fc",
        "max_pool2d" | "avg_pool2d" => "pool",
        "local_response_norm" => "norm",
        other => other,
    }
}

impl LayerSpec {
    /// A layer of `op` with attributes given as a JSON object.
    pub(super) fn of(op: &str, attributes: Value) -> Self {
        let attributes = match attributes {
            Value::Object(map) => map.into_iter().collect(),
            _ => BTreeMap::new(),
        };
        Self { op: op.to_owned(), name: None, attributes }
    }

    /// The same layer under a name.
    pub(super) fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Checks the layer against the shape it is given.
    pub(super) fn build(&self, name: String, index: usize, input: Shape) -> Result<Layer, ModelError> {
        let Some(entry) = ops::find(&self.op) else {
            let known = ops::OPERATIONS.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ");
            return Err(ModelError::UnknownOperation { layer: name, operation: self.op.clone(), known });
        };
        let attributes = Value::Object(self.attributes.clone().into_iter().collect());
        let mut operation = (entry.from_attributes)(&attributes)
            .map_err(|source| ModelError::Attributes { layer: name.clone(), source })?;
        operation.set_layer(index as u32);
        let is_layer = [Pass::Forward, Pass::BackwardInput].iter().all(|&pass| !operation.tensors(pass).is_empty());
        if !is_layer {
            return Err(ModelError::NotALayer { layer: name, operation: self.op.clone() });
        }
        let shape = |source| ModelError::Shape { layer: name.clone(), input, source };
        let output = operation.output(input).map_err(shape)?;
        output.elements().map_err(shape)?;
        let parameters = operation.parameters(input).map_err(shape)?;
        for parameter in &parameters {
            parameter.elements().map_err(shape)?;
        }
        Ok(Layer { name: name.clone(), operation: Arc::from(operation), input, output, parameters })
    }
}
