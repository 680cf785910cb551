//! Holds the sources against the one table of who may use whom.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const LEAVES: &[&str] = &["address", "config", "control", "line", "time"];

/// module -> modules it may use besides itself.
fn allowed() -> BTreeMap<&'static str, Vec<&'static str>> {
    let with = |more: &[&'static str]| [LEAVES, more].concat();
    BTreeMap::from([
        ("address", vec![]),
        ("time", vec![]),
        ("line", vec!["time"]),
        ("config", vec!["address", "time"]),
        ("control", vec!["address", "config", "time"]),
        ("filter", with(&[])),
        ("jail", with(&["filter"])),
        ("fail2ban", with(&["filter", "jail"])),
        ("source", with(&[])),
        ("firewall", with(&["jail"])),
        ("action", with(&["jail"])),
        ("state", with(&["jail"])),
        ("lookup", with(&[])),
        ("report", with(&["filter"])),
        ("server", with(&["filter", "jail", "fail2ban", "source", "firewall", "action", "state"])),
        ("cli", with(&["filter", "fail2ban", "source", "lookup", "report", "server"])),
    ])
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn modules_use_only_what_comes_before_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let allowed = allowed();
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&root).unwrap();
        let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = first.trim_end_matches(".rs");
        if module == "main" || module == "lib" {
            continue;
        }
        let may =
            allowed.get(module).unwrap_or_else(|| panic!("`{module}` is not in the table of tests/architecture.rs"));
        for (number, line) in std::fs::read_to_string(&file).unwrap().lines().enumerate() {
            for used in line.split("crate::").skip(1) {
                let names = used.strip_prefix('{').map_or(vec![used], |list| list.split(',').collect());
                for name in names {
                    let name: String = name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    if name != module && allowed.contains_key(name.as_str()) && !may.contains(&name.as_str()) {
                        wrong.push(format!("{}:{}: `{module}` must not use `{name}`", relative.display(), number + 1));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
