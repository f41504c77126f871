//! Reasons why a scenario cannot be run: file, line, fields, expected and found.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A scenario that cannot be run. Prints as `file:line: message`, the line itself, and a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    path: PathBuf,
    /// Number, from 1, and text of the line in question.
    line: Option<(usize, String)>,
    message: String,
    hint: Option<String>,
}

impl Refusal {
    /// A refusal of the file as such.
    pub fn whole(path: &Path, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: None, message: message.into(), hint: None }
    }

    /// A refusal of the value at the byte range `at` of `text`.
    pub fn at(path: &Path, text: &str, at: Range<usize>, message: impl Into<String>) -> Self {
        let start = floor_to_char(text, at.start);
        let number = text[..start].matches('\n').count() + 1;
        let line = text.lines().nth(number - 1).unwrap_or_default().trim_end().to_owned();
        Self { line: Some((number, line)), ..Self::whole(path, message) }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The key on the refused line, if it is of the form `key = …`.
    pub fn key(&self) -> Option<&str> {
        let (_, line) = self.line.as_ref()?;
        line.split_once('=').map(|(key, _)| key.trim())
    }
}

fn floor_to_char(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0)
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        match &self.line {
            Some((number, line)) => write!(f, ":{number}: {}\n  {number} | {line}", self.message)?,
            None => write!(f, ": {}", self.message)?,
        }
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}
