//! `sekimori regex`: what a filter finds in a log, without a server.
//!
//! So far only the machine-readable form: one JSON object for each failure that the server
//! would count.

use std::io::{BufRead as _, BufWriter, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use indexmap::IndexMap;

use crate::config::UseDns;
use crate::fail2ban::text::Text;
use crate::fail2ban::{compile, date, filter, options};
use crate::filter::exact::Cache;
use crate::filter::{Clock, Datum, Failure, Who, record};
use crate::line::MAX_LINE;
use crate::time::Time;

/// Wrong arguments, an unreadable filter or log, a bad expression.
const FAILED: u8 = 255;

#[derive(Parser, Debug)]
#[command(name = "sekimori regex", about = "Shows what a filter finds in a log")]
struct Arguments {
    /// Configuration directory
    #[arg(short = 'c', long = "config")]
    config: Option<PathBuf>,
    /// What to do with host names: yes, warn, no or raw
    #[arg(long, default_value = "warn")]
    usedns: String,
    /// One JSON object for each failure that a server would count
    #[arg(long, required = true)]
    json: bool,
    /// Judge years as if it were this time, in seconds since the epoch
    #[arg(long)]
    now: Option<i64>,
    /// The log file
    log: PathBuf,
    /// A filter, `NAME` or `NAME[option=value]`
    filter: String,
}

/// Runs the command; the first word is its name.
#[must_use]
pub fn main(words: &[String]) -> ExitCode {
    let arguments = match Arguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(error) => {
            // the terminal is gone, then there is nobody to tell
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("ERROR: {message}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let now = arguments.now.unwrap_or_else(|| jiff::Timestamp::now().as_second());
    let zone = jiff::tz::TimeZone::system();
    let moment = jiff::Timestamp::from_second(now).map_err(|error| format!("--now: {error}"))?;
    let year = u16::try_from(zone.to_datetime(moment).year()).unwrap_or(1970);
    let filter = load(arguments, year)?;
    let log = std::fs::File::open(&arguments.log)
        .map_err(|error| format!("cannot read `{}`: {error}", arguments.log.display()))?;
    let mut reader = std::io::BufReader::with_capacity(256 * 1024, log);
    let clock = Clock { now: Time::from_seconds(now), zone };
    let (mut state, mut cache) = (record::State::default(), Cache::default());
    let mut out = BufWriter::new(std::io::stdout().lock());
    let (mut bytes, mut failures, mut number) = (Vec::new(), Vec::new(), 0_u64);
    loop {
        bytes.clear();
        let limit = MAX_LINE as u64 + 1;
        let read = (&mut reader).take(limit).read_until(b'\n', &mut bytes).map_err(|error| error.to_string())?;
        if read == 0 {
            break;
        }
        number += 1;
        if !bytes.ends_with(b"\n") && bytes.len() > MAX_LINE {
            bytes.truncate(MAX_LINE);
            reader.skip_until(b'\n').map_err(|error| error.to_string())?;
            eprintln!("warning: line {number} is longer than {MAX_LINE} bytes; only its beginning is matched");
        }
        while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            bytes.pop();
        }
        let line = String::from_utf8_lossy(&bytes);
        filter.line(&mut state, &mut cache, &line, &clock, record::Options::default(), &mut failures);
        for failure in failures.drain(..) {
            if let Err(error) = writeln!(out, "{}", object(number, &failure)) {
                return if error.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error.to_string()) };
            }
        }
    }
    out.flush().map_err(|error| error.to_string())
}

fn load(arguments: &Arguments, year: u16) -> Result<record::Filter, String> {
    let directory = arguments.config.clone().unwrap_or_else(super::configuration::default_directory);
    let call = options::parse(&Text::new(&arguments.filter, None)).map_err(|error| error.to_string())?;
    let given: IndexMap<String, Text> = call.arguments;
    let (settings, _) = super::configuration::settings(&directory);
    let (resolved, _) = filter::read(
        &directory,
        super::configuration::vendor_layers(),
        call.name.as_str(),
        given,
        "auto",
        settings.compat,
    )
    .map_err(|found| found.iter().map(|one| one.text.clone()).collect::<Vec<_>>().join("; "))?;
    let usedns = match arguments.usedns.as_str() {
        "yes" => UseDns::Yes,
        "no" => UseDns::No,
        "raw" => UseDns::Raw,
        _ => UseDns::Warn,
    };
    let settings = resolved.settings(usedns);
    compile::compile(&settings, date::Options::tool(year))
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

/// One result: `line` from 1, `re` from 0, `id`, `time` in epoch seconds, `attempts`, the
/// captures `f`, and `ip` where it differs from the id.
fn object(line: u64, failure: &Failure) -> serde_json::Value {
    let (id, kind) = match &failure.who {
        Who::Id(id) => (id.to_string(), if id.prefix().is_some() { "ip" } else { "str" }),
        Who::Name(name) => (name.to_string(), "dns"),
    };
    let mut captures = serde_json::Map::new();
    for (name, datum) in &failure.data {
        if matches!(&**name, "ip4" | "ip6" | "dns" | "matches") {
            continue;
        }
        let value = match datum {
            Datum::Text(text) => serde_json::json!(&**text),
            Datum::Set(texts) => {
                let mut texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
                texts.sort_unstable();
                serde_json::json!(texts)
            }
            Datum::Tuple(texts) => serde_json::json!(texts.iter().map(Option::as_deref).collect::<Vec<_>>()),
        };
        captures.insert(name.to_string(), value);
    }
    let mut object = serde_json::json!({
        "line": line, "re": failure.regex, "id": id, "id_type": kind,
        "time": failure.time.map(Time::as_f64), "attempts": failure.matches.len().max(1),
    });
    if let Some(map) = object.as_object_mut() {
        if !captures.is_empty() {
            map.insert("f".to_owned(), captures.into());
        }
        if let Some(address) = &failure.address {
            map.insert("ip".to_owned(), address.to_string().into());
        }
    }
    object
}
