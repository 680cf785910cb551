//! What a source hands to the filters: runs of whole lines of one log.

/// The longest line that is matched whole, in bytes without its newline. What is longer
/// is cut here and is *unresolved* unless its beginning already matches.
pub const MAX_LINE: usize = 128 * 1024;

/// One or more whole lines that stand one after the other in a log.
///
/// Every line ends in `\n`. Bytes need not be UTF-8; `\r` before the newline is still there.
/// Logs in an encoding other than ASCII or UTF-8 are converted to UTF-8 by the source.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// The lines with their newlines.
    pub bytes: &'a [u8],
    /// Whether the last line was longer than [`MAX_LINE`] and lost its end. Such a line
    /// always comes in a block of its own.
    pub cut: bool,
}

/// One record of a journal: its time is known, so no date is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// When it was written.
    pub time: crate::time::Time,
    /// The text the filters see, without a newline at its end.
    pub text: &'a [u8],
}

/// Records of a journal, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Records<'a> {
    /// Their texts, each with a newline at its end and none inside.
    pub bytes: &'a [u8],
    /// One for each text.
    pub stamps: &'a [Stamp],
}

/// What is known of a record beside its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Where the text ends, before its newline, in bytes from the first text's beginning.
    pub end: usize,
    /// When it was written.
    pub time: crate::time::Time,
    /// It was written after reading began, so it is of now.
    pub current: bool,
    /// It was longer than [`MAX_LINE`] and lost its end.
    pub cut: bool,
}
