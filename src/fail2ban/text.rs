//! Text that remembers where each part of it was written.
//!
//! An option's value is put together from several files: interpolated, continued over lines,
//! spliced into tags. When the third regex of a filter is wrong, the administrator wants to
//! see the one line that holds it; so each piece keeps its [`Span`] through all of that.

use std::ops::Range;

use crate::config::Span;

/// The longest value, in bytes, after everything was put in.
pub const MAX_VALUE: usize = 1 << 20;

/// A text and the places its pieces come from.
#[derive(Clone, Debug, Default)]
pub struct Text {
    text: String,
    /// From which byte on the text comes from which place; ascending. Within one entry,
    /// characters stand in the file as they do here.
    places: Vec<(usize, Option<Span>)>,
}

/// A value would have become longer than [`MAX_VALUE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Text {
    /// A text that stands at `span`.
    pub fn new(text: impl Into<String>, span: Option<Span>) -> Text {
        Text { text: text.into(), places: vec![(0, span)] }
    }

    /// The text alone.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Where the text begins.
    #[must_use]
    pub fn span(&self) -> Option<Span> {
        self.span_at(0)
    }

    /// Where the character at this byte was written.
    #[must_use]
    pub fn span_at(&self, offset: usize) -> Option<Span> {
        let offset = offset.min(self.text.len());
        let after = self.places.partition_point(|(start, _)| *start <= offset);
        let (start, span) = self.places.get(after.checked_sub(1)?)?;
        let mut span = span.clone()?;
        let before = self.text.get(*start..offset).unwrap_or("");
        span.column = span.column.saturating_add(u32::try_from(before.chars().count()).unwrap_or(u32::MAX));
        Some(span)
    }

    /// Adds what stands at `span`.
    pub fn push_str(&mut self, text: &str, span: Option<Span>) {
        self.places.push((self.text.len(), span));
        self.text.push_str(text);
    }

    /// Adds another text with its places.
    ///
    /// # Errors
    /// If the result were longer than [`MAX_VALUE`].
    pub fn append(&mut self, other: &Text) -> Result<(), TooLong> {
        if self.text.len() + other.text.len() > MAX_VALUE {
            return Err(TooLong);
        }
        let base = self.text.len();
        self.places.extend(other.places.iter().map(|(start, span)| (base + start, span.clone())));
        self.text.push_str(&other.text);
        Ok(())
    }

    /// A part of the text, with its places.
    ///
    /// # Panics
    /// If the range does not lie on characters of the text.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Text {
        let mut places = vec![(0, self.span_at(range.start))];
        let first = self.places.partition_point(|(start, _)| *start <= range.start);
        let within = self.places[first..].iter().take_while(|(start, _)| *start < range.end);
        places.extend(within.map(|(start, span)| (start - range.start, span.clone())));
        Text { text: self.text[range].to_owned(), places }
    }

    /// The text without blanks at both ends, as Python strips.
    #[must_use]
    pub fn trim(&self) -> Text {
        let start = self.text.len() - self.text.trim_start_matches(super::ini::is_space).len();
        let end = start + self.text[start..].trim_end_matches(super::ini::is_space).len();
        self.slice(start..end)
    }

    /// The parts between newlines.
    #[must_use]
    pub fn lines(&self) -> Vec<Text> {
        let mut start = 0;
        self.text
            .split('\n')
            .map(|line| {
                let part = self.slice(start..start + line.len());
                start += line.len() + 1;
                part
            })
            .collect()
    }

    /// Puts `new` wherever `old` stands, without looking at what was put in.
    ///
    /// # Errors
    /// If the result were longer than [`MAX_VALUE`].
    pub fn replace(&self, old: &str, new: &Text) -> Result<Text, TooLong> {
        let mut result = Text::default();
        let mut end = 0;
        for (start, _) in self.text.match_indices(old) {
            result.append(&self.slice(end..start))?;
            result.append(new)?;
            end = start + old.len();
        }
        result.append(&self.slice(end..self.text.len()))?;
        Ok(result)
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.text == other
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;

    fn at(line: u32, column: u32) -> Option<Span> {
        Some(Span { file: Arc::new(PathBuf::from("f")), line, column })
    }

    #[test]
    fn pieces_keep_their_places_through_splices() {
        let mut text = Text::new("ab<x>cd", at(1, 5));
        text.push_str("\n", at(1, 12));
        text.push_str("second", at(2, 3));
        let text = text.replace("<x>", &Text::new("INSERTED", at(9, 1))).unwrap();
        assert_eq!(text.as_str(), "abINSERTEDcd\nsecond");
        assert_eq!(text.span_at(1), at(1, 6));
        assert_eq!(text.span_at(4), at(9, 3));
        assert_eq!(text.span_at(10), at(1, 10));
        assert_eq!(text.lines()[1].span_at(2), at(2, 5));
    }

    #[test]
    fn values_have_a_longest_length() {
        let mut text = Text::new("x".repeat(MAX_VALUE), None);
        assert_eq!(text.append(&Text::new("y", None)), Err(TooLong));
    }
}
