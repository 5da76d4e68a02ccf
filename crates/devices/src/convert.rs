//! Between the 4-byte elements of buffers and the f64 values of the reference.

use brigade_kernels::{ElementType, Scalars};

/// The values of elements.
pub(crate) fn from_words(words: &[u32], kind: ElementType) -> Vec<f64> {
    match kind {
        ElementType::F32 => words.iter().map(|&word| f64::from(f32::from_bits(word))).collect(),
        ElementType::U32 => words.iter().map(|&word| f64::from(word)).collect(),
    }
}

/// The elements of values, rounded.
pub(crate) fn to_words(values: &[f64], kind: ElementType, words: &mut [u32]) {
    for (word, &value) in words.iter_mut().zip(values) {
        *word = match kind {
            ElementType::F32 => (value as f32).to_bits(),
            ElementType::U32 => value as u32,
        };
    }
}

/// What changes from step to step, from its buffer; neutral values where the buffer is too small.
pub(crate) fn scalars(words: &[u32]) -> Scalars {
    let bytes = words.first_chunk::<{ Scalars::ELEMENTS }>().map(|words| bytemuck::cast(*words));
    bytes.map_or_else(Scalars::new, |bytes| Scalars::from_bytes(&bytes))
}
