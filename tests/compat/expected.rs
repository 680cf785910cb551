//! Real logs and what Fail2Ban found in them, kept outside of the repository: every line of
//! every file with every stock filter in every mode, those included that are to find nothing.
//!
//! `SEKIMORI_SAMPLES` names the folder; without it, it is looked for beside the repository.
//! Where there is none, the test says so and passes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use sekimori::config::{UseDns, settings::Compat};
use sekimori::fail2ban::text::Text;
use sekimori::fail2ban::{compile, date, filter, options};
use sekimori::filter::exact::Cache;
use sekimori::filter::{Clock, Datum, Failure, Who, record};
use sekimori::time::Time;
use serde_json::{Value, json};

fn folder() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("SEKIMORI_SAMPLES") {
        let named = PathBuf::from(named);
        assert!(named.is_dir(), "SEKIMORI_SAMPLES names no folder: {}", named.display());
        return Some(named);
    }
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/samples");
    beside.is_dir().then_some(beside)
}

fn compiled(call: &str, now: i64) -> record::Filter {
    let call = options::parse(&Text::new(call, None)).unwrap();
    let directory = Path::new("/etc/fail2ban");
    let (resolved, _) =
        filter::read(directory, Vec::new(), call.name.as_str(), call.arguments, "auto", Compat::default()).unwrap();
    let year = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::from_second(now).unwrap()).year();
    compile::compile(&resolved.settings(UseDns::No), date::Options::server(year as u16)).unwrap()
}

fn object(file: &str, line: usize, failure: &Failure) -> Value {
    let (id, kind) = match &failure.who {
        Who::Id(id) => (id.to_string(), if id.prefix().is_some() { "ip" } else { "str" }),
        Who::Name(name) => (name.to_string(), "dns"),
    };
    let value = |datum: &Datum| match datum {
        Datum::Text(text) => json!(&**text),
        Datum::Set(texts) => {
            let mut texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
            texts.sort_unstable();
            json!(texts)
        }
        Datum::Tuple(texts) => json!(texts.iter().map(Option::as_deref).collect::<Vec<_>>()),
    };
    let captures: serde_json::Map<String, Value> = failure
        .data
        .iter()
        .filter(|(name, _)| !matches!(&**name, "ip4" | "ip6" | "dns"))
        .map(|(name, datum)| (name.to_string(), value(datum)))
        .collect();
    let mut object = json!({
        "file": file, "line": line, "re": failure.regex, "id": id, "id_type": kind,
        "time": failure.time.map(Time::as_f64), "attempts": failure.matches.len(),
    });
    if !captures.is_empty() {
        object["f"] = captures.into();
    }
    if let Some(address) = &failure.address {
        object["ip"] = json!(address.to_string());
    }
    object
}

#[test]
fn real_logs_give_the_results_of_fail2ban() {
    let Some(folder) = folder() else {
        eprintln!("skipped: there is no ../shared/samples, and SEKIMORI_SAMPLES does not name a folder");
        return;
    };
    let (mut runs, mut results, mut wrong) = (0, 0, Vec::new());
    let sources = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    for source in sources.filter(|path| path.join("expected/1.0.2/_summary.json").is_file()) {
        let expected = source.join("expected/1.0.2");
        let summary: Value =
            serde_json::from_str(&std::fs::read_to_string(expected.join("_summary.json")).unwrap()).unwrap();
        let now = summary["now"].as_f64().unwrap() as i64;
        let clock = Clock { now: Time::from_seconds(now), zone: jiff::tz::TimeZone::UTC };
        let files: Vec<&str> =
            summary["files"].as_array().unwrap().iter().map(|file| file["file"].as_str().unwrap()).collect();
        let logs: Vec<Vec<u8>> =
            files.iter().map(|file| std::fs::read(source.join("logs").join(file)).unwrap()).collect();
        for call in summary["filters"].as_array().unwrap() {
            let call = call.as_str().unwrap();
            let filter = compiled(call, now);
            let mut wanted: HashMap<String, Vec<Value>> = HashMap::new();
            // a filter without any result has no file
            for line in std::fs::read_to_string(expected.join(format!("{call}.jsonl"))).unwrap_or_default().lines() {
                let mut object: Value = serde_json::from_str(line).unwrap();
                object["time"] = json!(object["time"].as_f64());
                wanted.entry(object["file"].as_str().unwrap().to_owned()).or_default().push(object);
            }
            for (file, log) in files.iter().zip(&logs) {
                let (mut state, mut cache) = (record::State::default(), Cache::default());
                let (mut found, mut failures) = (Vec::new(), Vec::new());
                let log = log.strip_suffix(b"\n").unwrap_or(log);
                for (at, line) in log.split(|byte| *byte == b'\n').enumerate() {
                    let end = line.iter().rposition(|byte| *byte != b'\r').map_or(0, |at| at + 1);
                    let text = String::from_utf8_lossy(&line[..end]);
                    filter.line(&mut state, &mut cache, &text, &clock, record::Options::default(), &mut failures);
                    found.extend(failures.drain(..).map(|failure| object(file, at + 1, &failure)));
                }
                runs += 1;
                results += found.len();
                let wanted = wanted.remove(*file).unwrap_or_default();
                if found != wanted {
                    let at =
                        found.iter().zip(&wanted).position(|(a, b)| a != b).unwrap_or(found.len().min(wanted.len()));
                    wrong.push(format!("{call} on {file}: {:?} instead of {:?}", found.get(at), wanted.get(at)));
                }
            }
        }
    }
    println!("{runs} runs of a filter over a file, {results} results, {} differ", wrong.len());
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(runs > 0 && results > 0, "nothing was compared in {}", folder.display());
}
