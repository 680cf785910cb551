//! Messages of real servers, where the file of them is at hand; it is not part of this repository.

use std::path::Path;

use crate::control::Value;

pub(in crate::fail2ban) const END: &[u8] = super::END;

/// One request and what came of it.
pub(in crate::fail2ban) struct Capture {
    pub version: String,
    pub command: Option<Value>,
    pub request: Vec<u8>,
    pub reply: Vec<u8>,
    pub beautified: Option<String>,
    /// Whether it is everything that a client sent and got, in several messages.
    pub session: bool,
}

/// From the directory `SEKIMORI_CAPTURES`, else from beside the repository.
pub(in crate::fail2ban) fn load() -> Option<Vec<Capture>> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/spec");
    let directory = std::env::var_os("SEKIMORI_CAPTURES").map_or(beside, Into::into);
    let Ok(text) = std::fs::read_to_string(directory.join("socket-captures.jsonl")) else {
        eprintln!("no captured messages: set SEKIMORI_CAPTURES to the directory of socket-captures.jsonl");
        return None;
    };
    let captures: Vec<Capture> = text
        .lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| row[name].as_str().map(str::to_owned);
            let command = (!row["command"].is_null()).then(|| super::from_json(row["command"].clone()));
            Capture {
                version: text("server_version").unwrap(),
                session: row["command"][0] == "fail2ban-client",
                command,
                request: unhex(&text("request_hex").unwrap()),
                reply: unhex(&text("reply_hex").unwrap_or_default()),
                beautified: text("beautified"),
            }
        })
        .collect();
    assert!(captures.len() > 400);
    Some(captures)
}

pub(in crate::fail2ban) fn unhex(text: &str) -> Vec<u8> {
    let digits = text.trim().as_bytes();
    digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}
