//! The annotated sample logs of Debian's package: what the stock filters are to find in them.
//!
//! Lines, annotations and filters are read where the package installed them. A line is judged in
//! the way of the annotations' format: raw host names, a fixed clock, every time accepted.

use std::path::Path;
use std::process::Command;

use sekimori::address::Id;
use sekimori::config::{UseDns, settings::Compat};
use sekimori::fail2ban::text::Text;
use sekimori::fail2ban::{compile, date, filter};
use sekimori::filter::exact::Cache;
use sekimori::filter::{Clock, Datum, Failure, Who, record};
use sekimori::line::Record;
use sekimori::time::Time;
use serde_json::Value;

/// Reads the annotations (their conditions are Python) and prints one job for each filter and option set.
const READER: &str = r##"
import json, os, re, sys
root = "/usr/lib/python3/dist-packages/fail2ban/tests/files/logs"
def directives(name):
    pending = None
    for line in open(os.path.join(root, name), encoding="utf-8", errors="surrogateescape", newline="\n"):
        line = line.rstrip("\r\n")
        found = re.match(r"^#+ ?(failJSON|fileOptions|filterOptions|addFILE):(.+)$", line) if pending is None else None
        if found:
            value = json.loads(found.group(2))
            if found.group(1) == "failJSON": pending = value
            else: yield found.group(1), value
        elif pending is not None or (line and not line.startswith("#")):
            yield "line", (line, pending or {}); pending = None
def run(name, filtername, jobs, base, active):
    for kind, value in directives(name):
        if kind == "fileOptions": base = value
        elif kind == "addFILE": run(value, filtername, jobs, base, active)
        elif kind == "filterOptions":
            active = []
            for opts in value if isinstance(value, list) else [value]:
                opts = {**base, **opts}
                condition = opts.get("test.condition")
                if condition and not eval(condition, {"name": filtername, "opts": opts}): active = []; continue
                args = {k: v for k, v in opts.items() if not k.startswith("test.")}
                key = json.dumps(args, sort_keys=True)
                job = jobs.setdefault(key, {"filter": filtername, "args": args, "lines": []})
                active.append((job, opts))
        else:
            line, note = value
            if active is None:
                active = [(jobs.setdefault("{}", {"filter": filtername, "args": {}, "lines": []}), {})]
            for job, opts in active:
                constraint = note.get("constraint")
                if constraint and not eval(constraint, {"name": filtername, "opts": opts}): continue
                prefix = opts.get("test.prefix-line", "") if opts.get("logtype") == "journal" else ""
                text = (prefix + line).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
                job["lines"].append([text, note])
for name in sorted(os.listdir(root)):
    if not os.path.isfile(os.path.join(root, name)) or not os.path.exists("/etc/fail2ban/filter.d/%s.conf" % name): continue
    jobs = {}
    run(name, name, jobs, {}, None)
    for job in jobs.values(): print(json.dumps(job))
"##;

/// 2005-08-14T10:00:00Z, the day the annotations live in.
pub(super) const NOW: i64 = 1_124_013_600;

pub(super) fn compiled(name: &str, arguments: &serde_json::Map<String, Value>) -> Result<record::Filter, String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let arguments = arguments.iter().map(|(key, value)| (key.clone(), Text::new(text(value), None))).collect();
    let (resolved, _) =
        filter::read(Path::new("/etc/fail2ban"), Vec::new(), name, arguments, "auto", Compat::default())
            .map_err(|found| format!("{found:?}"))?;
    let settings = resolved.settings(UseDns::Raw);
    compile::compile(&settings, date::Options::server(2026))
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

/// What an annotation and a result disagree about.
fn difference(note: &Value, failures: &[Failure], clock: &Clock, journal: bool) -> Option<String> {
    let wanted = note["match"].as_bool().unwrap_or(false);
    let [failure] = failures else {
        return (wanted || !failures.is_empty())
            .then(|| format!("expected match {wanted}, got {} results", failures.len()));
    };
    if !wanted {
        return Some("matched, but should not".to_owned());
    }
    let datum = |name: &str| failure.data.iter().find(|(known, _)| &**known == name).map(|(_, datum)| datum);
    let shown = |datum: &Datum| match datum {
        Datum::Text(text) => serde_json::json!(&**text),
        Datum::Set(texts) => {
            let mut texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
            texts.sort_unstable();
            serde_json::json!(texts)
        }
        Datum::Tuple(texts) => serde_json::json!(texts.iter().map(Option::as_deref).collect::<Vec<_>>()),
    };
    for (key, expected) in note.as_object().unwrap() {
        let found = match key.as_str() {
            "match" | "desc" | "constraint" => continue,
            "time" if journal => continue,
            "time" => {
                let text = expected.as_str().unwrap();
                // one or two days and hours are written with a single digit
                let (day, hour) = text.split_once('T').unwrap();
                let day: Vec<String> = day.split('-').map(|part| format!("{part:0>2}")).collect();
                let hour = if hour.find(':') == Some(1) { format!("0{hour}") } else { hour.to_owned() };
                let local: jiff::civil::DateTime = format!("{}T{hour}", day.join("-")).parse().unwrap();
                let time = clock.zone.to_timestamp(local).unwrap();
                let expected = Time::from_micros(time.as_microsecond());
                if failure.time == Some(expected) {
                    continue;
                }
                return Some(format!("time {text}, got {:?}", failure.time));
            }
            "attempts" => serde_json::json!(failure.matches.len()),
            "host" => match (datum("host"), &failure.who) {
                (Some(host), _) => shown(host),
                // equal as addresses, however they are written
                (None, Who::Id(id)) if expected.as_str().is_some_and(|text| Id::parse(text) == *id) => continue,
                (None, Who::Id(id)) => serde_json::json!(id.to_string()),
                (None, Who::Name(name)) => serde_json::json!(&**name),
            },
            other => datum(other).map_or(Value::Null, shown),
        };
        let mut expected = expected.clone();
        if let (Value::Array(list), "users") = (&mut expected, key.as_str()) {
            list.sort_by_key(ToString::to_string);
        }
        if found != expected {
            return Some(format!("{key} {expected}, got {found}"));
        }
    }
    None
}

/// The annotated lines, one job for each filter and set of its arguments.
pub fn jobs() -> Vec<Value> {
    let output = Command::new("python3").args(["-c", READER]).output().expect("python3 is needed: run tests/setup");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(|job| serde_json::from_str(job).unwrap()).collect()
}

#[test]
fn the_annotated_lines_mean_what_they_say() {
    let clock =
        Clock { now: Time::from_seconds(NOW), zone: jiff::tz::TimeZone::posix("CET-1CEST-2,M3.5.0,M10.5.0").unwrap() };
    let (mut checks, mut wrong) = (0, Vec::new());
    for job in jobs() {
        let (name, lines) = (job["filter"].as_str().unwrap(), job["lines"].as_array().unwrap());
        let arguments = job["args"].as_object().unwrap();
        // a journal's records are dated: nothing is cut out of them
        let journal = arguments.get("logtype").is_some_and(|logtype| logtype == "journal");
        let filter = match compiled(name, arguments) {
            Ok(filter) => filter,
            Err(error) => {
                wrong.push(format!("{name} {}: {error}", job["args"]));
                continue;
            }
        };
        let (mut state, mut cache) = (record::State::default(), Cache::default());
        for line in lines {
            let mut failures = Vec::new();
            let text = line[0].as_str().unwrap();
            let options = record::Options::default();
            if journal {
                let record = Record { time: clock.now, text: text.as_bytes() };
                filter.record(&mut state, &mut cache, &record, &clock, options, &mut failures);
            } else {
                filter.line(&mut state, &mut cache, text, &clock, options, &mut failures);
            }
            checks += 1;
            if let Some(difference) = difference(&line[1], &failures, &clock, journal) {
                wrong.push(format!("{name} {}: {difference}\n    {text}", job["args"]));
            }
        }
    }
    println!("{checks} checks, {} deviations", wrong.len());
    assert!(wrong.is_empty(), "{} of {checks} deviate:\n{}", wrong.len(), wrong.join("\n"));
    // what the package of Debian 12 has
    assert_eq!(checks, 1_381);
}
