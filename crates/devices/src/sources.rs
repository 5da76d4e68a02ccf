//! Texts of shaders, each expanded once in the life of the process: devices compile the same ones, and tuning reads
//! them as well.

use std::collections::HashMap;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use brigade_kernels::{Shader, ShaderError};

/// What a text is expanded with.
pub(crate) type Definitions = Vec<(&'static str, u32)>;

/// A shader by its address, and what it is expanded with: the same text in another place is merely expanded again.
pub(crate) type Place = (usize, Definitions);

static SOURCES: Mutex<Option<HashMap<Place, Arc<str>>>> = Mutex::new(None);

/// What an expansion is known by.
pub(crate) fn place(shader: &'static Shader, definitions: &Definitions) -> Place {
    (ptr::from_ref(shader).addr(), definitions.clone())
}

/// The whole module.
///
/// # Errors
/// As [`Shader::source`].
pub(crate) fn source(shader: &'static Shader, definitions: &Definitions) -> Result<Arc<str>, ShaderError> {
    let place = place(shader, definitions);
    let mut sources = SOURCES.lock().unwrap_or_else(PoisonError::into_inner);
    let sources = sources.get_or_insert_default();
    if let Some(source) = sources.get(&place) {
        return Ok(Arc::clone(source));
    }
    let source: Arc<str> = shader.source(definitions)?.into();
    sources.insert(place, Arc::clone(&source));
    Ok(source)
}
