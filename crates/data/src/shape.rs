//! The shape of a picture.

use serde::{Deserialize, Serialize};

use crate::DataError;

/// `C×H×W`: channels, rows and columns of a picture.
///
/// [`Shape::new`] is the only way to make one: none is empty and `C·H·W` fits in 31 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "[usize; 3]", into = "[usize; 3]")]
pub struct Shape {
    channels: usize,
    height: usize,
    width: usize,
}

impl Shape {
    /// Most values of a picture.
    pub(crate) const MOST: usize = 0x7fff_ffff;

    /// A picture of `channels` × `height` × `width` bytes.
    ///
    /// # Errors
    /// [`DataError::Setting`] where one of them is 0 or their product exceeds 2³¹ − 1.
    pub fn new(channels: usize, height: usize, width: usize) -> Result<Self, DataError> {
        let bytes = channels.checked_mul(height).and_then(|n| n.checked_mul(width));
        match bytes {
            Some(1..=Self::MOST) => Ok(Self { channels, height, width }),
            _ => Err(DataError::Setting {
                setting: "shape",
                reason: format!(
                    "{channels}×{height}×{width} (channels × rows × columns) must have between 1 and {} values",
                    Self::MOST
                ),
            }),
        }
    }

    /// `C`, the number of channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// `H`, the number of rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// `W`, the number of columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// `H·W`, the number of values of one channel.
    pub fn plane(&self) -> usize {
        self.height * self.width
    }

    /// `C·H·W`, the number of values of one picture.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.channels * self.plane()
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}×{}×{}", self.channels, self.height, self.width)
    }
}

impl From<Shape> for [usize; 3] {
    fn from(shape: Shape) -> Self {
        [shape.channels, shape.height, shape.width]
    }
}

impl TryFrom<[usize; 3]> for Shape {
    type Error = DataError;

    fn try_from([channels, height, width]: [usize; 3]) -> Result<Self, DataError> {
        Self::new(channels, height, width)
    }
}
