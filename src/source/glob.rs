//! Which files a `logpath` means: `*`, `?` and `[…]` within a path component, as in Python's
//! `glob`: no braces, no `**`, and a leading dot has to be written.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

/// A path in its components, some of them patterns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    components: Vec<(Vec<u8>, bool)>,
    root: PathBuf,
}

/// The files that match now, and where others may appear.
#[derive(Debug, Default)]
pub(super) struct Expansion {
    pub(super) files: Vec<PathBuf>,
    /// Directories with the index of the component that their entries are matched with.
    pub(super) directories: Vec<(PathBuf, usize)>,
}

impl Glob {
    /// `literal`: characters have no special meaning.
    pub(super) fn new(path: &Path, literal: bool) -> Glob {
        let mut root = PathBuf::new();
        let mut components = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => {
                    let magic = !literal && name.as_bytes().iter().any(|byte| b"*?[".contains(byte));
                    components.push((name.as_bytes().to_vec(), magic));
                }
                Component::CurDir => {}
                // a `..` in front belongs to the place where the search starts
                other if components.is_empty() => root.push(other),
                other => components.push((other.as_os_str().as_bytes().to_vec(), false)),
            }
        }
        Glob { components, root }
    }

    /// Whether the component with this index matches a name, and whether it is the last.
    pub(super) fn matches(&self, index: usize, name: &OsStr) -> Option<bool> {
        let (pattern, magic) = self.components.get(index)?;
        let matches = if *magic { name_matches(pattern, name.as_bytes()) } else { *pattern == name.as_bytes() };
        matches.then_some(index + 1 == self.components.len())
    }

    /// Looks at the file system. A literal path that does not exist has no file; the nearest
    /// directory that exists is among the directories.
    pub(super) fn expand(&self) -> Expansion {
        let mut found = Expansion::default();
        let root = if self.root.as_os_str().is_empty() { PathBuf::from(".") } else { self.root.clone() };
        self.walk(&root, 0, &mut found);
        found
    }

    fn walk(&self, directory: &Path, index: usize, found: &mut Expansion) {
        let Some((pattern, magic)) = self.components.get(index) else { return };
        let last = index + 1 == self.components.len();
        let enter = |path: PathBuf, found: &mut Expansion| {
            if last {
                found.files.push(path);
            } else {
                self.walk(&path, index + 1, found);
            }
        };
        if *magic {
            found.directories.push((directory.to_owned(), index));
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                if name_matches(pattern, entry.file_name().as_bytes())
                    && fs::metadata(entry.path())
                        .is_ok_and(|metadata| if last { metadata.is_file() } else { metadata.is_dir() })
                {
                    enter(entry.path(), found);
                }
            }
            return;
        }
        let path = directory.join(OsStr::from_bytes(pattern));
        let exists = fs::metadata(&path).is_ok_and(|metadata| last || metadata.is_dir());
        // entries of a directory on the way matter only as long as the next one is missing;
        // its own end is seen by whoever watches it
        if last || !exists {
            found.directories.push((directory.to_owned(), index));
        }
        if exists {
            enter(path, found);
        }
    }
}

/// Whether a name matches a pattern; in time proportional to the product of their lengths.
fn name_matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    let (mut p, mut n) = (0, 0);
    // where the last star stands, and how much of the name it covers so far
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let next = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some(b'?') => Some(p + 1),
            Some(b'[') => match class(&pattern[p..], name[n]) {
                Some((length, true)) => Some(p + length),
                Some((_, false)) => None,
                None => (name[n] == b'[').then_some(p + 1),
            },
            Some(byte) => (*byte == name[n]).then_some(p + 1),
            None => None,
        };
        match (next, star) {
            (Some(next), _) => {
                p = next;
                n += 1;
            }
            (None, Some((after, covered))) => {
                star = Some((after, covered + 1));
                p = after;
                n = covered + 1;
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// The length of a `[…]` and whether the byte is in it; `None` if it is not closed.
fn class(pattern: &[u8], byte: u8) -> Option<(usize, bool)> {
    let negated = pattern.get(1) == Some(&b'!');
    let start = if negated { 2 } else { 1 };
    // a `]` at the beginning is a member
    let end = start + 1 + pattern.get(start + 1..)?.iter().position(|b| *b == b']')?;
    let members = &pattern[start..end];
    let mut index = 0;
    let mut inside = false;
    while index < members.len() {
        if index + 2 < members.len() && members[index + 1] == b'-' {
            inside |= (members[index]..=members[index + 2]).contains(&byte);
            index += 3;
        } else {
            inside |= members[index] == byte;
            index += 1;
        }
    }
    Some((end + 1, inside != negated))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_pythons_glob() {
        for (pattern, name, expected) in [
            ("*.log", "a.log", true),
            ("*.log", ".log", false),
            (".*", ".log", true),
            ("*a*b*c", "xaxbxbxc", true),
            ("*a*b*c", "xaxbxbx", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]x", "]x", true),
            ("[a", "[a", true),
            ("**", "abc", true),
            ("{a,b}", "a", false),
        ] {
            assert_eq!(name_matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_names_its_files_and_the_places_where_more_may_appear() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for path in ["home/a/logs", "home/b"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        fs::write(at("home/a/logs/x.log"), "").unwrap();
        fs::create_dir(at("home/a/logs/dir.log")).unwrap();
        let found = Glob::new(&at("home/*/logs/*.log"), false).expand();
        assert_eq!(found.files, [at("home/a/logs/x.log")]);
        let mut places: Vec<PathBuf> = found.directories.into_iter().map(|(path, _)| path).collect();
        places.sort();
        assert_eq!(places, [at("home"), at("home/a/logs"), at("home/b")]);
        let found = Glob::new(&at("no/such/[x].log"), true).expand();
        assert_eq!((found.files.len(), &found.directories[0].0), (0, &folder.path().to_owned()));
    }
}
