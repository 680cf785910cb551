//! From files to one configuration: layers, includes and their merge.
//!
//! `B.conf`, `B.d/*.conf`, `B.local`, `B.d/*.local`, each with what it includes, later ones
//! over earlier ones. What a later file overwrites stays reachable as `known/…`. Below the
//! configuration directory lie the vendor layers: a file that is not there comes from them.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;

use super::diagnostic::{Diagnostic, Severity};
use super::ini::{self, DEFAULT, File, MAX_FILE, Section};
use super::interpolate::Scope;
use super::text::Text;
use super::vendor;
use crate::config::Span;

/// How deep includes may nest.
pub const MAX_INCLUDE_DEPTH: usize = 16;
/// How many files one base name may be merged from.
pub const MAX_INCLUDES: usize = 256;
/// How many overwritten values of an option stay reachable by `known/`.
pub const MAX_KNOWN: usize = 10;

/// A place that files come from when the configuration directory lacks them.
#[derive(Clone, Debug)]
pub enum Vendor {
    /// A directory laid out as the configuration directory is.
    Directory(PathBuf),
    /// Files inside the program: relative path and text.
    Embedded(&'static [(&'static str, &'static str)]),
}

/// All files of a base name in one.
#[derive(Debug, Default)]
pub struct Merged {
    /// Options that hold in every section.
    pub defaults: Section,
    /// The other sections, without `DEFAULT`.
    pub sections: IndexMap<String, Section>,
    /// Where each section was first opened.
    pub headers: IndexMap<String, Span>,
    /// Overwritten values, oldest first: section, option.
    pub shadows: HashMap<String, HashMap<String, Vec<Text>>>,
    /// Sections with a parse error, and its text; `None` is the whole base name.
    pub broken: Vec<(Option<String>, String)>,
}

impl Merged {
    /// The error that makes a section unusable.
    #[must_use]
    pub fn broken(&self, section: &str) -> Option<&str> {
        let hit = |name: &Option<String>| name.as_deref().is_none_or(|n| n == section || n == DEFAULT);
        self.broken.iter().find(|(name, _)| hit(name)).map(|(_, text)| text.as_str())
    }
}

/// Reads files, each only once, and remembers their texts for messages.
#[derive(Debug)]
pub struct Files {
    directory: PathBuf,
    vendor: Vec<Vendor>,
    cache: HashMap<PathBuf, Option<Arc<File>>>,
    /// Text of each file that was read, by the path its spans carry.
    pub texts: HashMap<PathBuf, Arc<str>>,
    /// What was found wrong while reading.
    pub diagnostics: Vec<Diagnostic>,
}

impl Files {
    /// Files of a configuration directory, with what lies below it.
    #[must_use]
    pub fn new(directory: &Path, vendor: Vec<Vendor>) -> Files {
        Files {
            directory: directory.to_owned(),
            vendor,
            cache: HashMap::new(),
            texts: HashMap::new(),
            diagnostics: Vec::new(),
        }
    }

    /// The configuration directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Reads a base name (`jail`, `filter.d/sshd`); none if it has no readable file.
    pub fn read(&mut self, base: &str) -> Option<Merged> {
        let layers = self.layers(base);
        self.merged(&layers)
    }

    /// Reads one file, whatever its name, with what it includes and the `.local` beside it; none
    /// if there is neither.
    pub fn read_file(&mut self, path: &Path) -> Option<Merged> {
        self.merged(&[path.to_owned()])
    }

    fn merged(&mut self, layers: &[PathBuf]) -> Option<Merged> {
        let mut list = Vec::new();
        for path in layers {
            self.expand(path, layers, &mut vec![], &mut list);
        }
        let mut merged = Merged::default();
        let mut any = false;
        for path in list {
            if let Some(file) = self.load(&path) {
                any = true;
                merge(&mut merged, &file);
            }
        }
        any.then_some(merged)
    }

    /// Names that [`Files::read`] would find below a folder such as `filter.d`.
    #[must_use]
    pub fn names(&self, folder: &str) -> Vec<String> {
        let mut names = Vec::new();
        let mut add = |file: &str| {
            if let Some(stem) = file.strip_suffix(".conf").or_else(|| file.strip_suffix(".local")) {
                names.push(stem.to_owned());
            }
        };
        let mut folders = vec![self.directory.join(folder)];
        for vendor in &self.vendor {
            match vendor {
                Vendor::Directory(directory) => folders.push(directory.join(folder)),
                Vendor::Embedded(files) => {
                    files.iter().filter_map(|(p, _)| p.strip_prefix(folder)?.strip_prefix('/')).for_each(&mut add);
                }
            }
        }
        for entry in folders.iter().filter_map(|f| fs::read_dir(f).ok()).flatten().flatten() {
            add(&entry.file_name().to_string_lossy());
        }
        names.sort();
        names.dedup();
        names
    }

    /// The existing files of a base name, before includes.
    fn layers(&self, base: &str) -> Vec<PathBuf> {
        let stem = if base.starts_with("./") { PathBuf::from(base) } else { self.directory.join(base) };
        let with = |suffix: &str| {
            let mut name = stem.clone().into_os_string();
            name.push(suffix);
            PathBuf::from(name)
        };
        let mut list = vec![with(".conf")];
        list.extend(self.folder(&with(".d"), "conf"));
        list.push(with(".local"));
        list.extend(self.folder(&with(".d"), "local"));
        list.retain(|path| self.exists(path));
        list
    }

    fn folder(&self, folder: &Path, extension: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
        let mut found: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
                !name.starts_with('.') && name.strip_suffix(extension).is_some_and(|stem| stem.ends_with('.'))
            })
            .collect();
        found.sort_by(|a, b| a.to_string_lossy().cmp(&b.to_string_lossy()));
        found
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists() || self.vendor_file(path).is_some()
    }

    /// A file of the configuration directory that only a vendor layer has: its name and text.
    fn vendor_file(&self, path: &Path) -> Option<(PathBuf, io::Result<Vec<u8>>)> {
        let relative = normal(path).strip_prefix(normal(&self.directory)).ok()?.to_owned();
        self.vendor.iter().find_map(|vendor| match vendor {
            Vendor::Directory(directory) => {
                let path = directory.join(&relative);
                path.exists().then(|| (path.clone(), read_limited(&path)))
            }
            Vendor::Embedded(files) => {
                let (name, text) = files.iter().find(|(name, _)| Path::new(name) == relative)?;
                Some((Path::new(vendor::PLACE).join(name), Ok(text.as_bytes().to_vec())))
            }
        })
    }

    /// A file, the files it includes around it, and the `.local` beside it.
    fn expand(&mut self, path: &Path, siblings: &[PathBuf], ancestors: &mut Vec<PathBuf>, list: &mut Vec<PathBuf>) {
        if list.len() >= MAX_INCLUDES || ancestors.len() > MAX_INCLUDE_DEPTH {
            let text = if list.len() >= MAX_INCLUDES {
                format!("more than {MAX_INCLUDES} files are included")
            } else {
                format!("includes nest deeper than {MAX_INCLUDE_DEPTH}")
            };
            let place = Span { file: Arc::new(path.to_owned()), line: 1, column: 1 };
            if !self.diagnostics.iter().any(|known| known.text == text) {
                self.diagnostics.push(Diagnostic::error(Some(place), text));
            }
            return;
        }
        if let Some(file) = self.load(path) {
            let before = self.included(&file, path, "before");
            let after = self.included(&file, path, "after");
            for (index, paths) in [before, after].into_iter().enumerate() {
                if index == 1 {
                    list.push(path.to_owned());
                }
                for child in &paths {
                    if ancestors.contains(child) {
                        continue;
                    }
                    ancestors.push(child.clone());
                    self.expand(child, &paths, ancestors, list);
                    ancestors.pop();
                }
            }
        }
        let local = path.with_extension("local");
        if local != path && !siblings.contains(&local) && !ancestors.contains(&local) && self.exists(&local) {
            ancestors.push(local.clone());
            self.expand(&local, siblings, ancestors, list);
            ancestors.pop();
        }
    }

    fn included(&mut self, file: &File, path: &Path, option: &str) -> Vec<PathBuf> {
        if !file.sections.contains_key("INCLUDES") {
            return Vec::new();
        }
        let mut alone = Merged::default();
        merge(&mut alone, file);
        let vars = IndexMap::new();
        match (Scope { merged: &alone, section: "INCLUDES", vars: &vars }).get(option) {
            Ok(None) => Vec::new(),
            Ok(Some(value)) => {
                let folder = path.parent().unwrap_or(Path::new(""));
                let names = value.as_str().split('\n').map(|name| name.trim_matches(ini::is_space));
                names.filter(|name| !name.is_empty()).map(|name| folder.join(name)).collect()
            }
            Err(error) => {
                self.report(error.diagnostic());
                Vec::new()
            }
        }
    }

    /// Adds a finding, once.
    pub fn report(&mut self, diagnostic: Diagnostic) {
        if !self.diagnostics.contains(&diagnostic) {
            self.diagnostics.push(diagnostic);
        }
    }

    fn load(&mut self, path: &Path) -> Option<Arc<File>> {
        if let Some(known) = self.cache.get(path) {
            return known.clone();
        }
        let (name, content) =
            if path.exists() { (path.to_owned(), read_limited(path)) } else { self.vendor_file(path)? };
        let file = self.parse(name, content);
        self.cache.insert(path.to_owned(), file.clone());
        file
    }

    fn parse(&mut self, name: PathBuf, content: io::Result<Vec<u8>>) -> Option<Arc<File>> {
        let place = |line, column| Some(Span { file: Arc::new(name.clone()), line, column });
        let bytes = match content {
            Ok(bytes) => bytes,
            Err(error) => {
                let text = format!("cannot read this file: {error}");
                self.report(Diagnostic::error(place(1, 1), text));
                return None;
            }
        };
        let text: Arc<str> = match std::str::from_utf8(&bytes) {
            Ok(text) => text.into(),
            Err(error) => {
                let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
                let line = good.matches('\n').count() + 1;
                let column = good.rsplit('\n').next().unwrap_or("").chars().count() + 1;
                self.texts.insert(name.clone(), String::from_utf8_lossy(&bytes).into());
                let span = place(u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX));
                let text = "this file is not UTF-8 and is not used at all";
                self.report(Diagnostic::error(span, text).width(1).help("save it as UTF-8"));
                return None;
            }
        };
        let name = Arc::new(name);
        let file = ini::parse(&text, &name);
        self.texts.insert(name.to_path_buf(), text);
        for (section, error) in &file.errors {
            let mut error = error.clone();
            if section.is_none() {
                error.severity = Severity::Error;
            }
            self.report(error);
        }
        Some(Arc::new(file))
    }
}

/// The path without `.` and with `a/..` resolved by name alone.
fn normal(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(result.components().next_back(), Some(Component::Normal(_))) => {
                result.pop();
            }
            part => result.push(part),
        }
    }
    result
}

fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("it is larger than {MAX_FILE} bytes")));
    }
    Ok(bytes)
}

/// A section name with a condition: `Init?family=inet6` belongs to `Init`.
fn conditional(name: &str) -> Option<(&str, &str)> {
    let mark = name.find('?')?;
    let (section, condition) = name.split_at(mark);
    let word = !section.is_empty() && section.chars().all(|c| c.is_alphanumeric() || c == '_');
    (word && condition.len() > 1).then_some((section, condition))
}

/// Lays one file over what was read before.
fn merge(merged: &mut Merged, file: &File) {
    merged.broken.extend(file.errors.iter().map(|(section, error)| (section.clone(), error.to_string())));
    for (name, span) in &file.headers {
        let name = conditional(name).map_or(name.as_str(), |(section, _)| section);
        merged.headers.entry(name.to_owned()).or_insert_with(|| span.clone());
    }
    for (name, options) in &file.sections {
        if name == DEFAULT {
            for (option, value) in options {
                merged.defaults.insert(option.clone(), value.clone());
            }
            continue;
        }
        let (name, condition) = conditional(name).unwrap_or((name, ""));
        let shadows = merged.shadows.entry(name.to_owned()).or_default();
        let section = merged.sections.entry(name.to_owned()).or_default();
        for (option, value) in options {
            let option = format!("{option}{condition}");
            let old = section.insert(option.clone(), value.clone());
            // The same file twice is not a new value: `known/` would lead to itself.
            if let Some(old) = old.filter(|old| old.span() != value.span()) {
                let known = shadows.entry(option).or_default();
                if known.len() == MAX_KNOWN {
                    known.remove(0);
                }
                known.push(old);
            }
        }
    }
}
