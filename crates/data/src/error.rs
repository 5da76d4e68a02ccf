//! What can be wrong with a data set.

use std::path::PathBuf;

use crate::Shape;

/// Why a data set could not be opened or read.
///
/// Each message names the file, the place in it, what was wanted, what was found and how to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// No data set of that name.
    #[error("there is no data set `{found}`; known are {known}")]
    UnknownKind {
        /// The name asked for.
        found: String,
        /// The names there are, separated by commas.
        known: String,
    },
    /// A setting that cannot be, or that does not belong to this kind of data set.
    #[error("setting `{setting}` of the data set: {reason}")]
    Setting {
        /// The field of [`crate::Spec`], or the argument, at fault.
        setting: &'static str,
        /// What is wrong with it and what would be right.
        reason: String,
    },
    /// A data set that lies in files, and no path to them.
    #[error("data set `{kind}` needs a path to a folder that holds {wanted}; `glyphs` and `synthetic` need none")]
    NoPath {
        /// The data set's name.
        kind: &'static str,
        /// The files that it consists of.
        wanted: String,
    },
    /// The path is not there, or the files are not in it.
    #[error("data set `{kind}`: no {what} at `{}`; looked for {looked_for}; put the file there, or give the path of the folder that holds it", .folder.display())]
    Missing {
        /// The data set's name.
        kind: &'static str,
        /// The part that is missing.
        what: String,
        /// Where it was looked for.
        folder: PathBuf,
        /// The names that were tried.
        looked_for: String,
    },
    /// The operating system, or the unpacking of a gzip file, reported an error.
    #[error("`{}`: cannot {doing}: {source}; see that the file is whole and readable", .file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// What was being done to it.
        doing: &'static str,
        /// The cause.
        source: std::io::Error,
    },
    /// An IDX file does not begin as one.
    #[error("`{}`: wanted {wanted:#010x} at byte 0, found {found:#010x}: not an IDX file of {what}; replace it by the original", .file.display())]
    Magic {
        /// The file.
        file: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// The wanted first four bytes, big-endian.
        wanted: u32,
        /// The first four bytes, big-endian.
        found: u32,
    },
    /// A file is shorter or longer than its header says.
    #[error("`{}`: wanted {wanted} bytes by its header, found {}{found}; the file was cut short or grew: replace it by the original", .file.display(), if .found > .wanted { "at least " } else { "" })]
    Length {
        /// The file.
        file: PathBuf,
        /// Length in bytes (unpacked) that the header asks for.
        wanted: u64,
        /// Length in bytes (unpacked) found; reading stops one byte past `wanted`.
        found: u64,
    },
    /// An IDX file whose pictures are too large to be indexed.
    #[error("`{}`: pictures of {rows} rows and {columns} columns by its header, and at most {most} pixels are possible; replace it by the original", .file.display())]
    Pixels {
        /// The file.
        file: PathBuf,
        /// Rows of each picture, by the header.
        rows: u32,
        /// Columns, by the header.
        columns: u32,
        /// Most pixels of a picture.
        most: usize,
    },
    /// A gzip file is too small to hold what its header says.
    #[error("`{}`: wanted {wanted} bytes by its header, and {packed} packed bytes cannot hold so many; replace it by the original", .file.display())]
    Packed {
        /// The file.
        file: PathBuf,
        /// Length in bytes (unpacked) that the header asks for.
        wanted: u64,
        /// Length of the packed file in bytes.
        packed: u64,
    },
    /// A CIFAR-10 file is not a whole number of records.
    #[error("`{}`: wanted a multiple of {record} bytes, found {found}: {} bytes past record {}; replace it by the original binary version", .file.display(), .found % .record, .found / .record)]
    Record {
        /// The file.
        file: PathBuf,
        /// Length of a record in bytes.
        record: u64,
        /// Length of the file in bytes.
        found: u64,
    },
    /// Not as many labels as pictures.
    #[error("`{}` has {pictures} pictures and `{}` has {count} labels; both must be of the same split", .images.display(), .labels.display())]
    Count {
        /// The file of pictures.
        images: PathBuf,
        /// The file of labels.
        labels: PathBuf,
        /// Number of pictures.
        pictures: usize,
        /// Number of labels.
        count: usize,
    },
    /// Nothing there.
    #[error("`{}` is empty: wanted at least one picture of at least one pixel", .place.display())]
    Empty {
        /// The file or folder.
        place: PathBuf,
    },
    /// A label that names no class.
    #[error("`{}`: sample {sample} has label {label}, and there are {classes} classes (0 to {}); correct the label or the number of classes", .file.display(), .classes.saturating_sub(1))]
    Label {
        /// The file, or the name of the data set.
        file: PathBuf,
        /// Number of the sample in that file, from 0.
        sample: usize,
        /// Its label.
        label: u32,
        /// Number of classes.
        classes: usize,
    },
    /// A file that cannot be decoded as a picture.
    #[error("picture `{}`: {reason}; remove it, or allow some to be left out with --skip-bad", .file.display())]
    Picture {
        /// The file.
        file: PathBuf,
        /// What the decoder said.
        reason: String,
    },
    /// A picture that would take too much memory, refused from its header.
    #[error("picture `{}`: {width}×{height} pixels, and at most {limit} are allowed; make it smaller, or allow some to be left out with --skip-bad", .file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// Pixels in a row, by the header.
        width: u32,
        /// Rows, by the header.
        height: u32,
        /// The limits, in words.
        limit: String,
    },
    /// More bad pictures than allowed.
    #[error("{found} pictures are bad so far, and --skip-bad allows {allowed}; the first: {first}")]
    TooManyBad {
        /// How many may be left out.
        allowed: usize,
        /// How many were found bad, in the splits looked at so far.
        found: usize,
        /// What is wrong with the first, in order of class and name.
        first: String,
    },
    /// A picture of another size than the first one.
    #[error("picture `{}` is {} rows × {} columns and the others are {} × {}; give a size to bring all to (`resize`)", .file.display(), .found.0, .found.1, .wanted.0, .wanted.1)]
    PictureSize {
        /// The file.
        file: PathBuf,
        /// Rows and columns of the first picture.
        wanted: (usize, usize),
        /// Rows and columns of this one.
        found: (usize, usize),
    },
    /// Training and test split are of different shapes.
    #[error(
        "data set `{name}`: training pictures are {train} and test pictures are {test}; both splits must be of one data set"
    )]
    Splits {
        /// Name of the data set.
        name: String,
        /// Shape of the training pictures.
        train: Shape,
        /// Shape of the test pictures.
        test: Shape,
    },
    /// The class folders of the two splits differ.
    #[error("`{}`: classes differ: only in train: {only_train:?}, only in test: {only_test:?}; both folders need the same sub-folders", .folder.display())]
    Classes {
        /// The folder that holds `train` and `test`.
        folder: PathBuf,
        /// Classes without a test folder.
        only_train: Vec<String>,
        /// Classes without a training folder.
        only_test: Vec<String>,
    },
    /// The machine has not that much memory.
    #[error("{what}: {bytes} bytes of memory are not to be had; make the data set or the batch smaller")]
    Memory {
        /// What the memory is for.
        what: String,
        /// How much was asked for, saturated at `u64::MAX`.
        bytes: u64,
    },
    /// A sample that is not there.
    #[error("sample {index} was asked for, and there are {count} (0 to {})", .count.saturating_sub(1))]
    Index {
        /// The sample asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// The thread that prepares batches could not start, or panicked.
    #[error("the loader's thread failed: {cause}; this is a bug in Brigade or a lack of threads")]
    Loader {
        /// The message of the panic or of the operating system.
        cause: String,
    },
}

impl DataError {
    /// Whether the settings are at fault and not the data: a mistake in the command line or the run file.
    pub fn is_setting(&self) -> bool {
        matches!(self, Self::UnknownKind { .. } | Self::Setting { .. })
    }
}
