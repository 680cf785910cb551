//! Reports as programs read them: X-ARF 0.2 (YAML, <http://www.x-arf.org>) and XARF 4 (JSON,
//! <https://github.com/xarf/xarf-spec>).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::kind::Xarf;
use super::{Incident, utc};

/// The version of XARF 4 that is written.
const VERSION: &str = "4.2.0";

/// A log of the attacked service itself names the address; that it could have been forged is the rest.
const CONFIDENCE: f64 = 0.9;

/// Who reports.
#[derive(Clone, Debug)]
pub struct Reporter<'a> {
    /// The organisation, at most 200 characters of it are told.
    pub organisation: &'a str,
    /// Its mail address.
    pub contact: &'a str,
    /// Its domain.
    pub domain: &'a str,
}

/// The redacted lines with their times, one a line.
#[must_use]
pub fn evidence(incident: &Incident) -> String {
    incident.lines.iter().fold(String::new(), |mut text, (time, line)| {
        let _ = writeln!(text, "{} {line}", utc(*time));
        text
    })
}

/// The YAML part of an X-ARF 0.2 message; `id` is unique, its domain is added.
#[must_use]
pub fn yaml(incident: &Incident, reporter: &Reporter<'_>, id: &str) -> String {
    let mut rows = vec![
        ("Reported-From", quoted(reporter.contact)),
        ("Category", "abuse".to_owned()),
        ("Report-Type", incident.kind.name.to_owned()),
        ("Report-ID", quoted(&format!("{id}@{}", reporter.domain))),
        ("Service", incident.kind.service.to_owned()),
        ("Version", "0.2".to_owned()),
        ("User-Agent", concat!("sekimori/", env!("CARGO_PKG_VERSION")).to_owned()),
        ("Date", utc(incident.last)),
        ("Source", quoted(&incident.address.to_string())),
        ("Source-Type", if incident.address.is_ipv4() { "ipv4" } else { "ipv6" }.to_owned()),
        ("Attachment", "text/plain".to_owned()),
        ("Schema-URL", quoted("http://www.x-arf.org/schema/abuse_login-attack_0.1.2.json")),
        ("Occurrences", incident.attempts.to_string()),
    ];
    if let Some(port) = incident.service_port() {
        rows.push(("Port", port.to_string()));
    }
    if let Some(port) = incident.port {
        rows.push(("Source-Port", port.to_string()));
    }
    if let Some(destination) = incident.destination {
        rows.push(("Destination", quoted(&destination.to_string())));
    }
    let lines: Vec<String> = rows.into_iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
    format!("---\n{}", lines.concat())
}

/// A YAML scalar in double quotes, which are JSON's.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// An XARF 4 document; none where no type fits: without a source port there is no login attack.
#[must_use]
pub fn json(incident: &Incident, reporter: &Reporter<'_>, id: &str) -> Option<Value> {
    let who = json!({
        "org": reporter.organisation.chars().take(200).collect::<String>(),
        "contact": reporter.contact,
        "domain": reporter.domain,
    });
    let evidence = evidence(incident);
    let hash: String = Sha256::digest(&evidence).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut report = json!({
        "xarf_version": VERSION,
        "report_id": id,
        "timestamp": utc(incident.last),
        "reporter": who,
        "sender": who,
        "source_identifier": incident.address.to_string(),
        "category": "connection",
        "protocol": incident.kind.protocol,
        "first_seen": utc(incident.first),
        "last_seen": utc(incident.last),
        "evidence_source": "automated_filter",
        "confidence": CONFIDENCE,
        "evidence": [{
            "content_type": "text/plain",
            "description": "Log lines, redacted; times are UTC",
            "payload": STANDARD.encode(&evidence),
            "hash": format!("sha256:{hash}"),
            "size": evidence.len(),
        }],
    });
    match (incident.kind.xarf, incident.port) {
        (Xarf::LoginAttack, Some(_)) => {
            report["type"] = json!("login_attack");
            if let Some(port) = incident.service_port() {
                report["destination_port"] = json!(port);
            }
        }
        (Xarf::WebScan, _) => {
            report["type"] = json!("vulnerability_scan");
            report["scan_type"] = json!("web_vuln_scan");
            report["targeted_services"] = json!([incident.kind.service]);
            report["targeted_ports"] = incident.service_port().into_iter().collect();
            report["total_requests"] = json!(incident.attempts);
        }
        (Xarf::LoginAttack, None) | (Xarf::None, _) => return None,
    }
    if let Some(port) = incident.port {
        report["source_port"] = json!(port);
    }
    if let Some(destination) = incident.destination {
        report["destination_ip"] = json!(destination.to_string());
    }
    Some(report)
}
